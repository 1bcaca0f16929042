/**
 * One group, taken in turns by the Java Parallel Consumer 0.5.3.3 and by this library: what each writes beside its offsets of records
 * that are done behind a gap is what the other one does not handle again.
 */
import { ConcurrentConsumer, Handler, OffsetMap } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Layer, Logger } from "effect"
import { inject } from "vitest"
import * as Kafka from "../kafka/kafka.ts"
import { refuseSkips } from "../kafka/skips.ts"
import * as Done from "../parallelConsumer/done.ts"
import * as ParallelConsumer from "../parallelConsumer/parallelConsumer.ts"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const java = await Effect.runPromise(Effect.result(ParallelConsumer.prepare))
if (java._tag === "Failure" && inject("own")) {
  refuseSkips("Parallel Consumer", java.failure)
  process.stdout.write(`Parallel Consumer: none, so the tests with it are skipped: ${java.failure.reason}.\n`)
}

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

/** What does not fail when the Java library writes its maps; the last ones are longer than 16 bits can say. */
const theirs: ReadonlyArray<Pattern> = [
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

const longest = 16_384

/** A Kafka that takes longer maps than by default, so that a bit set of more than 32,767 offsets fits. */
class Fixture extends Context.Service<
  Fixture,
  {
    readonly brokers: ReadonlyArray<string>
    readonly outside: Outside.Outside
    readonly java: ParallelConsumer.Java
    readonly folder: string
    /** with the records of `theirs` */
    readonly topic: string
    /** what the Java library has handled of it, and left in the group of the same name */
    readonly handled: ReadonlyMap<number, Done.Done>
    readonly commits: Outside.Commits
  }
>()("test/integration/parallelConsumer") {
  static readonly layer = Layer.effect(
    Fixture,
    Effect.gen(function* () {
      const { brokers } = yield* Kafka.start({
        own: true,
        properties: { "offset.metadata.max.bytes": String(longest) }
      })
      const outside = yield* Outside.connect(brokers)
      const java = yield* ParallelConsumer.prepare
      const folder = yield* Members.folder
      const topic = Outside.fresh("maps")
      yield* outside.createTopic(topic, theirs.length)
      const records = theirs.flatMap(({ done, length }, partition) =>
        Array.from({ length }, (_, i) => ({ value: done(i) ? "quick" : "fail 1", partition }))
      )
      for (let i = 0; i < records.length; i += 10_000) yield* outside.send(topic, records.slice(i, i + 10_000))
      const member = yield* ParallelConsumer.start(java, folder, {
        brokers,
        topic,
        groupId: topic,
        ordering: "UNORDERED",
        concurrency: 20,
        turn: 0
      })
      const quick = records.filter(({ value }) => value === "quick").length
      yield* until(
        "everything is handled that does not fail",
        Effect.sync(() => member.read().handled.length),
        (handled) => handled >= quick
      )
      yield* member.terminate
      const commits = yield* outside.commits(topic, topic)
      return { brokers, outside, java, folder, topic, handled: Done.once(member.read().handled), commits }
    })
  )
}

/** A consumer of ours, on what is there, up to the end of the topic: what it has handled and what it has logged. */
const takeOver = Effect.fnUntraced(function* (groupId: string, offsetMap: "own" | "all" | undefined) {
  const { brokers, outside, topic } = yield* Fixture
  const logs: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => {
    logs.push(String(message))
  })
  const handled: Array<{ readonly partition: number; readonly offset: string }> = []
  const handler = Handler.make(topic, ({ offset, partition }) =>
    Effect.sync(() => handled.push({ partition, offset: String(offset) }))
  )
  const Consumer = ConcurrentConsumer.layerHandler(handler, {
    groupId,
    concurrency: 20,
    batchInterval: "100 millis",
    offsetMap
  }).pipe(Layer.provide(KafkaJs.layer({ brokers })))
  yield* Effect.gen(function* () {
    yield* Layer.build(Layer.fresh(Consumer))
    const ends = yield* outside.ends(topic)
    yield* until("everything is committed", outside.committed(groupId, topic), (now) => Outside.same(now, ends))
  }).pipe(Effect.scoped, Effect.provideService(Logger.CurrentLoggers, new Set([logger])))
  return { handled: Done.once(handled), logs }
})

