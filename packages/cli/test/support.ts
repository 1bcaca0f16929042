/** What the tests share: dead letters in a Kafka in memory, and a clock that goes on until an effect has ended. */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { type Cluster, MemoryKafka, type NewRecord } from "@concurrent-kafka/testing/MemoryKafka"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"

export const from = "orders.dead-letter"
export const to = "orders"

const bytes = (text: string) => new TextEncoder().encode(text)
export const text = (value: Uint8Array | null) => (value === null ? "" : new TextDecoder().decode(value))

/** Everything happens that needs no moving clock. */
export const turns: Effect.Effect<void> = Effect.gen(function* () {
  for (let i = 0; i < 150; i++) yield* Effect.yieldNow
})

export const passUntil = (what: string, isSo: () => boolean) =>
  Effect.gen(function* () {
    yield* turns
    for (let i = 0; i < 1_200 && !isSo(); i++) {
      yield* TestClock.adjust(100)
      yield* turns
    }
    assert.isTrue(isSo(), what)
  })

/** Moves the clock until it has ended. */
export const finish = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* passUntil("it ends", () => fiber.pollUnsafe() !== undefined)
    return yield* Fiber.join(fiber)
  })

/** Interrupts it and moves the clock until it has ended. */
export const cut = <A, E>(fiber: Fiber.Fiber<A, E>) => finish(Fiber.interrupt(fiber))

export interface Failed {
  readonly key?: string | null
  readonly value: string
  readonly topic?: string
  readonly partition?: number
  readonly offset?: bigint
  readonly error?: string
  readonly at?: number
  readonly headers?: ConsumerRecord["headers"]
}

/** A record as a consumer that gave it up has dead-lettered it. */
export const letterOf = ({
  at = 1_000,
  error = "ShipError",
  headers = [],
  key,
  offset,
  partition,
  topic,
  value
}: Failed): NewRecord => {
  const letter = DeadLetter.make({
    topic: from,
    record: {
      topic: topic ?? to,
      partition: partition ?? 0,
      offset: offset ?? 0n,
      timestamp: 5n,
      key: key === undefined || key === null ? null : bytes(key),
      value: bytes(value),
      headers
    },
    groupId: "shipping",
    attempts: 3,
    cause: Cause.fail({ _tag: error }),
    firstFailedAt: at - 500,
    lastFailedAt: at
  })
  return { key: letter.key, value: letter.value, headers: letter.headers }
}

export const prepare = (partitions = 3) =>
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka
    yield* kafka.createTopic(from, { partitions })
    yield* kafka.createTopic(to, { partitions: 4 })
    return kafka
  })

/** `count` records of `keys` keys; the value says the key and the place in its order. */
export const letters = (count: number, keys: number): ReadonlyArray<NewRecord> =>
  Array.from({ length: count }, (_, i) =>
    letterOf({ key: `k${i % keys}`, value: `k${i % keys}:${Math.floor(i / keys)}`, offset: BigInt(i) })
  )

export const stored = (kafka: Cluster, topic: string): ReadonlyArray<ConsumerRecord> =>
  Array.from({ length: topic === to ? 4 : 3 }, (_, partition) => kafka.recordsUnsafe(topic, partition)).flat()

export const values = (kafka: Cluster, topic: string) => stored(kafka, topic).map(({ value }) => text(value))

/** Records of each key in the order of their first appearance; what was sent twice counts where it came first. */
export const orders = (kafka: Cluster): ReadonlyMap<string, ReadonlyArray<number>> => {
  const found = new Map<string, Array<number>>()
  for (const value of values(kafka, to)) {
    const [key = "", n] = value.split(":")
    const seen = found.get(key) ?? []
    if (!seen.includes(Number(n))) seen.push(Number(n))
    found.set(key, seen)
  }
  return found
}

export const assertWholeAndInOrder = (kafka: Cluster, count: number, keys: number) => {
  const found = orders(kafka)
  assert.strictEqual(found.size, keys)
  for (let key = 0; key < keys; key++) {
    const expected = Array.from({ length: Math.ceil((count - key) / keys) }, (_, n) => n)
    assert.deepStrictEqual(found.get(`k${key}`), expected, `k${key}`)
  }
}
