import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ConsumerRecord } from "../src/ConsumerRecord.ts"
import { type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { Boom, Desk, ended, pass, passUntil, turns, world } from "./harness.ts"
import { at, given, scripted } from "./script.ts"

/** handlers that ignore interruption */
const text = (key: Uint8Array | null) => (key === null ? "" : new TextDecoder().decode(key))
const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })

describe("ordering", () => {
  it.effect("I4: by partition: one at a time, in offset order; other partitions do not wait for it", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 3 })
      for (let p = 0; p < 3; p++) yield* w.produce(4, p)
      const a = yield* w.member("a", { ordering: "partition" })
      assert.deepStrictEqual(a.desk.running, ["0:0", "1:0", "2:0"])
      yield* a.desk.finish(1, 0)
      yield* a.desk.finish(1, 1)
      yield* a.desk.finish(1, 2)
      assert.deepStrictEqual(a.desk.running, ["0:0", "2:0", "1:3"])
    })
  )

  it.effect(
    "I4: in random runs over rebalances, crashes and slow finalizers no lane has two at once, and none goes back",
    () =>
      Effect.gen(function* () {
        for (let seed = 1; seed <= 10; seed++)
          yield* Effect.scoped(
            Effect.gen(function* () {
              const w = yield* world({ partitions: 4 })
              let random = seed
              const next = (n: number) => (random = (random * 48271) % 2147483647) % n
              const running = new Map<string, number>()
              const last = new Map<string, bigint>()
              const problems: Array<string> = []
              const handled = new Set<string>()
              const handlerOf = (member: string) =>
                Handler.make("t", (record) => {
                  const lane = `${member} ${record.partition}`
                  return Effect.gen(function* () {
                    running.set(lane, (running.get(lane) ?? 0) + 1)
                    if (running.get(lane)! > 1) problems.push(`two at once in ${lane} at ${record.offset}`)
                    const inEpoch = `${lane} ${record.epoch}`
                    if ((last.get(inEpoch) ?? -1n) >= record.offset)
                      problems.push(`${inEpoch} goes back to ${record.offset}`)
                    last.set(inEpoch, record.offset)
                    const slow = next(10) === 0
                    const work = Effect.sleep(1 + next(slow ? 2_000 : 40))
                    yield* slow ? Effect.uninterruptible(work) : work
                    handled.add(`${record.partition}:${record.offset}`)
                  }).pipe(Effect.ensuring(Effect.sync(() => running.set(lane, running.get(lane)! - 1))))
                })
              w.expect("passedOver")
              const options = {
                ordering: "partition",
                concurrency: 3,
                batchSize: 5,
                interruptGrace: 500,
                revokeDrain: 200
              } as const
              for (let p = 0; p < 4; p++) yield* w.produce(60, p)
              const a = yield* w.member("a", { ...options, handler: handlerOf("a"), policy: "none" })
              yield* w.member("b", { ...options, handler: handlerOf("b"), policy: "none" })
              for (let i = 0; i < 8; i++) {
                yield* pass(500 + next(4_000))
                const what = next(3)
                if (what === 0) yield* w.kafka.rebalance("g")
                if (what === 1) yield* a.session().evict
                if (what === 2) w.kafka.faults.next("sync", { kind: "slowRequest", ms: 4_000 }, { clientId: "b" })
              }
              yield* passUntil("all are done", () => [0, 1, 2, 3].every((p) => w.committed(p) === 60), 300_000, 1_000)
              assert.deepStrictEqual(problems, [])
              assert.strictEqual(handled.size, 240)
            })
          )
      }),
    60_000
  )

  it.effect(
    "D13: a handler that ignores interruption keeps its lane in the next epoch: its record does not run twice at once",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { ordering: "partition", desk: stubborn() })
        yield* s.session.lost(at(0, 1))
        yield* pass(1_000)
        assert.deepStrictEqual(yield* Effect.map(s.consumer.health, (h) => h.reasons.map((r) => r.code)), [
          "standby",
          "zombie"
        ])
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* s.session.chunk(0, 2, 0, 3)
        yield* pass(60_000)
        assert.deepStrictEqual(s.desk.started, ["0:0"])
        // the late completion of the old epoch frees the lane, and settles nothing
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
        assert.strictEqual(s.desk.attempts[1]!.record.epoch, 2)
        yield* pass(20_000)
        assert.deepStrictEqual(s.session.commits, [])
        const snapshot = yield* s.consumer.snapshot
        assert.deepStrictEqual([snapshot.permits.byZombies, snapshot.permits.used, snapshot.fenced], [0, 1, 1])
        yield* s.desk.finish(0, 0)
        yield* s.desk.finish(0, 1)
        yield* s.desk.finish(0, 2)
      })
  )

  it.effect("D13: also before interruptGrace is over, and over several epochs", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ ordering: "partition", desk: stubborn() })
      for (let epoch = 1; epoch <= 3; epoch++) {
        yield* s.session.assign([{ partition: 0, epoch, committed: 0 }])
        yield* s.session.chunk(0, epoch, 0, 3)
        yield* s.session.lost(at(0, epoch))
      }
      yield* s.session.assign([{ partition: 0, epoch: 4, committed: 0 }])
      yield* s.session.chunk(0, 4, 0, 1)
      assert.deepStrictEqual(s.desk.started, ["0:0"])
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
      yield* s.desk.finish(0, 0)
    })
  )

  it.effect("a lane outlives the run: after run was interrupted and called again the zombie still holds it", () =>
    Effect.gen(function* () {
      const s = yield* given([1], { ordering: "partition", desk: stubborn() })
      const interrupted = yield* Effect.forkChild(s.interrupt)
      yield* pass(1_000)
      assert.isDefined(interrupted.pollUnsafe())
      yield* s.run
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 1)
      assert.strictEqual(s.desk.attempts.length, 1)
      yield* s.desk.finish(0, 0)
      assert.strictEqual(s.desk.attempts.length, 2)
      yield* s.desk.finish(0, 0)
    })
  )

  for (const ordering of ["key", (record: ConsumerRecord) => text(record.key)] as const) {
    const name = typeof ordering === "string" ? ordering : "function"

    it.effect(`I4: by ${name}: one of a lane at a time, in offset order; nobody else waits for it`, () =>
      Effect.gen(function* () {
        const s = yield* scripted({ ordering, concurrency: 10 })
        yield* s.session.assign([0, 1].map((partition) => ({ partition, epoch: 1, committed: 0 })))
        yield* s.session.keyed(0, 1, 0, ["a", "b", "a", "a", "c", "b"])
        // the same key in another partition is another lane
        yield* s.session.keyed(1, 1, 0, ["a", "a"])
        assert.sameMembers([...s.desk.running], ["0:0", "0:1", "0:4", "1:0"])
        yield* s.desk.finish(0, 1)
        yield* s.desk.finish(0, 0)
        assert.sameMembers([...s.desk.running], ["0:4", "1:0", "0:5", "0:2"])
        yield* s.session.keyed(0, 1, 6, ["a", "d"])
        yield* s.desk.finish(0, 2)
        assert.sameMembers([...s.desk.running], ["0:4", "1:0", "0:5", "0:7", "0:3"])
        yield* s.desk.finishAll()
        yield* s.desk.finishAll()
        yield* pass(10_000)
        assert.sameMembers(s.session.commits.slice(-2), ["0=8", "1=2"])
        assert.strictEqual(s.desk.attempts.length, 10)
      })
    )

    it.effect(`I4: by ${name}: a record that waits for its retry, or whose policy is being asked, keeps its lane`, () =>
      Effect.gen(function* () {
        const s = yield* scripted({
          ordering,
          policy: FailurePolicy.make(({ attempt }) =>
            attempt === 1
              ? Effect.as(Effect.sleep(100), { _tag: "Retry" as const, after: 1_000 })
              : Effect.succeed({ _tag: "Skip" as const })
          )
        })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.keyed(0, 1, 0, ["a", "a", "b", "b"])
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        yield* s.desk.finish(0, 2)
        assert.deepStrictEqual(s.desk.running, ["0:3"])
        yield* pass(100)
        yield* s.session.keyed(0, 1, 4, ["a", "b"])
        yield* pass(999)
        assert.deepStrictEqual(s.desk.running, ["0:3"])
        yield* pass(1)
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:2", "0:3", "0:0"])
        // skipped: the lane is the next one's
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        assert.deepStrictEqual(s.desk.running, ["0:3", "0:1"])
        yield* s.desk.finish(0, 1)
        assert.deepStrictEqual(s.desk.running, ["0:3", "0:4"])
        yield* s.desk.finishAll()
        yield* s.desk.finishAll()
      })
    )

    it.effect(`D13: by ${name}: a zombie keeps its key in the next epoch; the other keys go on`, () =>
      Effect.gen(function* () {
        const s = yield* scripted({ ordering, concurrency: 10, desk: stubborn() })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.keyed(0, 1, 0, ["a", "a", "b"])
        yield* s.session.lost(at(0, 1))
        yield* pass(1_000)
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
        yield* s.session.keyed(0, 2, 0, ["a", "a", "b", "c", null])
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:2", "0:3", "0:4"])
        // once more: what waited in the lanes is given up, who holds them holds on
        yield* s.session.lost(at(0, 2))
        yield* s.session.assign([{ partition: 0, epoch: 3, committed: 0 }])
        yield* s.session.keyed(0, 3, 0, ["a", "a", "b"])
        assert.strictEqual(s.desk.attempts.length, 4)
        s.desk.attempts[0]!.end(Exit.void)
        yield* turns
        assert.deepStrictEqual(s.desk.started.slice(4), ["0:0"])
        assert.strictEqual(s.desk.attempts[4]!.record.epoch, 3)
        s.desk.attempts[4]!.end(Exit.void)
        s.desk.attempts[1]!.end(Exit.void)
        yield* turns
        assert.deepStrictEqual(s.desk.started.slice(5), ["0:1", "0:2"])
        yield* s.desk.finishAll()
        yield* pass(10_000)
        assert.deepStrictEqual(s.session.commits.at(-1), "0=3")
      })
    )

    it.effect(
      `D13: by ${name}: a zombie keeps its key in the next run, and the records that wait for it start when it ends`,
      () =>
        Effect.gen(function* () {
          const s = yield* scripted({ ordering, concurrency: 10, desk: stubborn() })
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.keyed(0, 1, 0, ["a", "b"])
          yield* s.desk.finish(0, 1)
          const interrupted = yield* Effect.forkChild(s.interrupt)
          yield* pass(1_000)
          assert.isDefined(interrupted.pollUnsafe())
          yield* s.run
          yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
          yield* s.session.keyed(0, 2, 0, ["a", "b", "a"])
          assert.deepStrictEqual(s.desk.started, ["0:0", "0:1", "0:1"])
          s.desk.attempts[0]!.end(Exit.void)
          yield* turns
          assert.deepStrictEqual(s.desk.started.slice(3), ["0:0"])
          yield* s.desk.finishAll()
          assert.deepStrictEqual(s.desk.started.slice(4), ["0:2"])
          yield* s.desk.finishAll()
          yield* pass(10_000)
          assert.strictEqual(s.session.commits.at(-1), "0=3")
        })
    )
  }

  it.effect("null keys have no lane: they run all at once, among the others", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ ordering: "key", concurrency: 10 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.keyed(0, 1, 0, [null, "a", null, "a", null, ""])
      assert.sameMembers([...s.desk.running], ["0:0", "0:1", "0:2", "0:4", "0:5"])
      yield* s.desk.finishAll()
      yield* s.desk.finishAll()
    })
  )

  it.effect("the same key in two topics is two lanes", () =>
    Effect.gen(function* () {
      const w = yield* world({ topics: ["t", "u"] })
      const records = ["x", "y"].map((value) => ({ key: "k", value, partition: 0 }))
      yield* w.kafka.produce("t", records)
      yield* w.kafka.produce("u", records)
      const a = yield* w.member("a", { ordering: "key", topics: ["t", "u"] })
      assert.sameMembers(
        a.desk.attempts.map(({ record }) => `${record.topic}:${record.offset}`),
        ["t:0", "u:0"]
      )
      yield* a.desk.finishAll()
      yield* a.desk.finishAll()
      assert.strictEqual(a.desk.attempts.length, 4)
    })
  )

  for (const [what, order, says] of [
    [
      "throws",
      () => {
        throw new RangeError("no lane for this one")
      },
      RangeError
    ],
    ["answers with no text", () => 7, TypeError],
    ["answers with nothing", () => undefined, TypeError]
  ] as const) {
    it.effect(`D54: an order function that ${what}: that record alone fails, also on its retry`, () =>
      Effect.gen(function* () {
        const failures: Array<Failure<Boom>> = []
        let asked = 0
        const s = yield* given([3], {
          batchSize: 1,
          minCommitInterval: 0,
          ordering: ((record: ConsumerRecord) => {
            if (record.offset !== 1n) return "lane"
            asked++
            return order()
          }) as (record: ConsumerRecord) => string,
          policy: FailurePolicy.make((failed: Failure<Boom>) => {
            failures.push(failed)
            return failed.attempt < 3 ? { _tag: "Retry", after: 100 } : { _tag: "Skip" }
          })
        })
        assert.deepStrictEqual(s.desk.running, ["0:0"])
        yield* pass(100)
        yield* s.desk.finish(0, 0)
        yield* pass(100)
        yield* s.desk.finish(0, 2)
        assert.deepStrictEqual(
          failures.map(({ attempt, kind, record }) => [Number(record.offset), attempt, kind]),
          [1, 2, 3].map((attempt) => [1, attempt, "defect"])
        )
        for (const { cause } of failures) assert.instanceOf(Cause.squash(cause), says)
        assert.strictEqual(asked, 1)
        // the handler was never asked
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:2"])
        const snapshot = yield* s.consumer.snapshot
        assert.deepStrictEqual(snapshot.outcomes, ended({ handled: 2, skipped: 1 }))
        assert.deepInclude(snapshot, { attempts: 5, retries: 2, unexpectedTransitions: 0 })
        assert.strictEqual(s.session.commits.at(-1), "0=3")
      })
    )
  }

  it.effect("a skipped record gives its lane to the next one", () =>
    Effect.gen(function* () {
      const s = yield* given([3], { ordering: "partition", policy: FailurePolicy.skip })
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      assert.deepStrictEqual(s.desk.running, ["0:1"])
    })
  )

  it.effect("unordered: records of a partition overlap, and start in offset order, fair over partitions", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 3 })
      yield* w.produce(100, 0)
      yield* w.produce(4, 1)
      yield* w.produce(4, 2)
      const a = yield* w.member("a", { concurrency: 1 })
      for (let i = 0; i < 12; i++) yield* a.desk.finishAll()
      // a partition with much does not make the others wait
      assert.deepStrictEqual([...a.desk.started].slice(0, 12).sort(), [
        "0:0",
        "0:1",
        "0:2",
        "0:3",
        "1:0",
        "1:1",
        "1:2",
        "1:3",
        "2:0",
        "2:1",
        "2:2",
        "2:3"
      ])
      yield* turns
    })
  )
})
