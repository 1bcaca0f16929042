import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import { explain, type ExplainedMap, type ExplainOptions } from "../src/Explain.ts"
import { groupId, javaMap, logOf, nextOwner, ownMap, topic } from "./groups.ts"
import { finish, passUntil } from "./support.ts"

const on = Effect.provide(MemoryKafka.layer())
const ours: ExplainOptions = { groupId, topic }
const everybodys: ExplainOptions = { groupId, topic, offsetMap: "all" }

/** One partition of 40,100 offsets with this beside its committed one. */
const withMetadata = (offset: bigint, metadata: string, options: ExplainOptions) =>
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka
    yield* kafka.createTopic(topic)
    yield* kafka.produceMany({ topic, partition: 0 }, 40_100, () => ({ key: null, value: null }))
    yield* kafka.setCommitted(groupId, topic, 0, { offset, metadata })
    const { partitions } = yield* explain(options)
    return partitions[0]!
  }).pipe(on)

const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

describe("explain", () => {
  it.effect("says what is done behind the committed offset, what is not, and what would run again", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(2, 100)
      const metadata = ownMap(0, 10, [
        [12, 40],
        [41, 60]
      ])
      yield* kafka.setCommitted(groupId, topic, 0, { offset: 10n, metadata })
      yield* kafka.setCommitted(groupId, topic, 1, { offset: 100n })
      assert.deepStrictEqual(yield* explain(ours), {
        groupId,
        topic,
        offsetMap: "own",
        partitions: [
          {
            partition: 0,
            start: 0n,
            end: 100n,
            committed: 10n,
            begins: 10n,
            why: "committed",
            lag: 90,
            lost: 0,
            map: { _tag: "Used", writer: "own", until: 60n },
            done: 47,
            gapRanges: [
              [10n, 12n],
              [40n, 41n]
            ],
            gaps: 3,
            oldest: 10n,
            wouldRun: 43
          },
          {
            partition: 1,
            start: 0n,
            end: 100n,
            committed: 100n,
            begins: 100n,
            why: "committed",
            lag: 0,
            lost: 0,
            map: { _tag: "None" },
            done: 0,
            gapRanges: [],
            gaps: 0,
            oldest: undefined,
            wouldRun: 0
          }
        ],
        total: { lag: 90, lost: 0, done: 47, gaps: 3, gapRanges: 2, wouldRun: 43 }
      })
    }).pipe(on)
  )

  it.effect(
    "of a group that runs: what its last commit says; and when it was killed, the next one does what was said",
    () =>
      Effect.gen(function* () {
        const kafka = yield* logOf(1, 50)
        let handled = 0
        const stuck = Handler.make(topic, ({ offset }) =>
          offset === 3n || offset === 20n ? Effect.never : Effect.sync(() => void handled++)
        )
        const killed = kafka.client({ clientId: "killed" })
        yield* Effect.gen(function* () {
          const consumer = yield* ConcurrentConsumer
          yield* Effect.forkScoped(consumer.run(stuck))
          yield* passUntil("all but two have finished", () => handled === 48)
          yield* passUntil("and are committed", () => kafka.committedUnsafe(groupId, topic, 0)?.offset === 3n)
          const running = yield* explain(ours)
          assert.deepInclude(running.partitions[0], {
            committed: 3n,
            lag: 47,
            done: 45,
            gapRanges: [
              [3n, 4n],
              [20n, 21n]
            ],
            oldest: 3n,
            wouldRun: 2
          })
          yield* kafka.sessionUnsafe("killed").crash
          assert.deepStrictEqual(yield* explain(ours), running)
        }).pipe(
          Effect.provide(ConcurrentConsumer.layer({ groupId, topics: [topic] })),
          Effect.provideService(KafkaClient, killed),
          Effect.scoped
        )
        const { alreadyDone, ran } = yield* nextOwner(1, "own")
        assert.deepStrictEqual(ran, ["0:3", "0:20"])
        assert.strictEqual(alreadyDone, 45)
      }).pipe(on)
  )

  it.effect.prop(
    "a member that comes does what was said: whoever wrote the map, and whatever has become of the log",
    [
      Schema.Literals(["own", "all"]),
      Schema.Literals(["own", "java", "copied", "text", "none"]),
      int(0, 60),
      Schema.Array(int(1, 12)).check(Schema.isMaxLength(6)),
      Schema.Literals(["as it was", "cut at its start", "truncated"]),
      int(1, 60)
    ],
    ([offsetMap, writer, base, lengths, log, at]) =>
      Effect.gen(function* () {
        const kafka = yield* logOf(2, 60)
        const runs: Array<readonly [number, number]> = []
        let end = base
        for (const [i, length] of lengths.entries()) {
          if (i % 2 === 1) runs.push([end, end + length])
          end += length
        }
        const metadata = {
          own: ownMap(0, base, runs),
          java: javaMap(base, runs),
          copied: ownMap(0, base, runs, "another"),
          text: "host-7",
          none: ""
        }[writer]
        yield* kafka.setCommitted(groupId, topic, 0, { offset: BigInt(base), metadata })
        if (log === "cut at its start") yield* kafka.deleteRecordsBefore(topic, 0, BigInt(at))
        if (log === "truncated") yield* kafka.truncateTo(topic, 0, BigInt(at))
        const { partitions, total } = yield* explain({ groupId, topic, offsetMap })
        const { alreadyDone, ran } = yield* finish(nextOwner(2, offsetMap))
        const inFirst = ran.filter((where) => where.startsWith("0:")).map((where) => BigInt(where.slice(2)))
        assert.strictEqual(inFirst.length, partitions[0]!.wouldRun)
        assert.strictEqual(inFirst[0], partitions[0]!.oldest)
        const isInGap = (offset: bigint) => partitions[0]!.gapRanges.some(([from, to]) => from <= offset && offset < to)
        assert.strictEqual(inFirst.filter(isInGap).length, partitions[0]!.gaps)
        assert.strictEqual(ran.length, total.wouldRun)
        assert.strictEqual(alreadyDone, total.done)
      }).pipe(on),
    { arbitrary: { runs: 60 } }
  )

  it.effect.each<
    readonly [base: bigint, metadata: string, done: number, gapRanges: ReadonlyArray<readonly [bigint, bigint]>]
  >([
    [
      100n,
      "bAAGMgA=",
      3,
      [
        [100n, 101n],
        [102n, 104n]
      ]
    ],
    [
      100n,
      "bgABAAEAAgAC",
      3,
      [
        [100n, 101n],
        [102n, 104n]
      ]
    ],
    [
      100n,
      "bwAAAAYyAA==",
      3,
      [
        [100n, 101n],
        [102n, 104n]
      ]
    ],
    [
      100n,
      "ZQAAAAEAAAABAAAAAgAAAAI=",
      3,
      [
        [100n, 101n],
        [102n, 104n]
      ]
    ],
    [100n, "bAAGNwA=", 5, [[103n, 104n]]],
    [0n, "bgACAAE=", 1, [[0n, 2n]]],
    [0n, "ZQAAAAEAAJxA", 40_000, [[0n, 1n]]],
    [
      0n,
      "ZQAAAAEAAJw+AAAAAQAAAAE=",
      39_999,
      [
        [0n, 1n],
        [39_999n, 40_000n]
      ]
    ]
  ])(
    "of the Java Parallel Consumer at %d: %s is believed when asked to, and else said to be there",
    ([base, metadata, done, gapRanges]) =>
      Effect.gen(function* () {
        const lag = 40_100 - Number(base)
        const believed = yield* withMetadata(base, metadata, everybodys)
        assert.deepInclude(believed, { done, gapRanges, wouldRun: lag - done, oldest: gapRanges[0]![0] })
        const until = believed.gapRanges.at(-1)![1]
        assert.deepInclude(believed.map, { _tag: "Used", writer: "parallelConsumer" })
        assert.isTrue(believed.map._tag === "Used" && believed.map.until >= until)
        const byDefault = yield* withMetadata(base, metadata, ours)
        assert.deepInclude(byDefault, {
          done: 0,
          gapRanges: [],
          wouldRun: lag,
          oldest: base,
          map: { _tag: "NotUsed", writer: "parallelConsumer", why: "unchecked" }
        })
      })
  )

  it.effect("a map that calls the committed offset itself done has its oldest behind it", () =>
    Effect.gen(function* () {
      const found = yield* withMetadata(100n, "ZQAAAAAAAAADAAAAAQAAAAI=", everybodys)
      assert.deepInclude(found, { begins: 100n, oldest: 103n, gapRanges: [[103n, 104n]], done: 5 })
    })
  )

  it.effect.each<
    readonly [why: OffsetMap.Unusable, writer: ExplainedMap.Writer, offsetMap: "own" | "all", metadata: string]
  >([
    ["kafkaStreams", "kafkaStreams", "all", "AQAAAAAAAAAB"],
    ["kafkaStreams", "kafkaStreams", "own", "AgAAAAAAAAAB"],
    ["notBase64", "unknown", "own", '{"a":1}'],
    ["notBase64", "unknown", "all", "host-7"],
    ["unknownMagic", "unknown", "own", "Zm9v"],
    ["unsupported", "parallelConsumer", "all", "TAEAAQ=="],
    ["truncated", "unknown", "all", "WGFiYw=="],
    ["negative", "unknown", "all", "bgAB//8="],
    ["zstdMissing", "unknown", "own", Buffer.from("p not zstd").toString("base64")],
    ["tooLong", "unknown", "own", "A".repeat(70_000)],
    ["checkWrong", "own", "all", ownMap(0, 10, [[12, 20]], "elsewhere")],
    ["beyondEnd", "own", "own", ownMap(0, 10, [[12, 50_000]])],
    ["beyondEnd", "parallelConsumer", "all", javaMap(10, [[12, 50_000]])],
    ["beyondEnd", "parallelConsumer", "all", javaMap(10, [[12, 2_147_483_657]])]
  ])("metadata that is not used is named: %s, of %s, with offsetMap %s", ([why, writer, offsetMap, metadata]) =>
    Effect.gen(function* () {
      const found = yield* withMetadata(10n, metadata, { groupId, topic, offsetMap })
      assert.deepInclude(found, { done: 0, gapRanges: [], oldest: 10n, wouldRun: 40_090 })
      assert.deepStrictEqual(found.map, { _tag: "NotUsed", writer, why })
    })
  )

  it.effect.prop(
    "whatever another tool has written, an answer comes, and nothing of it is believed by chance",
    [Schema.String, Schema.Literals(["own", "all"])],
    ([text, offsetMap]) =>
      Effect.gen(function* () {
        const { done, gaps, lag, map, wouldRun } = yield* withMetadata(7n, text, { groupId, topic, offsetMap })
        assert.strictEqual(wouldRun, lag - done)
        assert.isAtMost(done + gaps, lag)
        if (offsetMap === "own") assert.notStrictEqual(map._tag, "Used")
      }),
    { arbitrary: { runs: 100 } }
  )

  it.effect("reads a compressed map with what the client's layer brings", () =>
    Effect.gen(function* () {
      const zstd: OffsetMap.Zstd = {
        compress: (bytes) => zstdCompressSync(bytes),
        decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
      }
      const runs = Array.from({ length: 4_000 }, (_, i) => [10 * i + 1, 10 * i + 9]).flat()
      const { metadata } = OffsetMap.encode({ topic, partition: 0, base: 0n, runs, limit: 4_096, zstd })
      const found = yield* Effect.provideService(withMetadata(0n, metadata, ours), OffsetMap.Zstd, zstd)
      assert.deepInclude(found, { done: 32_000, gaps: 7_999, wouldRun: 8_100 })
      const without = yield* withMetadata(0n, metadata, ours)
      assert.deepStrictEqual(without.map, { _tag: "NotUsed", writer: "unknown", why: "zstdMissing" })
    })
  )

  it.effect("offsets that no number of JavaScript holds are exact", () =>
    Effect.gen(function* () {
      const start = 9_007_199_254_740_993n
      const kafka = yield* logOf(1, 10, start)
      yield* kafka.setCommitted(groupId, topic, 0, { offset: start + 1n, metadata: javaMap(0, [[1, 3]]) })
      const { partitions } = yield* explain(everybodys)
      assert.deepInclude(partitions[0], {
        oldest: start + 1n,
        gapRanges: [[start + 1n, start + 2n]],
        lag: 9,
        wouldRun: 7
      })
    }).pipe(on)
  )

  it.effect("where retention has cut: what was lost, and the map from there on", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(1, 100)
      const metadata = ownMap(0, 10, [
        [12, 20],
        [30, 60]
      ])
      yield* kafka.setCommitted(groupId, topic, 0, { offset: 10n, metadata })
      yield* kafka.deleteRecordsBefore(topic, 0, 50n)
      const { partitions } = yield* explain(ours)
      // 10, 11 and 20 to 29
      assert.deepInclude(partitions[0], {
        why: "belowStart",
        begins: 50n,
        lost: 12,
        done: 10,
        gapRanges: [],
        oldest: 60n
      })
    }).pipe(on)
  )

  it.effect("where the log ends before what is committed it is read from its start, and says so", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(1, 100)
      yield* kafka.setCommitted(groupId, topic, 0, { offset: 90n, metadata: ownMap(0, 90, [[92, 95]]) })
      yield* kafka.truncateTo(topic, 0, 40n)
      const { partitions } = yield* explain(ours)
      assert.deepInclude(partitions[0], {
        why: "beyondEnd",
        begins: 0n,
        lag: 40,
        wouldRun: 40,
        map: { _tag: "NotUsed", writer: "own", why: "beyondEnd" }
      })
    }).pipe(on)
  )

  it.effect("reads only: no session is opened, nobody joins, nothing is committed", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(3, 10)
      yield* kafka.setCommitted(groupId, topic, 1, { offset: 4n, metadata: "host-7" })
      const { partitions } = yield* explain(ours)
      assert.deepStrictEqual(
        partitions.map(({ committed, lag, why }) => [committed, lag, why]),
        [
          [undefined, 10, "notCommitted"],
          [4n, 6, "committed"],
          [undefined, 10, "notCommitted"]
        ]
      )
      assert.deepStrictEqual(kafka.sessionsUnsafe(), [])
      assert.deepStrictEqual(kafka.groupUnsafe(groupId).members, [])
      assert.deepStrictEqual(kafka.commitsUnsafe(), [])
      assert.deepStrictEqual(kafka.committedUnsafe(groupId, topic, 1), { offset: 4n, metadata: "host-7" })
    }).pipe(on)
  )

  it.effect(
    "a topic that is not there, a group that has committed nothing of it, and a client that cannot be asked are told apart",
    () =>
      Effect.gen(function* () {
        const kafka = yield* logOf(1, 10)
        const failure = (options: ExplainOptions) =>
          Effect.map(Effect.flip(explain(options)), (error) =>
            error._tag === "ExplainError" ? [error.reason._tag, error.message] : [error._tag, error.message]
          )
        assert.deepStrictEqual(yield* failure({ groupId, topic: "nowhere" }), [
          "TopicMissing",
          "there is no topic nowhere"
        ])
        yield* kafka.createTopic("payments")
        yield* kafka.setCommitted(groupId, "payments", 0, { offset: 0n })
        assert.deepStrictEqual(yield* failure(ours), [
          "GroupUnknown",
          "the group shipping has committed nothing of orders: there is no such group, or it reads other topics"
        ])
        yield* kafka.brokerDown
        assert.deepStrictEqual(yield* failure(ours), ["Client", "Connection: the broker is down"])
        const off = { ...(yield* KafkaClient), enabled: false }
        assert.deepStrictEqual(yield* Effect.provideService(failure(ours), KafkaClient, off), [
          "Disabled",
          "Kafka is switched off (KAFKA_ENABLED=false)"
        ])
      }).pipe(on)
  )

  it.effect.each<readonly [Partial<Record<keyof ExplainOptions, unknown>>, string]>([
    [{ groupId: "" }, "groupId"],
    [{ topic: "" }, "topic"],
    [{ topic: "a b" }, "topic"],
    [{ offsetMap: "off" }, "offsetMap"]
  ])("options %o are refused by name", ([wrong, option]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(explain({ ...ours, ...wrong } as ExplainOptions))
      assert.deepInclude(error, { _tag: "InvalidOptions", option })
    }).pipe(on)
  )
})
