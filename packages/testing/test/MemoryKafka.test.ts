import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import { TestClock } from "effect/testing"
import { advance, cluster, fill, member, settings, turns } from "./support.ts"

const offsets = (records: ReadonlyArray<{ readonly offset: bigint }>) => records.map((one) => Number(one.offset))
const dies = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(effect), (exit) =>
    assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons[0]!._tag === "Die")
  )

describe("MemoryKafka", () => {
  it.effect("needs no moving clock to bring records and to take commits, nor to close", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t")
      yield* kafka.produce("t", [{ value: "a" }, { value: "b" }])
      const session = yield* (yield* KafkaClient).openSession(settings)
      yield* session.join
      const assigned = yield* Queue.take(session.inbox)
      assert.strictEqual(assigned._tag, "Assigned")
      if (assigned._tag !== "Assigned") return
      session.beginUnsafe(assigned.all.map((p) => ({ ...p, offset: 0n })))
      const chunk = yield* Queue.take(session.inbox)
      assert.strictEqual(chunk._tag === "Chunk" ? chunk.records.length : 0, 2)
      const [outcome] = yield* session.commit([{ ...assigned.all[0]!, offset: 2n, metadata: "m" }])
      assert.strictEqual(outcome!.outcome, "committed")
      yield* kafka.produce("t", [{ value: "c" }])
      assert.strictEqual((yield* Queue.take(session.inbox))._tag, "Chunk")
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("several clients of one cluster are several processes", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t", { partitions: 2 })
      const open = Effect.flatMap(KafkaClient, (client) => client.openSession(settings))
      const first = yield* open
      const second = yield* Effect.provide(
        open,
        MemoryKafka.layerClient({ clientId: "other" }).pipe(Layer.provide(Layer.succeed(MemoryKafka, kafka)))
      )
      yield* first.join
      yield* second.join
      // nobody reads the first one: its hold ends by itself
      yield* advance(3_100 + 10_000)
      assert.deepStrictEqual(
        kafka.groupUnsafe("g").members.map((one) => one.clientId),
        ["client", "other"]
      )
      assert.deepStrictEqual(
        kafka.sessionsUnsafe().map((one) => one.id),
        ["client/1", "other/2"]
      )
      assert.strictEqual(kafka.controlUnsafe(second), kafka.sessionUnsafe("other"))
      assert.strictEqual(kafka.sessionUnsafe("other").heldUnsafe().length, 1)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )

  it.effect("puts a key where Java's producer puts it, records without a key in turn, and others where they say", () =>
    cluster({ partitions: 3 }, (kafka) =>
      Effect.gen(function* () {
        const keyed = yield* kafka.produce(
          "t",
          ["21", "foobar", "21"].map((key) => ({ key, value: "v" }))
        )
        // (murmur2 & 0x7fffffff) % 3
        assert.deepStrictEqual(
          keyed.map((one) => one.partition),
          [(-973932308 & 0x7fffffff) % 3, (-790332482 & 0x7fffffff) % 3, (-973932308 & 0x7fffffff) % 3]
        )
        const inTurn = yield* kafka.produce("t", [{ value: "1" }, { value: "2" }, { value: "3" }, { value: "4" }])
        assert.deepStrictEqual(
          inTurn.map((one) => one.partition),
          [0, 1, 2, 0]
        )
        const [named] = yield* kafka.produce("t", [{ partition: 2, key: "21" }])
        assert.strictEqual(named!.partition, 2)
      })
    )
  )

  it.effect("records keep what they were given, with the cluster's clock where they say no time", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* TestClock.adjust(1_234)
        yield* kafka.produce("t", [
          {
            key: "k",
            value: "v",
            headers: [
              ["h", "x"],
              ["h", null],
              ["g", Uint8Array.of(1)]
            ]
          },
          { timestamp: -1 }
        ])
        const [first, second] = kafka.recordsUnsafe("t", 0)
        const text = new TextDecoder()
        assert.deepStrictEqual(
          [
            text.decode(first!.key!),
            text.decode(first!.value!),
            first!.timestamp,
            first!.headers.map(([name]) => name)
          ],
          ["k", "v", 1_234n, ["h", "h", "g"]]
        )
        assert.deepStrictEqual([second!.key, second!.value, second!.timestamp, second!.headers], [null, null, -1n, []])
      })
    )
  )

  it.effect(
    "transactions: two at once, over several partitions, and the last stable offset is the first open record",
    () =>
      cluster({ partitions: 2 }, (kafka) =>
        Effect.gen(function* () {
          const a = yield* member(kafka, "a")
          const first = yield* kafka.transaction
          const second = yield* kafka.transaction
          yield* first.produce("t", [
            { partition: 0, value: "first" },
            { partition: 1, value: "first" }
          ])
          yield* second.produce("t", [{ partition: 0, value: "second" }])
          yield* kafka.produce("t", [{ partition: 0, value: "plain" }])
          yield* turns
          assert.deepStrictEqual(a.values(), [])
          assert.strictEqual(kafka.logOffsetsUnsafe("t", 0).end, 0n)
          assert.strictEqual(kafka.logOffsetsUnsafe("t", 0, "read_uncommitted").end, 3n)
          yield* first.abort
          yield* turns
          assert.strictEqual(a.chunks("t", 0).at(-1)!.nextOffset, 1n)
          assert.strictEqual(a.chunks("t", 1).at(-1)!.nextOffset, 2n)
          yield* second.commit
          yield* turns
          assert.deepStrictEqual(a.values(), ["second", "plain"])
          assert.strictEqual(a.chunks("t", 0).at(-1)!.nextOffset, 5n)
          yield* dies(first.commit)
          yield* dies(second.produce("t", [{}]))
          yield* kafka.appendMarker("t", 0)
          yield* turns
          assert.deepStrictEqual(
            [a.chunks("t", 0).at(-1)!.records.length, a.chunks("t", 0).at(-1)!.nextOffset],
            [0, 6n]
          )
        })
      )
  )

  it.effect("a compacted topic keeps the newest of each key, and wants keys", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* kafka.createTopic("c", { compaction: true })
        yield* kafka.produce("c", [
          { key: "a", value: "1" },
          { key: "b", value: "2" },
          { key: "a", value: "3" }
        ])
        yield* kafka.compact("c")
        assert.deepStrictEqual(offsets(kafka.recordsUnsafe("c", 0)), [1, 2])
        yield* kafka.produce("c", [{ key: "a", value: null }])
        yield* kafka.compact("c", { tombstones: true })
        assert.deepStrictEqual(offsets(kafka.recordsUnsafe("c", 0)), [1])
        yield* dies(kafka.produce("c", [{ value: "no key" }]))
        yield* dies(kafka.compact("t"))
      })
    )
  )

  it.effect("an unclean leader election: a reader beyond the new end stops until it is reopened", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 10)
        yield* turns
        yield* kafka.truncateTo("t", 0, 4n)
        yield* advance(200)
        assert.strictEqual(a.of("OutOfRange").length, 0, "the long poll has not ended")
        yield* advance(100)
        const [out] = a.of("OutOfRange")
        assert.deepStrictEqual([out!.position, out!.start, out!.end], [10n, 0n, 4n])
        yield* fill(kafka, 0, 20)
        yield* advance(1_000)
        assert.strictEqual(a.records().length, 10)
        const now = a.session.reopenUnsafe(out!)
        a.session.beginUnsafe([{ ...now!, offset: 4n }])
        yield* turns
        assert.strictEqual(a.records().length, 30)
        assert.strictEqual(a.records()[10]!.offset, 4n)
      })
    )
  )

  it.effect("offsets beyond what a double can hold", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const start = 2n ** 53n + 1n
        yield* kafka.createTopic("big", { startOffset: start })
        yield* kafka.produce("big", [{ value: "1" }, { value: "2" }])
        const a = yield* member(kafka, "a", { settings: { topics: ["big"] }, start: () => start })
        assert.deepStrictEqual(
          a.records().map((one) => one.offset),
          [start, start + 1n]
        )
        yield* a.session.commit([{ ...a.partition("big", 0), offset: start + 1n, metadata: "" }])
        assert.strictEqual(kafka.committedUnsafe("g", "big", 0)!.offset, start + 1n)
      })
    )
  )

  it.effect("chunks are at most as large as asked for, and every partition gets its turn", () =>
    cluster({ partitions: 4, maxChunk: 10, maxFetchRecords: 15 }, (kafka) =>
      Effect.gen(function* () {
        for (let partition = 0; partition < 4; partition++) yield* fill(kafka, partition, 40)
        const a = yield* member(kafka, "a")
        yield* turns
        assert.strictEqual(a.records().length, 160)
        assert.isTrue(a.of("Chunk").every((chunk) => chunk.records.length <= 10))
        const order = a.of("Chunk").map((chunk) => chunk.partition)
        assert.strictEqual(new Set(order.slice(0, 6)).size, 4)
      })
    )
  )

  it.effect("a fetch that is under way brings one chunk after a pause, and no second one", () =>
    cluster({ maxChunk: 5, fetchLatency: 10 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 100)
        yield* advance(15, 5)
        const before = a.records().length
        a.session.pauseUnsafe([a.partition("t", 0)])
        yield* advance(200, 5)
        assert.strictEqual(a.records().length, before + 5)
        a.session.resumeUnsafe([a.partition("t", 0)])
        yield* advance(400, 5)
        assert.strictEqual(a.records().length, 100)
      })
    )
  )

  it.effect("what is fetched for an epoch that has ended meanwhile never arrives", () =>
    cluster({ fetchLatency: 10 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 5)
        const now = a.session.reopenUnsafe(a.partition("t", 0))
        yield* advance(100, 5)
        assert.strictEqual(a.records().length, 0)
        a.session.beginUnsafe([{ ...now!, offset: 3n }])
        yield* advance(100, 5)
        assert.deepStrictEqual(offsets(a.records()), [3, 4])
      })
    )
  )

  it.effect("a static member is refused: there is none here", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(kafka.client().openSession({ ...settings, instanceId: "pod-1" }))
        assert.strictEqual(error.reason, "UnsupportedClient")
        assert.include(error.detail, "instanceId")
      }).pipe(Effect.scoped)
    )
  )

  it.effect("misuse by the test is a defect that names it", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* dies(kafka.produce("missing", [{}]))
        yield* dies(kafka.createTopic("t"))
        yield* dies(kafka.createTopic("u", { partitions: 0 }))
        yield* dies(kafka.addPartitions("t", 1))
        yield* dies(kafka.produce("t", [{ partition: 7 }]))
        assert.throws(() => kafka.sessionUnsafe("nobody"), /nobody/)
      })
    )
  )

  it.live("a million records in a short time", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t", { partitions: 4 })
      const value = new Uint8Array(100)
      for (let partition = 0; partition < 4; partition++) {
        yield* kafka.produceMany({ topic: "t", partition }, 250_000, () => ({ key: null, value }))
      }
      const session = yield* (yield* KafkaClient).openSession(settings)
      yield* session.join
      const assigned = yield* Queue.take(session.inbox)
      if (assigned._tag !== "Assigned") return assert.fail(assigned._tag)
      session.beginUnsafe(assigned.all.map((p) => ({ ...p, offset: 0n })))
      let count = 0
      while (count < 1_000_000) {
        for (const signal of yield* Queue.takeAll(session.inbox)) {
          if (signal._tag === "Chunk") count += signal.records.length
        }
      }
      assert.strictEqual(count, 1_000_000)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})
