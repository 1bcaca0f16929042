/**
 * One group, taken in turns by the Java Parallel Consumer 0.5.3.3 and by this library: what each writes beside its offsets of records
 * that are done behind a gap is what the other one does not handle again.
 */
import { OffsetMap } from "@concurrent-kafka/core"
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import { inject } from "vitest"
import * as Kafka from "../kafka/kafka.ts"
import { refuseSkips } from "../kafka/skips.ts"
import * as ParallelConsumer from "../parallelConsumer/parallelConsumer.ts"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const java = await Effect.runPromise(Effect.result(ParallelConsumer.prepare))
if (java._tag === "Failure" && inject("own")) {
  refuseSkips("Parallel Consumer", java.failure)
  process.stdout.write(`Parallel Consumer: none, so the tests with it are skipped: ${java.failure.reason}.\n`)
}

const zstd: OffsetMap.Zstd = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
}

/** What is done of a partition: offsets `[from, to)`, ascending, apart from each other. */
type Done = ReadonlyArray<readonly [from: bigint, to: bigint]>

const asRuns = (done: ReadonlyArray<boolean>): Done => {
  const runs: Array<[bigint, bigint]> = []
  done.forEach((is, offset) => {
    if (!is) return
    const last = runs.at(-1)
    if (last?.[1] === BigInt(offset)) last[1]++
    else runs.push([BigInt(offset), BigInt(offset) + 1n])
  })
  return runs
}

/** As the group's commits say it, by partition. */
const doneBy = (commits: Outside.Commits, topic: string, trust: "own" | "all"): ReadonlyMap<number, Done> =>
  new Map(
    [...commits].map(([partition, { metadata, offset }]) => {
      const decoded = OffsetMap.decode(metadata, { topic, partition, base: offset, trust, zstd })
      assert.notStrictEqual(decoded._tag, "Unusable", `${partition}: ${metadata}`)
      const prefix: Done = offset === 0n ? [] : [[0n, offset]]
      return [partition, decoded._tag === "Map" ? [...prefix, ...OffsetMap.done(decoded.map)] : prefix]
    })
  )

/** The first byte of a map, as a letter. */
const formOf = (metadata: string): string => atob(metadata).slice(0, 1)

/** The same numbers in every run, without a pattern. */
const scattered = (i: number): number => {
  let hash = Math.imul(i + 1, 0x9e3779b1)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}

interface Pattern {
  readonly length: number
  readonly done: (offset: number) => boolean
}

const runsIn = ({ done, length }: Pattern): Done => asRuns(Array.from({ length }, (_, i) => done(i)))

const count = (done: Iterable<Done>): number => {
  let sum = 0n
  for (const runs of done) for (const [from, to] of runs) sum += to - from
  return Number(sum)
}

/** What a member has handled, by partition, each record once. */
const handledBy = (member: Members.Member): ReadonlyMap<number, Done> => {
  const all = new Map<number, Array<boolean>>()
  for (const { offset, partition } of member.read().handled) {
    let done = all.get(partition)
    if (done === undefined) all.set(partition, (done = []))
    assert.isUndefined(done[Number(offset)], `${partition}/${offset} was handled twice`)
    done[Number(offset)] = true
  }
  return new Map([...all].map(([partition, done]) => [partition, asRuns(done)]))
}

const byPartition = <A>(map: ReadonlyMap<number, A>): ReadonlyArray<readonly [number, A]> =>
  [...map].toSorted(([a], [b]) => a - b)

/** What fails in the first turn, when the Java library writes its maps; the last ones are as long as 16 bits cannot say. */
const failing: ReadonlyArray<Pattern> = [
  { length: 8, done: (i) => i !== 2 && i !== 4 && i !== 5 },
  { length: 300, done: (i) => i !== 10 },
  { length: 60, done: () => true },
  { length: 2000, done: (i) => scattered(i) % 2 === 0 },
  { length: 1700, done: (i) => i % 2 === 1 },
  { length: 4500, done: (i) => i > 0 && (i < 3000 || scattered(i) % 2 === 0) },
  { length: 33_000, done: (i) => i !== 0 && i !== 32_990 },
  { length: 34_000, done: (i) => i > 0 && (i < 33_000 || scattered(i) % 2 === 0) }
]

