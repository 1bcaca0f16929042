/**
 * Contract: what a producer confirms is in the log, once, as it was sent.
 */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { ProducerRecord } from "@concurrent-kafka/core/KafkaProducer"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { assertInOrder, range, type Suite, valueOf } from "./kit.ts"

const utf8 = new TextEncoder()
const bytes = (...all: ReadonlyArray<number>): Uint8Array => Uint8Array.from(all)
const list = (value: Uint8Array | null) => (value === null ? null : [...value])

/** keys and their murmur2 in the upper 31 bits, as Kafka's own tests have them */
const hashes: ReadonlyArray<readonly [key: string, hash: number]> = [
  ["21", -973932308],
  ["foobar", -790332482],
  ["a-little-bit-long-string", -985981536],
  ["a-little-bit-longer-string", -1486304829],
  ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
  ["abc", 479470107]
]

const open = Effect.flatMap(KafkaClient, (client) => client.openProducer)

export const producer = <R>(suite: Suite<R>): void => {
  const { consume, fresh, harness, it, patience, quiet, topic: newTopic, until } = suite
  const timeout = patience * 2

  const readAll = (topic: string, count: number) =>
    Effect.gen(function* () {
      const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
      yield* until(`${count} records have come`, () => reader.records().length >= count)
      yield* quiet
      assertInOrder(reader)
      return reader.records()
    })
  const ofPartition = (records: ReadonlyArray<ConsumerRecord>, partition: number) =>
    records.filter((one) => one.partition === partition).map(valueOf)

  it.effect(
    "producer: records of a partition are stored once and in the order in which they were sent, over sends made at the same time",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(3, 0)
        const { send } = yield* open
        const exits = yield* Effect.forEach(
          range(0, 600),
          (i) =>
            send(
              range(0, 1 + (i % 3)).map((n) => ({ topic, partition: (i + n) % 3, value: utf8.encode(`${i}.${n}`) }))
            ),
          { concurrency: "unbounded" }
        )
        assert.isTrue(exits.every((stored) => stored))
        const records = yield* readAll(topic, 1_200)
        for (const partition of range(0, 3)) {
          const sent = range(0, 600).flatMap((i) =>
            range(0, 1 + (i % 3)).flatMap((n) => ((i + n) % 3 === partition ? [`${i}.${n}`] : []))
          )
          assert.deepStrictEqual(ofPartition(records, partition), sent)
        }
      }),
    timeout
  )

  it.effect(
    "producer: a key goes where Java's producer puts it, and records without a key go in turn",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(5, 0)
        const { send } = yield* open
        yield* send(hashes.map(([key]) => ({ topic, key: utf8.encode(key), value: utf8.encode(key) })))
        for (const _ of range(0, 4)) {
          yield* send(range(0, 5).map(() => ({ topic, value: utf8.encode("none") })))
        }
        yield* send([{ topic, key: bytes(), value: utf8.encode("empty") }])
        const records = yield* readAll(topic, hashes.length + 21)
        for (const [key, hash] of hashes) {
          const partition = (hash & 0x7fffffff) % 5
          assert.include(ofPartition(records, partition), key)
        }
        // an empty key is a key: 275646681 is the hash of no bytes
        assert.include(ofPartition(records, 275646681 % 5), "empty")
        for (const partition of range(0, 5)) {
          assert.strictEqual(ofPartition(records, partition).filter((value) => value === "none").length, 4)
        }
      }),
    timeout
  )

  it.effect(
    "producer: bytes come back as they were sent: null and empty, headers in their order, timestamps",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const { send } = yield* open
        const all = Uint8Array.from({ length: 256 }, (_, i) => i)
        const long = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7) % 251)
        const headers: NonNullable<ProducerRecord["headers"]> = [
          ["b", bytes(1)],
          ["a", bytes(2, 255)],
          ["b", bytes(1)],
          ["nothing", null],
          ["empty", bytes()],
          ["na\u00efve \u20ac", all],
          ["", bytes(0)]
        ]
        const sent: ReadonlyArray<ProducerRecord> = [
          { topic, key: null, value: null },
          { topic, key: bytes(), value: bytes(), headers: [] },
          { topic, key: all, value: all, headers, timestamp: 1_700_000_000_000n },
          { topic, value: bytes(1), timestamp: 1_600_000_000_000n },
          { topic, value: bytes(2), timestamp: 1_650_000_000_001n },
          ...[63, 64, 127, 128, 8_191, 8_192, 200_000].map((length) => ({
            topic,
            key: long(length),
            value: long(length)
          }))
        ].map((one) => ({ ...one, partition: 0 }))
        const before = BigInt(Date.now()) - 60_000n
        yield* send(sent)
        const records = yield* readAll(topic, sent.length)
        assert.strictEqual(records.length, sent.length)
        sent.forEach((one, i) => {
          const read = records[i]!
          assert.deepStrictEqual(list(read.key), list(one.key ?? null), `key ${i}`)
          assert.deepStrictEqual(list(read.value), list(one.value), `value ${i}`)
          assert.deepStrictEqual(
            read.headers.map(([name, value]) => [name, list(value)]),
            (one.headers ?? []).map(([name, value]) => [name, list(value)])
          )
          if (one.timestamp === undefined) assert.isTrue(read.timestamp > before, `timestamp ${i}`)
          else assert.strictEqual(read.timestamp, one.timestamp)
        })
      }),
    timeout
  )

  it.effect(
    "producer: no such topic and no such partition are refused after a while, what else was in the send is stored",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 0)
        const missing = yield* fresh("missing")
        const { send } = yield* open
        const value = utf8.encode("v")
        const error = yield* Effect.flip(
          send([
            { topic: missing, value },
            { topic, partition: 1, value },
            { topic, partition: 2, value }
          ])
        )
        assert.deepInclude(error, { reason: "refused", code: "UNKNOWN_TOPIC_OR_PARTITION", isRetryable: false })
        assert.deepStrictEqual(error.unconfirmed, [0, 2])
        assert.deepStrictEqual(ofPartition(yield* readAll(topic, 1), 1), ["v"])
      }),
    timeout
  )

  it.effect(
    "producer: a topic that is created while its records wait gets them in their order",
    () =>
      Effect.gen(function* () {
        const topic = yield* fresh("late")
        const { send } = yield* open
        const sending = yield* Effect.forkChild(
          Effect.forEach(range(0, 10), (i) => send([{ topic, partition: 0, value: utf8.encode(`${i}`) }]), {
            concurrency: "unbounded"
          })
        )
        yield* Effect.sleep(300)
        yield* harness.createTopic(topic, 1)
        yield* Fiber.join(sending)
        assert.deepStrictEqual(
          ofPartition(yield* readAll(topic, 10), 0),
          range(0, 10).map((i) => `${i}`)
        )
      }),
    timeout
  )

  it.effect(
    "producer: a record that is too large is refused, and the others are stored, of the same send and of others",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 0)
        const { send } = yield* open
        const record = (value: Uint8Array) => ({ topic, partition: 0, value })
        const other = (i: number) => record(utf8.encode(`${i}`))
        const [error, stored] = yield* Effect.all(
          [
            Effect.flip(send([other(0), other(1), record(new Uint8Array(1_200_000)), other(2)])),
            send([other(3), other(4)])
          ],
          { concurrency: "unbounded" }
        )
        assert.deepInclude(error, { reason: "refused", code: "MESSAGE_TOO_LARGE", isRetryable: false })
        assert.deepStrictEqual(error.unconfirmed, [2])
        assert.isTrue(stored)
        assert.deepStrictEqual(ofPartition(yield* readAll(topic, 5), 0), ["0", "1", "2", "3", "4"])
      }),
    timeout
  )

  it.effect(
    "producer: closing waits for what is under way; a closed one refuses",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 0)
        const scope = yield* Scope.fork(yield* Effect.scope)
        const { send } = yield* Scope.provide(open, scope)
        const value = utf8.encode("v")
        const sends = yield* Effect.forEach(range(0, 100), () =>
          Effect.forkChild(send([{ topic, value }]), { startImmediately: true })
        )
        yield* Scope.close(scope, Exit.void)
        for (const fiber of sends) assert.isTrue(yield* Fiber.join(fiber))
        const error = yield* Effect.flip(send([{ topic, value }]))
        assert.deepInclude(error, { reason: "closed", isRetryable: false })
        assert.strictEqual((yield* readAll(topic, 100)).length, 100)
      }),
    timeout
  )

  it.effect(
    "producer: a send of nothing succeeds",
    () =>
      Effect.gen(function* () {
        const { send } = yield* open
        assert.isTrue(yield* send([]))
      }),
    timeout
  )
}
