import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Handler } from "../src/Handler.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Boom, Desk, pass, passUntil, turns, world } from "./harness.ts"
import { at, scripted } from "./script.ts"

/** handlers that ignore interruption */
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
        const s = yield* scripted({ ordering: "partition", desk: stubborn() })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 3)
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
      const s = yield* scripted({ ordering: "partition", desk: stubborn() })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
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

  it.effect("a skipped record gives its lane to the next one", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ ordering: "partition", policy: FailurePolicy.skip })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 3)
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