const same = (actual: Done.DoneByPartition, expected: Done.DoneByPartition) => {
  assert.deepStrictEqual(Done.describe(Done.without(expected, actual)), [], "missing")
  assert.deepStrictEqual(Done.describe(Done.without(actual, expected)), [], "too many")
}

const none = (done: Done.DoneByPartition, what: string) => assert.deepStrictEqual(Done.describe(done), [], what)

const runs = <P extends Pattern>(patterns: ReadonlyArray<P>, done: (pattern: P, offset: number) => boolean) =>
  new Map(patterns.map((pattern, i) => [i, Done.runsOf(pattern.length, (offset) => done(pattern, offset))]))

/** One member after the other, with so many new records in each partition. */
const turns = [
  { by: "java", end: "orderly" },
  { by: "ours", end: "orderly" },
  { by: "java", end: "kill" },
  { by: "ours", end: "kill" },
  { by: "java", end: "orderly" },
  { by: "ours", end: "orderly" }
] as const
const partitions = 3
const perTurn = 60
const keys = 25

const keyAt = (offset: number | string): string => String(Number(offset) % keys)

/** Most take 50 ms. One does not end in this turn, and one not in the next one either; in the last turn all end. */
const recordsOf = (turn: number) =>
  Array.from({ length: partitions * perTurn }, (_, i) => {
    const at = Math.floor(i / partitions)
    const until =
      turn === turns.length ? undefined : at === 3 ? turn + 1 : at === 10 ? Math.min(turn + 2, turns.length) : undefined
    return {
      partition: i % partitions,
      key: keyAt((turn - 1) * perTurn + at),
      value: until === undefined ? "50" : `until ${until}`
    }
  })

/** Each member handled the records of a key in the order of their offsets, and none before those in front of it were handled. */
const assertOrder = (members: ReadonlyArray<Members.Member>) => {
  const next = new Map<string, number>()
  for (const { handled } of members) {
    const newest = new Map<string, number>()
    for (const { offset: text, partition } of handled) {
      const offset = Number(text)
      const lane = `${partition}/${keyAt(offset)}`
      assert.isAbove(offset, newest.get(lane) ?? -1, `lane ${lane} goes back`)
      newest.set(lane, offset)
      const expected = next.get(lane) ?? offset % keys
      assert.isAtMost(offset, expected, `lane ${lane} leaves one out`)
      if (offset === expected) next.set(lane, offset + keys)
    }
  }
}

