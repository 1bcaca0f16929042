import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { pass } from "../harness.ts"
import { at, scripted } from "../script.ts"

/** A clock that may be behind its timers, as that of Node is: they run from the beginning of a turn of the event loop. */
const lagging = (clock: Clock.Clock) => {
  const lag = { millis: 0 }
  return {
    lag,
    clock: {
      // oxlint-disable-next-line typescript/no-misused-spread -- TestClock is found by functions that it has itself
      ...clock,
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() - lag.millis,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now - lag.millis),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      sleep: (duration) => clock.sleep(duration)
    } satisfies Clock.Clock
  }
}

describe("a timer that comes a moment before the clock says so", () => {
  for (const exact of [false, true]) {
    it.effect(`ends the drain of ${exact ? "an exact" : "an eager"} revoke all the same`, () =>
      Effect.gen(function* () {
        const { clock, lag } = lagging(yield* Clock.Clock)
        const s = yield* Effect.provideService(scripted({ revokeDrain: 500 }), Clock.Clock, clock)
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 1)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact })
        lag.millis = 1
        yield* pass(500)
        assert.isTrue(revoke.answered())
      })
    )
  }

  it.effect("ends the drain of a close all the same", () =>
    Effect.gen(function* () {
      const { clock, lag } = lagging(yield* Clock.Clock)
      const s = yield* Effect.provideService(
        scripted({ shutdown: "drain", shutdownTimeout: 5000, interruptGrace: 500, flushReserve: 500 }),
        Clock.Clock,
        clock
      )
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.desk.finish(0, 0)
      yield* Effect.forkChild(s.interrupt, { startImmediately: true })
      yield* pass(0)
      lag.millis = 1
      yield* pass(4000)
      assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual(s.session.leaves, 1)
    })
  )
})
