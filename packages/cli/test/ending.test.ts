import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { type Chunk, ConsumerSession, type EpochPartition, type Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import { ending } from "../src/internal/ending.ts"
import { from, turns } from "./support.ts"

const at = (epoch: number, partition = 0): EpochPartition => ({ topic: from, partition, epoch })

const record = (offset: bigint): ConsumerRecord => ({
  topic: from,
  partition: 0,
  offset,
  timestamp: 0n,
  key: null,
  value: null,
  headers: []
})

const chunk = (epoch: number, offsets: ReadonlyArray<bigint>, nextOffset: bigint): Chunk => ({
  _tag: "Chunk",
  ...at(epoch),
  records: offsets.map(record),
  nextOffset,
  end: 100n
})

/** A session that ends at 10, of a driver whose signals the test makes. */
const made = Effect.gen(function* () {
  const session = yield* ConsumerSession
  const signals = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
  const calls: Array<string> = []
  const note = (call: string) => (partitions: ReadonlyArray<EpochPartition>) => {
    for (const { epoch, partition } of partitions) calls.push(`${call} ${partition}/${epoch}`)
  }
  const own = yield* ending(
    {
      ...session,
      inbox: signals,
      beginUnsafe: note("begin"),
      pauseUnsafe: note("pause"),
      resumeUnsafe: note("resume")
    },
    () => 10n
  )
  const come = (signal: Signal) => Effect.andThen(Queue.offer(signals, signal), turns)
  const delivered = Effect.map(Queue.clear(own.inbox), (all) =>
    all.map((signal) =>
      signal._tag === "Chunk"
        ? `${signal.epoch}: ${signal.records.map(({ offset }) => offset).join()} -> ${signal.nextOffset}`
        : signal._tag
    )
  )
  return { own, signals, calls, come, delivered }
})

const onSession = Effect.provide(
  Layer.provide(ConsumerSession.layer({ groupId: "g", topics: [from] }), MemoryKafka.layer())
)

describe("a session that ends", () => {
  it.effect("delivers what lies before the end, and of a chunk that goes over it the part before it", () =>
    Effect.gen(function* () {
      const { calls, come, delivered, own } = yield* made
      own.beginUnsafe([{ ...at(1), offset: 0n }])
      yield* come(chunk(1, [0n, 1n, 7n], 8n))
      yield* come(chunk(1, [8n, 9n, 10n, 11n], 12n))
      assert.deepStrictEqual(yield* delivered, ["1: 0,1,7 -> 8", "1: 8,9 -> 10"])
      assert.deepStrictEqual(calls, ["begin 0/1", "pause 0/1"])
    }).pipe(onSession)
  )

  it.effect("passes the end where holes lie in front of it", () =>
    Effect.gen(function* () {
      const { come, delivered, own } = yield* made
      own.beginUnsafe([{ ...at(1), offset: 0n }])
      yield* come(chunk(1, [12n, 13n], 14n))
      assert.deepStrictEqual(yield* delivered, ["1:  -> 10"])
    }).pipe(onSession)
  )

  it.effect("delivers and fetches nothing more after the end, whoever resumes it", () =>
    Effect.gen(function* () {
      const { calls, come, delivered, own } = yield* made
      own.beginUnsafe([{ ...at(1), offset: 0n }])
      yield* come(chunk(1, [9n], 10n))
      yield* come(chunk(1, [10n, 11n], 12n))
      assert.deepStrictEqual(yield* delivered, ["1: 9 -> 10"])
      own.resumeUnsafe([at(1)])
      assert.deepStrictEqual(calls, ["begin 0/1", "pause 0/1"])
      own.beginUnsafe([{ ...at(2, 1), offset: 3n }])
      own.resumeUnsafe([at(1), at(2, 1)])
      assert.deepStrictEqual(calls.slice(2), ["begin 1/2", "resume 1/2"])
    }).pipe(onSession)
  )

  it.effect("a new epoch begins anew, and one at the end fetches nothing", () =>
    Effect.gen(function* () {
      const { calls, come, delivered, own } = yield* made
      own.beginUnsafe([{ ...at(1), offset: 0n }])
      yield* come(chunk(1, [9n], 10n))
      own.beginUnsafe([{ ...at(2), offset: 4n }])
      yield* come(chunk(2, [4n], 5n))
      own.beginUnsafe([{ ...at(3), offset: 10n }])
      yield* come(chunk(3, [10n], 11n))
      assert.deepStrictEqual(yield* delivered, ["1: 9 -> 10", "2: 4 -> 5"])
      assert.deepStrictEqual(calls, ["begin 0/1", "pause 0/1", "begin 0/2", "begin 0/3", "pause 0/3"])
    }).pipe(onSession)
  )

  it.effect("passes on every other signal in its place, and how the session ends", () =>
    Effect.gen(function* () {
      const { come, delivered, own, signals } = yield* made
      own.beginUnsafe([{ ...at(1), offset: 0n }])
      yield* come({ _tag: "Assigned", all: [] })
      yield* come(chunk(1, [1n], 2n))
      yield* come({ _tag: "Lost", partitions: [at(1)] })
      assert.deepStrictEqual(yield* delivered, ["Assigned", "1: 1 -> 2", "Lost"])
      const denied = new KafkaClientError({ reason: "Authorization", detail: "not allowed" })
      yield* Queue.fail(signals, denied)
      assert.strictEqual(yield* Effect.flip(Queue.take(own.inbox)), denied)
    }).pipe(onSession)
  )
})