describe.runIf(inject("own") && java._tag === "Success")(
  "one group, the Java Parallel Consumer and this library",
  () => {
    layer(Fixture.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("what it commits says what it has handled, in each of its forms", () =>
        Effect.gen(function* () {
          const { commits, handled, topic } = yield* Fixture
          const expected = runs(theirs, ({ done }, offset) => done(offset))
          same(handled, expected)
          same(Done.committed(commits, topic), expected)
          const forms = theirs.map((_, partition) => Done.formOf(commits.get(partition)!.metadata))
          assert.deepStrictEqual(forms, ["l", "n", "", "l", "J", "a", "e", "s"])
        })
      )

      it.effect(
        "it handles what our maps do not call done and nothing else, whichever form they have",
        () =>
          Effect.gen(function* () {
            const { brokers, folder, java, outside, topic } = yield* Fixture
            const groupId = `${topic}-ours`
            const commits = ours.map(({ base, done, length }, partition) => {
              const relative = Done.runsOf(length - base, (i) => done(base + i)).flat()
              const { cut, metadata } = OffsetMap.encode({
                topic,
                partition,
                base: BigInt(base),
                runs: relative.map(Number),
                limit: longest,
                zstd: Done.zstd
              })
              assert.isFalse(cut)
              return { partition, offset: BigInt(base), metadata }
            })
            const forms = commits.map(({ metadata }) => Done.formOf(metadata))
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
            same(
              Done.once(member.read().handled),
              runs(ours, ({ base, done }, offset) => offset >= base && !done(offset))
            )
          }).pipe(Effect.scoped),
        60_000
      )

      it.effect(
        "by default its maps are ignored and nothing is skipped, which is said once",
        () =>
          Effect.gen(function* () {
            const { brokers, commits, java, topic } = yield* Fixture
            const groupId = `${topic}-own`
            yield* ParallelConsumer.commit(
              java,
              { brokers, topic, groupId },
              [...commits].map(([partition, commit]) => ({ partition, ...commit }))
            )
            const { handled, logs } = yield* takeOver(groupId, undefined)
            same(
              handled,
              new Map(
                [...commits].map(([partition, { offset }]) => [
                  partition,
                  [[offset, BigInt(theirs[partition]!.length)]]
                ])
              )
            )
            assert.strictEqual(logs.length, 1, logs.join("\n"))
            assert.match(logs[0]!, /7 partition\(s\).* is not used as an offset map \(unchecked\)/)
          }),
        60_000
      )

      it.effect(
        'with "all" exactly what it has not handled is handled',
        () =>
          Effect.gen(function* () {
            const { topic } = yield* Fixture
            const { handled, logs } = yield* takeOver(topic, "all")
            same(
              handled,
              runs(theirs, ({ done }, offset) => !done(offset))
            )
            assert.deepStrictEqual(logs, [])
          }),
        60_000
      )

      it.effect(
        "in six turns, ended orderly and by kill, nothing that was committed runs again, nothing is missed, and keys keep their order",
        () =>
          Effect.gen(function* () {
            const { brokers, folder, java, outside } = yield* Fixture
            const topic = Outside.fresh("turns")
            yield* outside.createTopic(topic, partitions)
            const common = { brokers, topic, groupId: topic, concurrency: 20 }
            const ledger = new Members.Ledger()
            let committed: Done.DoneByPartition = new Map()
            for (const [index, { by, end }] of turns.entries()) {
              const turn = index + 1
              yield* outside.send(topic, recordsOf(turn))
              // the Java client gives up when the group has a member of another kind, as it has until the session of a killed one ends
              if (by === "java") yield* until("the group is empty", outside.members(topic), (members) => members === 0)
              const before = ledger.look().distinct
              const member = ledger.add(
                by === "java"
                  ? yield* ParallelConsumer.start(java, folder, { ...common, ordering: "KEY", turn })
                  : yield* Members.start(folder, {
                      ...common,
                      turn,
                      shutdown: "interrupt",
                      sleep: [50, 50],
                      consumer: {
                        offsetMap: "all",
                        ordering: "key",
                        batchInterval: 100,
                        mapInterval: 100,
                        sessionTimeout: 3000,
                        heartbeatInterval: 500
                      }
                    })
              )
              if (turn < turns.length) {
                yield* until(
                  "records are in flight, and in each partition some are done and committed behind a gap",
                  Effect.all([Effect.sync(() => ledger.look().distinct), outside.commits(topic, topic)]),
                  ([distinct, commits]) =>
                    distinct >= before + perTurn &&
                    commits.size === partitions &&
                    // metadata alone say nothing: the Java library writes a map of nothing, too
                    [...Done.committed(commits, topic).values()].every((done) => done.length > 1)
                )
              } else {
                const ends = yield* outside.ends(topic)
                yield* until("all is committed", outside.committed(topic, topic), (now) => Outside.same(now, ends))
              }
              yield* end === "kill" ? member.kill : member.terminate
              const handled = Done.once(member.read().handled)
              none(Done.without(handled, Done.without(handled, committed)), `turn ${turn} repeats what was committed`)
              const now = Done.committed(yield* outside.commits(topic, topic), topic)
              none(Done.without(committed, now), `turn ${turn} takes back what was committed`)
              // one that was seen may be closed by the time of the end, all of them hardly
              if (turn < turns.length)
                assert.isTrue(
                  [...now.values()].some((done) => done.length > 1),
                  `no gap is left after turn ${turn}`
                )
              const lost = Done.without(handled, now)
              if (end === "orderly") none(lost, `turn ${turn} does not commit what it has handled`)
              console.log(`${by}, ${end}: ${Done.count(handled)} handled, of these ${Done.count(lost)} not committed`)
              committed = now
            }
            assert.deepStrictEqual(ledger.look().missing(yield* outside.ends(topic)), [])
            assertOrder(ledger.members)
          }).pipe(Effect.scoped),
        60_000
      )
    })
  }
)
