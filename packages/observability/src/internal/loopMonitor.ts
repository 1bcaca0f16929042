/**
 * How long the event loop stands still, measured by Node.
 *
 * Two histograms are emptied in turn, one each half minute: the older one always has the last half minute, and at most the last whole one.
 * Neither is emptied by being read, so that several readers see the same.
 */
import { LoopDelay } from "@concurrent-kafka/core/Health"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { LoopWatch } from "./loopWatch.ts"

/** what Node measures with: a timer of this many milliseconds, whose own time is part of what it records */
const resolutionMillis = 20
const looks = "1 second"
/** of these looks, after how many the other one is emptied */
const looksPerTurn = 30

/** Milliseconds, of the last half to whole minute. */
export interface Delays {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly mean: number
  readonly max: number
}

class Histogram {
  private readonly histogram = monitorEventLoopDelay({ resolution: resolutionMillis })
  /** of the greatest */
  private seen = 0
  at = 0

  constructor() {
    this.histogram.enable()
  }
  look(now: number): void {
    if (this.histogram.max <= this.seen) return
    this.seen = this.histogram.max
    this.at = now
  }
  empty(): void {
    this.histogram.reset()
    this.seen = 0
  }
  stop(): void {
    this.histogram.disable()
  }
  /** undefined when nothing was measured yet */
  get delays(): Delays | undefined {
    const { histogram } = this
    if (histogram.count === 0) return undefined
    return {
      p50: millis(histogram.percentile(50)),
      p90: millis(histogram.percentile(90)),
      p99: millis(histogram.percentile(99)),
      mean: millis(histogram.mean),
      max: millis(histogram.max)
    }
  }
}

const millis = (nanos: number): number => Math.max(0, nanos / 1e6 - resolutionMillis)

export class LoopMonitor implements LoopDelay {
  private older = new Histogram()
  private younger = new Histogram()
  private looks = 0
  private readonly now: () => number
  private readonly watch: LoopWatch
  readonly sessionUnsafe: LoopWatch["add"]

  /** `withoutThread`: called once, when nobody can say anything while the event loop stands still. */
  constructor(now: () => number, withoutThread: (cause: unknown) => void) {
    this.now = now
    this.watch = new LoopWatch(withoutThread)
    this.sessionUnsafe = this.watch.add
  }

  /** Once a second: what is the longest so far, since when, and whose turn it is. */
  look(): void {
    const now = this.now()
    this.older.look(now)
    this.younger.look(now)
    if (++this.looks < looksPerTurn) return
    this.looks = 0
    const emptied = this.older
    emptied.empty()
    this.older = this.younger
    this.younger = emptied
  }

  readonly longestUnsafe = (): ReturnType<LoopDelay["longestUnsafe"]> => {
    this.older.look(this.now())
    const { delays } = this.older
    return delays === undefined ? undefined : { millis: delays.max, at: this.older.at }
  }

  get delays(): Delays | undefined {
    return this.older.delays
  }

  stop(): void {
    this.watch.stop()
    this.older.stop()
    this.younger.stop()
  }
}

/** What `/metrics` reads; `undefined`: nobody measures. */
export const Monitor = Context.Reference<LoopMonitor | undefined>("@concurrent-kafka/observability/Monitor", {
  defaultValue: () => undefined
})

export const layer: Layer.Layer<never> = Layer.effectContext(
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const withoutThread = (cause: unknown) =>
      void run(
        Effect.logWarning(
          "no thread can be had that watches the event loop: while it stands still nothing warns of sessions that are about to end; " +
            "health and metrics still say afterwards that it did",
          cause
        )
      )
    const monitor = yield* Effect.acquireRelease(
      Effect.sync(() => new LoopMonitor(() => clock.currentTimeMillisUnsafe(), withoutThread)),
      (monitor) => Effect.sync(() => monitor.stop())
    )
    yield* Effect.forkScoped(
      Effect.repeat(
        Effect.sync(() => monitor.look()),
        Schedule.spaced(looks)
      )
    )
    return Context.make(LoopDelay, monitor).pipe(Context.add(Monitor, monitor))
  })
)
