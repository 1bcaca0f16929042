/**
 * Time and turns of the cluster. Everything that happens later goes through the Clock and the Scheduler that the cluster
 * was made with, so that under TestClock a run depends on nothing but the calls that were made.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"

export interface Time {
  /** milliseconds since 1970 on the cluster's clock */
  readonly now: () => number
  /** Zero is the next turn of the scheduler, also under TestClock, whose own sleep of zero does not yield. */
  readonly sleep: (ms: number) => Effect.Effect<void>
  /** Runs `f` after `ms`; the result cancels it. */
  readonly after: (ms: number, f: () => void) => () => void
  /**
   * Runs `f` in the next turn. Fibers are only woken from here: waking one runs it at once, inside of whatever the broker is
   * just doing, and a half-changed group would be seen.
   */
  readonly defer: (f: () => void) => void
  /** Runs an effect for as long as the cluster lives. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

export const make: Effect.Effect<Time, never, Scope.Scope> = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const dispatcher = (yield* Scheduler.Scheduler).makeDispatcher()
  const run = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  const sleep = (ms: number): Effect.Effect<void> =>
    ms <= 0 ? Effect.yieldNow : clock.sleep(Duration.millis(Math.min(ms, Number.MAX_SAFE_INTEGER)))
  const fork = (effect: Effect.Effect<void>) =>
    run(Effect.tapCause(effect, (cause) => Effect.logError("MemoryKafka: a defect in the broker", cause)))
  return {
    now: () => clock.currentTimeMillisUnsafe(),
    sleep,
    after: (ms, f) => {
      const fiber = fork(Effect.andThen(sleep(ms), Effect.sync(f)))
      return () => fiber.interruptUnsafe()
    },
    defer: (f) => dispatcher.scheduleTask(f, 0),
    fork
  }
})

/**
 * Something that happens unless it is put off. Putting off costs an assignment: heartbeats do it all the time, so the timer
 * that runs looks for itself, when it rings, whether it was meant.
 */
export class Deadline {
  private readonly time: Time
  private readonly expire: () => void
  private at = Infinity
  private cancel: (() => void) | undefined
  private ringsAt = Infinity

  constructor(time: Time, expire: () => void) {
    this.time = time
    this.expire = expire
  }

  /** From now on in `ms`. */
  set(ms: number): void {
    this.at = this.time.now() + ms
    if (this.cancel !== undefined && this.ringsAt <= this.at) return
    this.cancel?.()
    this.arm()
  }

  stop(): void {
    this.at = Infinity
    this.cancel?.()
    this.cancel = undefined
    this.ringsAt = Infinity
  }

  private arm(): void {
    this.ringsAt = this.at
    this.cancel = this.time.after(this.at - this.time.now(), () => {
      this.cancel = undefined
      this.ringsAt = Infinity
      if (this.at === Infinity) return
      if (this.at > this.time.now()) return this.arm()
      this.at = Infinity
      this.expire()
    })
  }
}
