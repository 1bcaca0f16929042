import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ConsumerError } from "../src/ConsumerError.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { Desk, pass, turns, world } from "./harness.ts"
import { at, given, later, outcomes, scripted } from "./script.ts"

const p0 = { topic: "t", partition: 0 }
const refused = (exit: Exit.Exit<void, ConsumerError>) => {
  assert.isTrue(Exit.isFailure(exit))
  const error = Cause.squash((exit as Exit.Failure<void, ConsumerError>).cause) as ConsumerError
  assert.deepStrictEqual(error.reason, { _tag: "NotOwned", topic: "t", partition: 0 })
  assert.include(error.message, "t/0")
}

describe("seek", () => {
  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `D25: back and forth (${protocol}): a new epoch each time, committed before anything is fetched, in-flight records interrupted`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ protocol })
          w.expect("backwards")
          w.expect("passedOver")
          yield* w.produce(20)
          const a = yield* w.member("a", { concurrency: 4, batchSize: 1, minCommitInterval: 0 })
          yield* a.desk.finish(0, 0, 1, 2)
          yield* a.consumer.seek(p0, 15n)
          assert.strictEqual(w.committed(), 15)
          assert.deepStrictEqual(a.desk.interrupted, ["0:3", "0:4", "0:5", "0:6"])
          yield* turns
          assert.deepStrictEqual(a.desk.running, ["0:15", "0:16", "0:17", "0:18"])
          yield* a.consumer.seek(p0, "start")
          assert.strictEqual(w.committed(), 0)
          yield* turns
          assert.deepStrictEqual(a.desk.running, ["0:0", "0:1", "0:2", "0:3"])
          yield* a.consumer.seek(p0, "end")
          assert.strictEqual(w.committed(), 20)
          yield* turns
          assert.deepStrictEqual(a.desk.running, [])
          yield* w.produce(1)
          assert.deepStrictEqual(a.desk.running, ["0:20"])
          const epochs = a.desk.attempts.map((attempt) => attempt.record.epoch)
          assert.strictEqual(new Set(epochs).size, 4)
          // it outlives a rebalance
          yield* w.kafka.rebalance("g")
          yield* a.desk.finish(0, 20)
          yield* pass(20_000)
          assert.strictEqual(w.committed(), 21)
        })
    )
  }

  it.effect("D25: a chunk that was fetched before the seek is told from one after it, and dropped", () =>
    Effect.gen(function* () {
      const s = yield* given([1])
      yield* s.consumer.seek(p0, 50n)
      assert.deepStrictEqual(s.session.begun, ["0#1@0", "0#1001@50"])
      yield* s.session.chunk(0, 1, 1, 10)
      yield* s.session.chunk(0, 1001, 50, 51)
      assert.deepStrictEqual(s.desk.running, ["0:50"])
      assert.strictEqual((yield* s.consumer.snapshot).fenced, 9)
    })
  )

  it.effect("D25: a record that ignores its interruption settles nothing in the new epoch", () =>
    Effect.gen(function* () {
      const s = yield* given([1], {
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) }),
        batchSize: 1,
        minCommitInterval: 0
      })
      yield* s.consumer.seek(p0, 0n)
      yield* s.session.chunk(0, 1001, 0, 1)
      s.desk.attempts[0]!.end(Exit.void)
      yield* pass(100)
      assert.deepStrictEqual(s.session.commits, ["0=0"])
      yield* s.desk.finish(0, 0)
      yield* pass(100)
      assert.deepStrictEqual(s.session.commits, ["0=0", "0=1"])
    })
  )

  it.effect("completes when the offset is committed and fetching has begun; tries until it is", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      const late = later()
      s.session.answers.push(late.answer)
      s.session.log = Effect.fail(new KafkaClientError({ reason: "Timeout", detail: "no" }))
      const seek = yield* Effect.forkChild(s.consumer.seek(p0, "end"))
      yield* pass(1_200)
      assert.isUndefined(seek.pollUnsafe())
      s.session.log = { start: 0n, end: 42n }
      yield* pass(500)
      assert.isUndefined(seek.pollUnsafe())
      assert.deepStrictEqual(s.session.commits, ["0=42"])
      yield* late.give()
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(seek)))
      assert.deepStrictEqual(s.session.begun, ["0#1@0", "0#1001@42"])
    })
  )

  it.effect(
    "D25: a rebalance before the seek is through: retained, it begins where it was moved to, not where the group had committed",
    () =>
      Effect.gen(function* () {
        for (const to of [50n, "end"] as const) {
          const s = yield* scripted()
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          const late = later()
          s.session.answers.push(late.answer)
          const seek = yield* Effect.forkChild(s.consumer.seek(p0, to))
          yield* turns
          yield* s.session.revoking([at(0, 1001)], { exact: false })
          yield* late.give(outcomes("deferred", "REBALANCE_IN_PROGRESS"))
          yield* s.session.assign([{ partition: 0, epoch: 1001, retained: true, committed: 0 }])
          yield* pass(4_000)
          assert.deepStrictEqual(s.session.begun, ["0#1@0", to === "end" ? "0#1001@100" : "0#1001@50"])
          assert.isTrue(Exit.isSuccess(yield* Fiber.await(seek)))
        }
      })
  )

  it.effect("a partition that is not ours, or not ours to move now: a typed error", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ shutdown: "drain" })
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      // being established
      const late = later()
      s.session.answers.push(late.answer)
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      yield* late.give()
      yield* s.session.chunk(0, 1, 0, 1)
      // being revoked
      yield* s.session.revoking([at(0, 1)], { exact: false })
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      yield* s.desk.finish(0, 0)
      assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, "suspended")
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
      yield* s.session.chunk(0, 1, 1, 2)
      // the client does not hold it any more, and has not said so yet
      s.session.reopens = false
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      s.session.reopens = true
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 1 }])
      yield* s.session.chunk(0, 2, 1, 2)
      // closing
      const closing = yield* Effect.forkChild(s.close)
      yield* turns
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
      yield* s.desk.finishAll()
      yield* Fiber.join(closing)
      refused(yield* Effect.exit(s.consumer.seek(p0, 5n)))
    })
  )

  it.effect("a partition that is taken away before the seek is through: a typed error", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      s.session.answers.push(later().answer)
      const seek = yield* Effect.forkChild(Effect.exit(s.consumer.seek(p0, 5n)))
      yield* turns
      yield* s.session.lost(at(0, 1001))
      refused(yield* Fiber.join(seek))
    })
  )
})
