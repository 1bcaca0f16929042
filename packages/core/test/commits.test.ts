import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Distribution } from "../src/Snapshot.ts"
import { Desk, pass, passUntil, turns, world } from "./harness.ts"
import { given, later, outcomes, scripted } from "./script.ts"

/** Three records, the first of which is done; its commit got no answer, and the second try was stored. */
const onceUnanswered = Effect.gen(function* () {
  const s = yield* given([3], { batchSize: 1_000, batchInterval: 120_000 })
  s.session.answers.push(outcomes("retriable", "NO_ANSWER"))
  yield* s.desk.finish(0, 0)
  yield* s.consumer.flush
  yield* pass(125)
  assert.deepStrictEqual(s.session.commits, ["0=1", "0=1"])
  return s
})

describe("commits", () => {
  it.effect("I1: no commit passes a record that is not done, in whatever order they finish", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 3 })
      for (let p = 0; p < 3; p++) yield* w.produce(40, p)
      let random = 7
      const next = (n: number) => (random = (random * 48271) % 2147483647) % n
      // the monitor of the world looks at each commit
      yield* w.member("a", {
        concurrency: 25,
        batchSize: 1,
        minCommitInterval: 0,
        desk: new Desk({ around: () => Effect.sleep(1 + next(200)) })
      })
      yield* passUntil("all are committed", () => [0, 1, 2].every((p) => w.committed(p) === 40), 60_000)
      assert.isAbove(w.commits().length, 20)
    })
  )

  it.effect(
    "I2: over rebalances, evictions and crashes of two members no partition's offset goes back",
    () =>
      Effect.gen(function* () {
        for (const protocol of ["eager", "incremental"] as const) {
          const w = yield* world({ partitions: 6, protocol })
          for (let p = 0; p < 6; p++) yield* w.produce(100, p)
          let random = 3
          const next = (n: number) => (random = (random * 48271) % 2147483647) % n
          const options = () => ({
            concurrency: 10,
            batchSize: 5,
            sessionTimeout: 9_000,
            desk: new Desk({ around: () => Effect.sleep(1 + next(400)) })
          })
          const a = yield* w.member("a", options())
          const b = yield* w.member("b", options())
          for (let i = 0; i < 8; i++) {
            yield* pass(1_000 + next(3_000))
            const what = next(4)
            if (what === 0) yield* w.kafka.rebalance("g")
            if (what === 1) yield* a.session().evict
            if (what === 2) yield* b.session().breakConnections
            if (what === 3) w.kafka.faults.next("commit", { kind: "answerLost" })
          }
          yield* passUntil(
            "all are committed",
            () => [0, 1, 2, 3, 4, 5].every((p) => w.committed(p) === 100),
            120_000,
            1_000
          )
        }
      }),
    30_000
  )

  it.effect("I3: what a member was given and did not finish is delivered to another one, whatever ends it", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      yield* w.produce(6)
      const a = yield* w.member("a", { batchSize: 1, minCommitInterval: 0, sessionTimeout: 9_000 })
      yield* a.desk.finish(0, 0, 2)
      yield* pass(100)
      yield* a.session().crash
      const b = yield* w.member("b", { batchSize: 1, minCommitInterval: 0 })
      yield* passUntil("b has it", () => b.desk.attempts.length > 0, 60_000, 1_000)
      assert.deepStrictEqual(b.desk.started, ["0:1", "0:3", "0:4", "0:5"])
      yield* b.desk.finish(0, 1)
      yield* b.close
      const c = yield* w.member("c")
      assert.deepStrictEqual(c.desk.started, ["0:3", "0:4", "0:5"])
      yield* c.desk.finishAll()
      yield* pass(10_000)
      assert.strictEqual(w.committed(), 6)
    })
  )

  it.effect("D33: a commit whose answer is lost: sent again; the late one is overtaken by a repeat", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(10)
      const a = yield* w.member("a", {
        batchSize: 1,
        minCommitInterval: 0,
        desk: new Desk(),
        client: { requestTimeout: 5_000 }
      })
      w.expect("backwards")
      // the broker reads it 4 s late, after the newer ones
      w.kafka.faults.next("commit", { kind: "servedLate", ms: 4_000 })
      yield* a.desk.finish(0, 0)
      yield* pass(200)
      yield* a.desk.finish(0, 1)
      yield* pass(200)
      assert.strictEqual(w.committed(), 2)
      yield* pass(3_800)
      assert.strictEqual(w.committed(), 1, "the broker checks no order")
      yield* pass(6_000)
      assert.strictEqual(w.committed(), 2, "repeated when the late one can no longer be alive")
      const sent = w.commits().length
      yield* pass(60_000)
      assert.strictEqual(w.commits().length, sent, "once")
    })
  )

  it.effect("D33: the repeat falls due while the partition has moved: no event that the machine does not know", () =>
    Effect.gen(function* () {
      const s = yield* onceUnanswered
      yield* s.desk.finish(0, 1)
      yield* pass(31_000)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=1", "0=2"])
      // and where nothing has moved
      s.session.answers.push(outcomes("retriable", "NO_ANSWER"))
      yield* s.desk.finish(0, 2)
      yield* s.consumer.flush
      yield* pass(125)
      yield* pass(31_000)
      assert.deepStrictEqual(s.session.commits.slice(3), ["0=3", "0=3", "0=3"])
    })
  )

  it.effect("D33: the repeat falls due in a later epoch: what that one has committed is said again", () =>
    Effect.gen(function* () {
      const s = yield* onceUnanswered
      yield* s.consumer.seek({ topic: "t", partition: 0 }, 50n)
      assert.deepStrictEqual(s.session.commits.slice(2), ["0=50"])
      // the one without an answer may be applied over it until then
      yield* pass(31_000)
      assert.deepStrictEqual(s.session.commits.slice(2), ["0=50", "0=50"])
    })
  )

  it.effect("flush commits the done prefix of all partitions now, and says what became of each", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(3, p)
      const a = yield* w.member("a", { batchSize: 1_000 })
      yield* a.desk.finish(0, 0, 2)
      yield* a.desk.finish(1, 0)
      const answer = yield* a.consumer.flush
      assert.deepStrictEqual(
        answer.map((o) => `${o.partition} ${o.outcome}`),
        ["0 committed", "1 committed"]
      )
      assert.deepStrictEqual([w.committed(0), w.committed(1)], [1, 1])
      assert.deepStrictEqual(yield* a.consumer.flush, [])
      yield* a.interrupt
      assert.deepStrictEqual(yield* a.consumer.flush, [])
    })
  )

  it.effect("between two generations nothing is sent; what finished is committed when the partition was retained", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(3, p)
      const a = yield* w.member("a", { batchSize: 1, minCommitInterval: 0, revokeDrain: "100 millis" })
      w.kafka.faults.next("sync", { kind: "slowRequest", ms: 2_000 })
      yield* w.kafka.rebalance("g")
      yield* pass(3_200)
      assert.strictEqual((yield* a.consumer.snapshot).partitions[0]!.state, "suspended")
      const before = w.kafka.commitsUnsafe().length
      yield* a.desk.finish(0, 0, 1)
      yield* pass(1_000)
      assert.strictEqual(w.kafka.commitsUnsafe().length, before)
      yield* pass(2_000)
      assert.strictEqual(w.committed(0), 2)
    })
  )

  it.effect("deferred commits (the member epoch moved) are decided again without any assignment", () =>
    Effect.gen(function* () {
      const w = yield* world({ protocol: "incremental" })
      yield* w.produce(3)
      const a = yield* w.member("a", { batchSize: 1, minCommitInterval: 0 })
      yield* w.kafka.rebalance("g")
      yield* a.desk.finish(0, 0)
      yield* pass(6_100)
      assert.strictEqual(w.committed(), 1)
      w.kafka.faults.next("commit", { kind: "code", code: "STALE_MEMBER_EPOCH" })
      yield* a.desk.finish(0, 1)
      yield* pass(3_100)
      assert.strictEqual(w.committed(), 2)
    })
  )

  it.effect("a deferred commit is decided again by the next assignment, where nothing was suspended, too", () =>
    Effect.gen(function* () {
      const s = yield* given([2, 2], { batchSize: 1, minCommitInterval: 0 })
      const all = [0, 1].map((partition) => ({ partition, epoch: partition + 1, retained: true, committed: 0 }))
      s.session.always = outcomes("deferred", "REBALANCE_IN_PROGRESS")
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      s.session.always = outcomes("committed")
      yield* s.session.assign(all)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=1"])
      assert.include(s.rows, "partition:P7")
      // nothing is said twice, and what was not deferred is left to its triggers
      yield* s.session.assign(all)
      yield* pass(3_100)
      assert.strictEqual(s.session.sent.length, 2)
    })
  )

  it.effect("a start whose commit was deferred is committed by the next assignment, and begun", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      s.session.answers.push(outcomes("deferred", "REBALANCE_IN_PROGRESS"))
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      assert.deepStrictEqual([s.session.commits, s.session.begun], [["0=0"], []])
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true }])
      assert.deepStrictEqual([s.session.commits, s.session.begun], [["0=0", "0=0"], ["0#1@0"]])
      yield* pass(3_500)
      assert.strictEqual(s.session.sent.length, 2)
    })
  )

  it.effect("an eviction is noticed by a commit, before any heartbeat: the epochs end at once", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(3, p)
      const a = yield* w.member("a", { batchSize: 1, minCommitInterval: 0 })
      yield* a.session().evict
      yield* a.desk.finish(0, 0)
      yield* pass(10)
      assert.deepStrictEqual(a.desk.interrupted, ["0:1", "0:2"])
      yield* pass(10_000)
      yield* a.desk.finishAll()
      yield* a.desk.finishAll()
      yield* pass(10_000)
      assert.deepStrictEqual([w.committed(0), w.committed(1)], [3, 3])
    })
  )

  it.effect("an entry of an epoch that the client does not hold any more is dropped and counted", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { batchSize: 1 })
      s.session.answers.push(outcomes("stale", "EPOCH"))
      yield* s.desk.finish(0, 0)
      assert.strictEqual((yield* s.consumer.snapshot).fenced, 1)
      yield* s.desk.finish(0, 1)
      yield* pass(60_000)
      assert.strictEqual(s.session.sent.length, 1)
    })
  )

  it.effect("an answer that comes after its epoch has ended is dropped and counted", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { batchSize: 1 })
      const late = later()
      s.session.answers.push(late.answer)
      yield* s.desk.finish(0, 0)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* late.give(outcomes("rejected", "NOT_AUTHORIZED"))
      assert.strictEqual((yield* s.consumer.snapshot).fenced, 1)
      assert.isUndefined(s.fiber().pollUnsafe())
    })
  )

  it.effect("the snapshot says what was committed, when, and how long it took", () =>
    Effect.gen(function* () {
      const w = yield* world({ commitLatency: 30 })
      yield* w.produce(3)
      const a = yield* w.member("a", { batchSize: 1 })
      yield* pass(100)
      yield* a.desk.finish(0, 0)
      yield* pass(100)
      const snapshot = yield* a.consumer.snapshot
      const [p] = snapshot.partitions
      assert.deepInclude(p, {
        committed: 1n,
        committable: 1n,
        delivered: 3n,
        end: 3n,
        running: 2,
        buffered: 0,
        gaps: 0,
        heldRecords: 2
      })
      assert.deepInclude(p!.oldest, { offset: 1n, state: "running", attempt: 1 })
      assert.strictEqual(snapshot.commits.ok, 2)
      assert.strictEqual(snapshot.commits.lastMillis, 30)
      assert.strictEqual(snapshot.generation, 1)
      assert.deepStrictEqual(
        snapshot.rebalances.map((r) => r.kind),
        ["assigned"]
      )
      assert.isAbove(snapshot.handlerTime.p50, 60)
      const total = ({ counts }: Distribution) => counts.reduce((a, b) => a + b, 0)
      assert.strictEqual(total(snapshot.handlerTime.all), snapshot.outcomes.handled)
      assert.strictEqual(total(snapshot.failedTime), 0)
      assert.strictEqual(total(snapshot.waitTime.all), 3)
      // the start is committed, too
      assert.deepStrictEqual(snapshot.commits.entries, {
        committed: 2,
        retriable: 0,
        deferred: 0,
        stale: 0,
        rejected: 0
      })
      assert.strictEqual(total(snapshot.commits.time), 2)
      assert.isAtLeast(snapshot.commits.time.sum, 30)
      // topic and entry, with the map of what is done behind the gap in one of them
      assert.isAtLeast(snapshot.commits.size.sum, 2 * 27)
      assert.deepStrictEqual(snapshot.rebalanceCounts, { assigned: 1, revoked: 0, lost: 0 })
      w.kafka.faults.next("commit", { kind: "code", code: "NOT_COORDINATOR" })
      yield* a.desk.finish(0, 1)
      yield* pass(1_000)
      const after = (yield* a.consumer.snapshot).commits
      assert.strictEqual(after.failed, 1)
      assert.strictEqual(after.entries.retriable, 1)
      const flushing = yield* Effect.forkChild(a.consumer.flush)
      yield* turns
      yield* Fiber.join(flushing)
    })
  )

  it.effect("the oldest record of a partition: running, stopping or waiting to be started", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        concurrency: 1,
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      assert.isUndefined((yield* s.consumer.snapshot).partitions[0]!.oldest)
      yield* s.session.chunk(0, 1, 0, 3)
      assert.deepInclude((yield* s.consumer.snapshot).partitions[0]!.oldest, { offset: 0n, state: "running" })
      yield* s.consumer.pause()
      yield* s.desk.finish(0, 0)
      assert.deepInclude((yield* s.consumer.snapshot).partitions[0]!.oldest, {
        offset: 1n,
        state: "buffered",
        attempt: 0
      })
      yield* s.consumer.resume()
      yield* turns
      yield* s.session.revoking([{ topic: "t", partition: 0, epoch: 1 }], { exact: true })
      yield* pass(5_500)
      assert.deepInclude((yield* s.consumer.snapshot).partitions[0]!.oldest, { offset: 1n, state: "stopping" })
      yield* s.desk.finish(0, 1)
    })
  )
})