/** What is done of the same partitions when a map of ours is written; `base` was committed. */
const ours: ReadonlyArray<Pattern & { readonly base: number }> = [
  { length: 8, base: 1, done: (i) => i === 2 || i === 4 },
  { length: 300, base: 0, done: (i) => i > 0 && i < 290 },
  { length: 60, base: 30, done: () => false },
  { length: 2000, base: 100, done: (i) => i > 100 && i < 1990 && scattered(i) % 2 === 0 },
  { length: 1700, base: 0, done: (i) => i > 0 && (i < 1000 || scattered(i) % 2 === 0) },
  { length: 4500, base: 5, done: (i) => i % 50 > 5 },
  { length: 33_000, base: 0, done: (i) => i > 0 && scattered(i) % 2 === 0 },
  { length: 34_000, base: 0, done: (i) => i > 0 && i < 33_990 && (i < 33_000 || scattered(i) % 2 === 0) }
]

/** A Kafka that takes longer maps than by default, so that a bit set of more than 32,767 offsets fits. */
class Fixture extends Context.Service<
  Fixture,
  {
    readonly brokers: ReadonlyArray<string>
    readonly outside: Outside.Outside
    readonly java: ParallelConsumer.Java
    readonly folder: string
    /** with the records of `failing` */
    readonly topic: string
  }
>()("test/integration/parallelConsumer") {
  static readonly layer = Layer.effect(
    Fixture,
    Effect.gen(function* () {
      const { brokers } = yield* Kafka.start({ own: true, properties: { "offset.metadata.max.bytes": "16384" } })
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("maps")
      yield* outside.createTopic(topic, failing.length)
      const records = failing.flatMap(({ done, length }, partition) =>
        Array.from({ length }, (_, i) => ({ value: done(i) ? "quick" : "fail 1", partition }))
      )
      for (let i = 0; i < records.length; i += 10_000) yield* outside.send(topic, records.slice(i, i + 10_000))
      return { brokers, outside, java: yield* ParallelConsumer.prepare, folder: yield* Members.folder, topic }
    })
  )
}

describe.runIf(inject("own") && java._tag === "Success")("the Java Parallel Consumer", () => {
  layer(Fixture.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect(
      "writes maps that are read as what it has handled, in each of its forms",
      () =>
        Effect.gen(function* () {
          const { brokers, folder, java, outside, topic } = yield* Fixture
          const groupId = `${topic}-java`
          const expected = new Map(failing.map((pattern, partition) => [partition, runsIn(pattern)]))
          const member = yield* ParallelConsumer.start(java, folder, {
            brokers,
            topic,
            groupId,
            ordering: "UNORDERED",
            concurrency: 20,
            turn: 0
          })
          yield* until(
            "everything is handled that does not fail",
            Effect.sync(() => member.read().handled.length),
            (handled) => handled >= count(expected.values())
          )
          yield* member.terminate
          const commits = yield* outside.commits(groupId, topic)
          assert.deepStrictEqual(byPartition(handledBy(member)), byPartition(expected))
          assert.deepStrictEqual(byPartition(doneBy(commits, topic, "all")), byPartition(expected))
          const forms = byPartition(commits).map(([, { metadata }]) => formOf(metadata))
          assert.deepStrictEqual(forms, ["l", "n", "", "l", "J", "a", "e", "s"])
        }).pipe(Effect.scoped),
      60_000
    )

    it.effect(
      "handles what our maps do not call done and nothing else, whichever form they have",
      () =>
        Effect.gen(function* () {
          const { brokers, folder, java, outside, topic } = yield* Fixture
          const groupId = `${topic}-ours`
          const commits = ours.map(({ base, done, length }, partition) => {
            const runs = runsIn({ length: length - base, done: (i) => done(base + i) })
            const place = { topic, partition, base: BigInt(base) }
            const { cut, metadata } = OffsetMap.encode({ ...place, runs: runs.flat().map(Number), limit: 16_384, zstd })
            assert.isFalse(cut)
            return { partition, offset: BigInt(base), metadata }
          })
          const forms = commits.map(({ metadata }) => formOf(metadata))
          assert.deepStrictEqual(forms, ["l", "e", "", "l", "a", "p", "o", "s"])
          yield* ParallelConsumer.commit(java, { brokers, topic, groupId }, commits)
          const member = yield* ParallelConsumer.start(java, folder, {
            brokers,
            topic,
            groupId,
            ordering: "UNORDERED",
            concurrency: 20,
            turn: 1
          })
          const ends = yield* outside.ends(topic)
          yield* until("everything is committed", outside.committed(groupId, topic), (now) => Outside.same(now, ends))
          yield* member.terminate
          const expected = ours.map(
            ({ base, done, length }, partition) =>
              [partition, runsIn({ length, done: (i) => i >= base && !done(i) })] as const
          )
          assert.deepStrictEqual(byPartition(handledBy(member)), expected)
        }).pipe(Effect.scoped),
      60_000
    )
  })
})
