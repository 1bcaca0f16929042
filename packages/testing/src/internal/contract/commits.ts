/**
 * Contract: what a commit does, and what it says about it.
 */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { range, type Suite } from "./kit.ts"

/** So many partitions take a real broker some seconds: all who run this on it use the same ones, which stay empty. */
const thousand = "contract-thousand-partitions"

export const commits = <R>(suite: Suite<R>): void => {
  const { consume, fresh, harness, it, patience, quiet, topic: newTopic, until } = suite
  const timeout = patience * 2

  it.effect(
    "stores offset and metadata, and the next session is told both",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 5)
        const group = yield* fresh("group")
        const metadata = "m\u00e9ta-\u{1f600}"
        yield* Effect.scoped(
          Effect.gen(function* () {
            const first = yield* consume({ groupId: group, topics: [topic] })
            yield* until("assigned", () => first.held.size === 2)
            for (const partition of first.held.values()) {
              assert.isUndefined(partition.committed)
              assert.isFalse(partition.topicCommitted)
              assert.isFalse(partition.retained)
            }
            const outcomes = yield* first.session.commit([{ ...first.partition(topic, 0), offset: 3n, metadata }])
            assert.deepStrictEqual(outcomes, [
              { topic, partition: 0, epoch: first.partition(topic, 0).epoch, outcome: "committed" }
            ])
            assert.deepStrictEqual(yield* harness.committed(group, topic, 0), { offset: 3n, metadata })
          })
        )
        const second = yield* consume({ groupId: group, topics: [topic] })
        yield* until("assigned", () => second.held.size === 2)
        assert.deepStrictEqual(second.partition(topic, 0).committed, { offset: 3n, metadata })
        assert.isUndefined(second.partition(topic, 1).committed)
        for (const partition of second.held.values()) assert.isTrue(partition.topicCommitted)
        yield* until("the rest has come", () => second.records().length === 7)
        assert.strictEqual(second.chunks(topic, 0)[0]!.records[0]!.offset, 3n)
      }),
    timeout
  )

  it.effect(
    "answers each entry in the order of the entries, and one refused entry does not take the others with it",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(3, 5)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [topic] })
        yield* until("assigned", () => reader.held.size === 3)
        const { commit } = reader.session
        const outcomes = yield* commit([
          { ...reader.partition(topic, 2), offset: 2n, metadata: "" },
          { ...reader.partition(topic, 0), offset: 1n, metadata: "x".repeat(5_000) },
          {
            ...reader.partition(topic, 1),
            epoch: reader.partition(topic, 1).epoch - 1_000_000,
            offset: 4n,
            metadata: ""
          }
        ])
        assert.deepStrictEqual(
          outcomes.map((one) => one.partition),
          [2, 0, 1]
        )
        assert.deepStrictEqual(
          outcomes.slice(1).map((one) => [one.outcome, "code" in one ? one.code : ""]),
          [
            ["rejected", "OFFSET_METADATA_TOO_LARGE"],
            ["stale", "EPOCH"]
          ]
        )
        if (reader.session.capabilities.perPartitionCommitResult) assert.strictEqual(outcomes[0]!.outcome, "committed")
        assert.deepStrictEqual(yield* harness.committed(group, topic, 2), { offset: 2n, metadata: "" })
        assert.isUndefined(yield* harness.committed(group, topic, 0))
        assert.isUndefined(yield* harness.committed(group, topic, 1))
        assert.deepStrictEqual(yield* commit([]), [])
      }),
    timeout
  )

  it.effect(
    "never commits by itself",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 100)
        const group = yield* fresh("group")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const reader = yield* consume({ groupId: group, topics: [topic] })
            yield* until("all have come", () => reader.records().length === 100)
            yield* quiet
            yield* reader.session.leave
          })
        )
        assert.isUndefined(yield* harness.committed(group, topic, 0))
      }),
    timeout
  )

  it.effect(
    "two groups do not know of each other",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 10)
        const [a, b] = [yield* fresh("group"), yield* fresh("group")]
        const first = yield* consume({ groupId: a, topics: [topic] })
        const second = yield* consume({ groupId: b, topics: [topic] })
        yield* until("both have all", () => first.records().length === 20 && second.records().length === 20)
        yield* first.session.commit([{ ...first.partition(topic, 0), offset: 10n, metadata: "a" }])
        yield* second.session.commit([{ ...second.partition(topic, 0), offset: 4n, metadata: "b" }])
        assert.deepStrictEqual(yield* harness.committed(a, topic, 0), { offset: 10n, metadata: "a" })
        assert.deepStrictEqual(yield* harness.committed(b, topic, 0), { offset: 4n, metadata: "b" })
        assert.strictEqual(first.of("Revoking").length, 0)
      }),
    timeout
  )

  it.effect(
    "answers the questions of an admin: partitions, committed offsets, ends of the log",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(2, 10)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [topic] })
        yield* until("assigned", () => reader.held.size === 2)
        yield* reader.session.commit([{ ...reader.partition(topic, 1), offset: 6n, metadata: "m" }])
        const both = [
          { topic, partition: 0 },
          { topic, partition: 1 }
        ]
        const admin = yield* (yield* KafkaClient).openAdmin
        const partitions = yield* admin.partitions([topic, `${topic}-missing`])
        assert.deepStrictEqual(
          [...partitions].sort((x, y) => x.partition - y.partition).map((one) => [one.topic, one.partition]),
          both.map((one) => [one.topic, one.partition])
        )
        assert.deepStrictEqual(
          (yield* admin.committed(group, both)).map(({ metadata, offset, partition }) => ({
            partition,
            offset,
            metadata
          })),
          [{ partition: 1, offset: 6n, metadata: "m" }]
        )
        for (const ends of [yield* admin.logOffsets(both), yield* reader.session.logOffsets(both)]) {
          assert.deepStrictEqual(
            [...ends].sort((x, y) => x.partition - y.partition).map((one) => [one.partition, one.start, one.end]),
            [
              [0, 0n, 10n],
              [1, 0n, 10n]
            ]
          )
        }
      }),
    timeout
  )

  it.effect(
    "a thousand partitions with offset maps: committed in requests of what a broker takes, and told to the next session whole",
    () =>
      Effect.gen(function* () {
        const topic = thousand
        yield* harness.createTopic(topic, 1_000)
        const group = yield* fresh("group")
        const settings = { groupId: group, topics: [topic] }
        const runsOf = (partition: number) => range(0, 600).map((i) => (i + 1) * (2 + (partition % 40)))
        const identity = (partition: number) => ({ topic, partition, base: BigInt(partition) })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const first = yield* consume(settings, { start: () => undefined })
            yield* until("assigned", () => first.held.size === 1_000)
            const entries = [...first.held.values()].map((own) => ({
              ...own,
              offset: BigInt(own.partition),
              metadata: OffsetMap.encode({ ...identity(own.partition), runs: runsOf(own.partition), limit: 4_096 })
                .metadata
            }))
            assert.isTrue(entries.every(({ metadata }) => metadata.length > 100))
            for (const i of range(0, 10)) {
              const outcomes = yield* first.session.commit(entries.slice(i * 100, i * 100 + 100))
              assert.deepStrictEqual([...new Set(outcomes.map((one) => one.outcome))], ["committed"])
            }
          })
        )
        const second = yield* consume(settings, { start: () => undefined })
        yield* until("assigned", () => second.held.size === 1_000)
        for (const { committed, partition } of second.held.values()) {
          assert.strictEqual(committed?.offset, BigInt(partition))
          const decoded = OffsetMap.decode(committed!.metadata, { ...identity(partition), trust: "own" })
          assert.deepStrictEqual(decoded._tag === "Map" && decoded.map.runs, runsOf(partition))
        }
      }),
    timeout
  )

  it.effect(
    "what is more than a broker can store at once is refused for every entry, and taken in two halves",
    () =>
      Effect.gen(function* () {
        yield* harness.createTopic(thousand, 1_000)
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [thousand] }, { start: () => undefined })
        yield* until("assigned", () => reader.held.size === 1_000)
        // 1.2 MB; a batch of the offsets topic has 1 MiB
        const entries = range(0, 300).map((partition) => ({
          ...reader.partition(thousand, partition),
          offset: 1n,
          metadata: `${partition}`.padEnd(4_000, "m")
        }))
        // in one of the two ways in which brokers say it, and after which the engine halves a request
        for (const refused of yield* reader.session.commit(entries)) {
          assert.include(
            ["retriable UNKNOWN_SERVER_ERROR", "rejected REQUEST_TOO_LARGE"],
            `${refused.outcome} ${"code" in refused ? refused.code : ""}`
          )
        }
        for (const partition of [0, 299]) assert.isUndefined(yield* harness.committed(group, thousand, partition))
        for (const half of [entries.slice(0, 150), entries.slice(150)]) {
          const outcomes = yield* reader.session.commit(half)
          assert.isTrue(outcomes.every(({ outcome }) => outcome === "committed"))
        }
        for (const partition of [0, 299]) {
          assert.strictEqual((yield* harness.committed(group, thousand, partition))?.offset, 1n)
        }
      }),
    timeout
  )
}
