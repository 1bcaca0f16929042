import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { pass, passUntil, turns, world } from "./harness.ts"
import { at, given, scripted } from "./script.ts"

const p0 = { topic: "t", partition: 0 }
const p1 = { topic: "t", partition: 1 }

describe("pause", () => {
  it.effect(
    "the consumer's: nothing starts, nothing is fetched; what runs finishes and is committed; ready, with a reason",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(10)
        const a = yield* w.member("a", { concurrency: 3, batchSize: 1, minCommitInterval: 0 })
        yield* a.consumer.pause()
        yield* a.desk.finish(0, 0, 1, 2)
        yield* w.produce(10)
        yield* pass(60_000)
        assert.deepStrictEqual(a.desk.running, [])
        assert.strictEqual(w.committed(), 3)
        assert.isTrue(a.session().heldUnsafe()[0]!.paused)
        const health = yield* a.health
        assert.deepInclude(health, { status: "ok", live: true, ready: true })
        assert.deepStrictEqual(yield* a.codes, ["paused"])
        yield* a.consumer.resume()
        yield* turns
        assert.deepStrictEqual(a.desk.running, ["0:3", "0:4", "0:5"])
        assert.deepStrictEqual(yield* a.codes, [])
      })
  )

  it.effect("the consumer's survives rebalances, a seek and runs; also before the first assignment", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(5, p)
      const a = yield* w.member("a", { idle: true })
      yield* a.consumer.pause()
      yield* a.run
      yield* w.kafka.rebalance("g")
      yield* pass(10_000)
      w.expect("passedOver")
      yield* a.consumer.seek(p0, 2n)
      yield* pass(1_000)
      assert.deepStrictEqual(a.desk.started, [])
      yield* a.interrupt
      yield* a.run
      yield* pass(1_000)
      assert.deepStrictEqual(a.desk.started, [])
      yield* a.consumer.resume()
      yield* turns
      assert.strictEqual(a.desk.running.length, 8)
    })
  )

  it.effect("some partitions: ends with their epoch; the others go on", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.consumer.pause([p0])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.session.chunk(1, 2, 0, 2)
      assert.deepStrictEqual(s.desk.running, ["1:0", "1:1"])
      assert.deepStrictEqual([...s.session.paused], [0])
      assert.deepStrictEqual((yield* s.consumer.health).reasons, [
        { code: "paused", message: "some partitions are paused", since: 0, count: 1, at: p0 }
      ])
      yield* s.session.assign([
        { partition: 0, epoch: 3, committed: 0 },
        { partition: 1, epoch: 2, retained: true, committed: 0 }
      ])
      s.session.paused.clear()
      yield* s.session.chunk(0, 3, 0, 2)
      assert.includeMembers([...s.desk.running], ["0:0", "0:1"])
    })
  )

  it.effect("resume of some undoes their own pause only: a consumer that is paused as a whole stays so", () =>
    Effect.gen(function* () {
      const s = yield* given([2])
      yield* s.consumer.pause([p0])
      yield* s.consumer.resume([p0])
      assert.deepStrictEqual([...s.session.paused], [])
      yield* s.consumer.pause()
      yield* s.consumer.resume([p0])
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* s.consumer.resume()
      assert.deepStrictEqual([...s.session.paused], [])
      // everything
      yield* s.consumer.pause([p0])
      yield* s.consumer.resume()
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  it.effect("a partition that is not owned: a typed error, and none of the others is paused", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      for (const call of [s.consumer.pause([p0, p1]), s.consumer.resume([p1])]) {
        const exit = yield* Effect.exit(call)
        const error = Cause.squash((exit as Exit.Failure<void, ConsumerError>).cause) as ConsumerError
        assert.deepStrictEqual(error.reason, { _tag: "NotOwned", topic: "t", partition: 1 })
      }
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  it.effect("D26: the user's pause against ours: a resume takes away its own reason, nothing else", () =>
    Effect.gen(function* () {
      const s = yield* given([10], { maxHeldRecords: 10, concurrency: 1 })
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, ["full"])
      yield* s.consumer.pause([p0])
      yield* s.consumer.resume([p0])
      // still full: nothing is fetched
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* s.consumer.pause([p0])
      for (let i = 0; i < 1; i++) yield* s.desk.finish(0, i)
      yield* s.consumer.resume([p0])
      for (let i = 1; i < 6; i++) yield* s.desk.finish(0, i)
      assert.deepStrictEqual([...s.session.paused], [])
      // ours ends while the user's stands
      yield* s.session.chunk(0, 1, 10, 20)
      yield* s.consumer.pause([p0])
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, ["user", "full"])
      yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.includeMembers([...(yield* s.consumer.snapshot).partitions[0]!.paused], ["user", "holding"])
      yield* s.desk.finishAll()
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 7 }])
      assert.include((yield* s.consumer.snapshot).partitions[0]!.paused, "user")
      assert.notInclude((yield* s.consumer.snapshot).partitions[0]!.paused, "holding")
      assert.deepStrictEqual(s.desk.running, [])
      yield* s.consumer.resume([p0])
      yield* turns
      assert.strictEqual(s.desk.running.length, 1)
    })
  )

  it.effect("D26: a user's resume does not end the hold of a revoke, nor the limit behind a stuck record", () =>
    Effect.gen(function* () {
      const s = yield* given([10], { maxUncommitted: 3, concurrency: 10 })
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, ["uncommitted"])
      yield* s.consumer.pause()
      yield* s.consumer.resume()
      assert.deepStrictEqual(s.desk.running, ["0:0", "0:1", "0:2"])
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* s.consumer.pause()
      yield* s.consumer.resume()
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.desk.running, ["0:1", "0:2"])
    })
  )

  it.effect("what a paused partition holds does not count against the others", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 3, maxChunk: 50 })
      for (let p = 0; p < 3; p++) yield* w.produce(200, p)
      const a = yield* w.member("a", { maxHeldRecords: 100, concurrency: 200 })
      yield* a.consumer.pause([p0, p1])
      w.expect("passedOver")
      yield* passUntil("the third partition is done", () => {
        for (const attempt of a.desk.attempts) if (attempt.record.partition === 2) attempt.end(Exit.void)
        return a.desk.attempts.filter((attempt) => attempt.record.partition === 2).length === 200
      })
    })
  )
})
