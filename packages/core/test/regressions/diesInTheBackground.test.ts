import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { Desk, passUntil, turns } from "../harness.ts"
import { at, scripted } from "../script.ts"

describe("a defect of the client beside the records", () => {
  it.effect(
    "in the reading of the log's ends ends the consumer: the partition would never open, and nobody would know",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        s.session.log = Effect.die("a fault of the client")
        yield* s.session.assign([{ partition: 0, epoch: 1 }])
        yield* passUntil("the run has ended", () => s.fiber().pollUnsafe() !== undefined)
        const exit = s.fiber().pollUnsafe() as Exit.Failure<void, unknown>
        assert.include(String(Cause.squash(exit.cause)), "a fault of the consumer itself")
        assert.strictEqual((yield* s.consumer.health).live, false)
      })
  )

  const throwing = (partition: number) => ({
    _tag: "Revoking" as const,
    partitions: [at(partition, 1)],
    exact: true,
    hold: 10_000,
    acknowledgeUnsafe: () => {
      throw new Error("a fault of the client")
    }
  })

  it.effect("in the answer to a revoke at the deadline of the close: the group is left and the run ends", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) }),
        shutdown: "drain",
        shutdownTimeout: "4 seconds"
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.desk.finish(0, 0)
      // the flush is not over at the deadline either
      s.session.answers.push(() => Effect.never)
      yield* Effect.forkChild(s.interrupt, { startImmediately: true })
      yield* turns
      yield* s.session.signal(throwing(0))
      yield* passUntil("the group is left", () => s.session.leaves > 0, 10_000)
      yield* passUntil("the run has ended", () => s.fiber().pollUnsafe() !== undefined, 10_000)
    })
  )

  it.effect("while the consumer drains: nothing can be trusted any more, so nothing is waited for or committed", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ shutdown: "drain" })
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 1, committed: 0 }
      ])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.chunk(1, 1, 0, 2)
      yield* s.session.signal(throwing(0))
      yield* Effect.forkChild(s.interrupt, { startImmediately: true })
      yield* turns
      yield* s.desk.finish(1, 0)
      yield* s.desk.finish(0, 0)
      yield* passUntil("the run has ended", () => s.fiber().pollUnsafe() !== undefined, 2000)
      assert.deepStrictEqual(s.desk.interrupted, ["1:1"])
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual(s.session.leaves, 1)
    })
  )
})
