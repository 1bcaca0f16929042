import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { Desk, pass, passUntil, turns, world } from "./harness.ts"
import { at, given, outcomes, scripted } from "./script.ts"

const reasonOf = (fiber: Fiber.Fiber<void, unknown>) =>
  Effect.map(
    Fiber.await(fiber),
    (exit) => (Cause.squash((exit as Exit.Failure<void, unknown>).cause) as ConsumerError).reason
  )

describe("out of range", () => {
  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `D22: a committed offset that retention has overtaken (${protocol}): the log's start, the difference counted, logged and shown for an hour`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ protocol })
          w.expect("passedOver")
          yield* w.produce(100)
          yield* w.kafka.setCommitted("g", "t", 0, { offset: 10n, metadata: "of somebody" })
          yield* w.kafka.deleteRecordsBefore("t", 0, 60n)
          const a = yield* w.member("a", { desk: new Desk({ auto: true }) })
          yield* pass(10_000)
          assert.strictEqual(a.desk.started[0], "0:60")
          assert.strictEqual(a.desk.started.length, 40)
          assert.strictEqual(w.committed(), 100)
          assert.strictEqual((yield* a.consumer.snapshot).lostToRetention, 50n)
          const health = yield* a.health
          assert.deepInclude(health, { status: "degraded", live: true, ready: true })
          assert.deepInclude(health.reasons[0], {
            code: "lostToRetention",
            count: 50,
            at: { topic: "t", partition: 0 }
          })
          assert.strictEqual(
            a.logs.filter((line) => line.startsWith("Error") && line.includes("50 offsets of t/0")).length,
            1
          )
          yield* pass(60 * 60 * 1_000)
          assert.deepStrictEqual(yield* a.codes, [])
        })
    )

    it.effect(
      `D24: an unclean leader election cut the log below our position (${protocol}): a new epoch, where onOutOfRange says`,
      () =>
        Effect.gen(function* () {
          for (const onOutOfRange of ["earliest", "latest"] as const) {
            const w = yield* world({ protocol })
            w.expect("backwards")
            w.expect("passedOver")
            yield* w.produce(10)
            const a = yield* w.member("a", { onOutOfRange, concurrency: 20, batchSize: 1, minCommitInterval: 0 })
            yield* a.desk.finish(0, 0, 1)
            const [epoch] = a.desk.attempts.map((attempt) => attempt.record.epoch)
            yield* w.kafka.truncateTo("t", 0, 5n)
            yield* pass(1_000)
            // in flight records are not those of the log any more
            assert.strictEqual(a.desk.interrupted.length, 8)
            assert.strictEqual(w.committed(), onOutOfRange === "earliest" ? 0 : 5)
            yield* w.produce(1)
            const running = a.desk.attempts.filter((attempt) => attempt.running)
            assert.deepStrictEqual(
              running.map((attempt) => attempt.place),
              onOutOfRange === "earliest" ? ["0:0", "0:1", "0:2", "0:3", "0:4", "0:5"] : ["0:5"]
            )
            assert.isTrue(running.every((attempt) => attempt.record.epoch !== epoch))
            assert.isTrue(a.logs.some((line) => line.startsWith("Error") && line.includes("behind the end of its log")))
          }
        })
    )
  }

  it.effect(
    "D22: a committed offset behind the end of the log: onOutOfRange fail ends the consumer, typed, without a commit",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(5)
        yield* w.kafka.setCommitted("g", "t", 0, { offset: 50n, metadata: "theirs" })
        const a = yield* w.member("a", { onOutOfRange: "fail" })
        yield* turns
        assert.deepInclude(yield* reasonOf(a.fiber()), { _tag: "NoStart", partition: 0, why: "outOfRange" })
        assert.deepStrictEqual(w.kafka.committedUnsafe("g", "t", 0), { offset: 50n, metadata: "theirs" })
      })
  )

  it.effect("D22: below the log's start there is no choice: it goes on at the start, whatever onOutOfRange says", () =>
    Effect.gen(function* () {
      for (const onOutOfRange of ["earliest", "latest", "fail"] as const) {
        const w = yield* world()
        w.expect("passedOver")
        yield* w.produce(10)
        yield* w.kafka.setCommitted("g", "t", 0, { offset: 1n })
        yield* w.kafka.deleteRecordsBefore("t", 0, 6n)
        const a = yield* w.member("a", { onOutOfRange })
        assert.deepStrictEqual(a.desk.started, ["0:6", "0:7", "0:8", "0:9"])
      }
    })
  )

  it.effect(
    "D23: retention cuts while records are in flight: they may finish, what was cut is counted, commits go on",
    () =>
      Effect.gen(function* () {
        const s = yield* given([5], { batchSize: 1, minCommitInterval: 0 })
        yield* s.session.outOfRange(at(0, 1), 5, 50, 100)
        assert.strictEqual((yield* s.consumer.snapshot).lostToRetention, 45n)
        assert.deepStrictEqual(s.desk.interrupted, [])
        yield* s.session.chunk(0, 1, 50, 52)
        yield* s.desk.finish(0, 0, 1, 2, 3, 4)
        yield* pass(10)
        // the jump is no hole
        assert.strictEqual(s.session.commits.at(-1), "0=50")
        yield* s.desk.finish(0, 50, 51)
        yield* pass(10)
        assert.strictEqual(s.session.commits.at(-1), "0=52")
        assert.include(s.rows, "partition:P23")
      })
  )

  it.effect("D23: with nothing in flight the new start is committed without any record", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 5 }])
      yield* s.session.outOfRange(at(0, 1), 5, 50, 100)
      yield* pass(10_000)
      assert.deepStrictEqual(s.session.commits, ["0=50"])
    })
  )

  for (const below of [true, false]) {
    it.effect(
      `out of range ${below ? "below the start" : "beyond the end"} while a revoke is held: kept until the partition is open again`,
      () =>
        Effect.gen(function* () {
          const s = yield* given([1])
          yield* s.session.revoking([at(0, 1)], { exact: false })
          yield* s.session.outOfRange(at(0, 1), 200, below ? 300 : 0, below ? 400 : 100)
          assert.include(s.rows, "partition:P30")
          assert.strictEqual((yield* s.consumer.snapshot).lostToRetention, 0n)
          yield* s.desk.finish(0, 0)
          yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
          yield* turns
          if (below) assert.strictEqual((yield* s.consumer.snapshot).lostToRetention, 100n)
          else assert.deepStrictEqual(s.session.begun, ["0#1@0", "0#1001@0"])
          // dropped where the epoch ends instead
          const t = yield* scripted()
          yield* t.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* t.session.chunk(0, 1, 0, 1)
          yield* t.session.revoking([at(0, 1)], { exact: true })
          yield* t.session.outOfRange(at(0, 1), 200, below ? 300 : 0, below ? 400 : 100)
          yield* t.desk.finish(0, 0)
          assert.deepStrictEqual(t.session.begun, ["0#1@0"])
          assert.strictEqual((yield* t.consumer.snapshot).lostToRetention, 0n)
        })
    )
  }

  it.effect("an assignment that was sent before the partition was opened anew takes nothing back", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 50 }])
      yield* s.session.chunk(0, 1, 50, 52)
      yield* s.session.outOfRange(at(0, 1), 52, 0, 10)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 50 }])
      yield* pass(1_000)
      assert.deepStrictEqual(s.session.begun, ["0#1@50", "0#1001@0"])
      assert.deepInclude((yield* s.consumer.snapshot).partitions[0], { epoch: 1001, state: "open" })
    })
  )

  it.effect("out of range of an epoch that is over, or that the client does not hold any more, is dropped", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.outOfRange(at(0, 9), 5, 50, 100)
      assert.strictEqual((yield* s.consumer.snapshot).lostToRetention, 0n)
      s.session.reopens = false
      yield* s.session.outOfRange(at(0, 1), 500, 0, 100)
      assert.deepStrictEqual(s.session.begun, ["0#1@0"])
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
    })
  )

  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `D27: a topic that is deleted (${protocol}): its epoch ends without a commit, health says topicMissing, the other topic goes on`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ topics: ["t", "u"], protocol })
          yield* w.produce(3, 0, "t")
          yield* w.produce(3, 0, "u")
          const a = yield* w.member("a", { topics: ["t", "u"], batchSize: 1, minCommitInterval: 0 })
          yield* w.kafka.deleteTopic("t", { keepCommitted: true })
          yield* pass(1_000)
          assert.strictEqual(a.desk.attempts.filter((one) => one.record.topic === "t" && one.interrupted).length, 3)
          assert.strictEqual(w.committed(0, "t"), 0)
          assert.include(yield* a.codes, "topicMissing")
          assert.deepInclude(yield* a.health, { status: "down", live: true, ready: true })
          for (const one of a.desk.attempts) if (one.record.topic === "u") one.end(Exit.void)
          yield* pass(40_000)
          assert.isUndefined(a.fiber().pollUnsafe())
          yield* w.produce(1, 0, "u")
          assert.strictEqual(a.desk.attempts.filter((one) => one.record.topic === "u").length, 4)
        })
    )

    it.effect(
      `D28: deleted and created again (${protocol}): another topic; no commit of the old epoch, all of the new one is read`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ protocol })
          w.expect("backwards")
          w.expect("passedOver")
          yield* w.produce(50)
          const a = yield* w.member("a", { concurrency: 100, batchSize: 1, minCommitInterval: 0 })
          for (let i = 0; i < 40; i++) yield* a.desk.finish(0, i)
          yield* pass(100)
          assert.strictEqual(w.committed(), 40)
          yield* w.kafka.recreateTopic("t")
          const before = w.commits().length
          yield* w.produce(10)
          yield* passUntil("read anew", () => a.desk.started.slice(50).length === 10, 60_000, 1_000)
          assert.strictEqual(a.desk.interrupted.length, 10)
          const [first] = w.commits().slice(before)
          assert.strictEqual(first, "0=0")
          yield* a.desk.finishAll()
          yield* pass(10_000)
          assert.strictEqual(w.committed(), 10)
          assert.notInclude(yield* a.codes, "topicMissing")
        })
    )
  }

  it.effect("D27: a commit that is refused because the topic is gone ends that partition only", () =>
    Effect.gen(function* () {
      const s = yield* given([2, 2], { batchSize: 1 })
      s.session.answers.push(outcomes("rejected", "UNKNOWN_TOPIC_OR_PARTITION"))
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
      assert.deepStrictEqual(s.desk.running, ["1:0", "1:1"])
      assert.deepStrictEqual(
        (yield* s.consumer.health).reasons.map((r) => r.code),
        ["topicMissing"]
      )
      // the client notices it too, later
      yield* s.session.gone(at(0, 1))
      assert.isUndefined(s.fiber().pollUnsafe())
    })
  )

  for (const state of ["opening", "holding", "flushing", "suspended", "draining"] as const) {
    it.effect(`a topic that is gone in state ${state} ends the epoch without a commit`, () =>
      Effect.gen(function* () {
        const s = yield* scripted({ shutdown: "drain" })
        if (state === "opening") {
          s.session.answers.push(() => Effect.never)
          yield* s.session.assign([{ partition: 0, epoch: 1 }])
        } else {
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.chunk(0, 1, 0, 2)
          if (state === "draining") yield* Effect.forkDetach(s.close)
          else {
            if (state === "flushing") s.session.answers.push(() => Effect.never)
            yield* s.session.revoking([at(0, 1)], { exact: state !== "suspended" })
            if (state === "flushing") yield* s.desk.finishAll()
            if (state === "suspended") yield* pass(5_000)
          }
          yield* turns
        }
        assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, state)
        const sent = s.session.sent.length
        yield* s.session.gone(at(0, 1))
        assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
        assert.deepStrictEqual(s.desk.running, [])
        assert.strictEqual(s.session.sent.length, sent)
      })
    )
  }
})
