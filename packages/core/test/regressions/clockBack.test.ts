import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { FailurePolicy } from "../../src/FailurePolicy.ts"
import { Handler } from "../../src/Handler.ts"
import { Desk, pass } from "../harness.ts"
import { at, scripted } from "../script.ts"

/** A clock whose time of day can be set back, as NTP does, while its timers go on. */
const adjustable = (clock: Clock.Clock) => {
  const behind = { millis: 0 }
  return {
    behind,
    clock: {
      // oxlint-disable-next-line typescript/no-misused-spread -- TestClock is found by functions that it has itself
      ...clock,
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() - behind.millis,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now - behind.millis),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() - BigInt(behind.millis) * 1_000_000n,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      sleep: (duration) => clock.sleep(duration)
    } satisfies Clock.Clock
  }
}

describe("the time of day is set back by an hour", () => {
  it.effect("commits go on", () =>
    Effect.gen(function* () {
      const { behind, clock } = adjustable(yield* Clock.Clock)
      const s = yield* Effect.provideService(scripted({ batchSize: 1 }), Clock.Clock, clock)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.desk.finish(0, 0)
      yield* pass(100)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      behind.millis = 3_600_000
      yield* s.desk.finish(0, 1)
      yield* pass(1000)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=2"])
    })
  )

  it.effect("late attempts are interrupted in time", () =>
    Effect.gen(function* () {
      const { behind, clock } = adjustable(yield* Clock.Clock)
      const desk = new Desk()
      const handler = Handler.make("t", desk.handle).pipe(Handler.timeout("2 seconds")) as Handler<never, never>
      const s = yield* Effect.provideService(
        scripted({ desk, handler, policy: FailurePolicy.skip }),
        Clock.Clock,
        clock
      )
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(1000)
      behind.millis = 3_600_000
      yield* s.session.chunk(0, 1, 1, 2)
      yield* pass(1000)
      assert.deepStrictEqual(desk.interrupted, ["0:0"])
      yield* pass(1000)
      assert.deepStrictEqual(desk.interrupted, ["0:0", "0:1"])
    })
  )

  it.effect("a record that had run for long when a revoke came is not waited for, and health calls it stuck", () =>
    Effect.gen(function* () {
      const { behind, clock } = adjustable(yield* Clock.Clock)
      const s = yield* Effect.provideService(scripted({ stuckAfter: "10 seconds" }), Clock.Clock, clock)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(12_000)
      behind.millis = 3_600_000
      assert.deepStrictEqual(
        (yield* s.consumer.health).reasons.map(({ code }) => code),
        ["stuck"]
      )
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(100)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.running, ["0:0"])
    })
  )
})
