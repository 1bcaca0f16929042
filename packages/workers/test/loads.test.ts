/** Modules that could be loaded, and then cannot any more. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import { Loads } from "../src/internal/loads.ts"
import { ModuleUnusable, WorkerCrashed } from "../src/WorkerError.ts"
import { WorkerPool, type WorkerPoolOptions } from "../src/WorkerPool.ts"
import type * as Breakable from "./modules/breakable.worker.ts"
import * as Jobs from "./modules/jobs.worker.ts"
import { flag, moduleUrl, open, until } from "./support.ts"

/** Of a module that is broken while the flag is raised. */
const breakable = Effect.fnUntraced(function* (options: Partial<WorkerPoolOptions>) {
  const { lower, path, raise } = yield* flag
  const module = moduleUrl("breakable")
  module.searchParams.set("broken", path)
  const pool = yield* WorkerPool.make<typeof Breakable>({ module, error: Jobs.error, ...options })
  return { ...pool, break: raise, mend: lower }
})

const run = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

describe("a thread whose replacement does not load", () => {
  it.effect("fails no job while another thread is there, and comes back after a pause", () =>
    Effect.gen(function* () {
      const { next, record, release } = yield* open
      const { break: breaks, handle, mend, snapshot } = yield* breakable({ size: 2 })
      yield* until(snapshot, ({ threads }) => threads === 2)
      const held = yield* run(handle(record(0, "hold:held")))
      yield* next("begun")
      const dying = yield* run(handle(record(1, "holdExit:1")))
      yield* next("begun")
      yield* breaks
      yield* release(1n)
      assert.instanceOf(yield* Effect.flip(Fiber.join(dying)), WorkerCrashed)
      const waiting = yield* Effect.forEach([2, 3], (i) => run(handle(record(i, "hold"))))
      // the one that was to replace it
      yield* until(snapshot, ({ threads }) => threads === 1)
      assert.deepInclude(yield* snapshot, { busy: 1, waiting: 2, started: 3 })
      yield* release(0n)
      assert.strictEqual((yield* Fiber.join(held)).text, "held")
      assert.strictEqual((yield* next("begun")).offset, 2n)
      yield* mend
      yield* TestClock.adjust("999 millis")
      assert.deepInclude(yield* snapshot, { threads: 1, busy: 1, waiting: 1, started: 3 })
      yield* TestClock.adjust("1 millis")
      while ((yield* next("begun")).offset !== 3n);
      assert.deepInclude(yield* snapshot, { threads: 2, busy: 2, waiting: 0, started: 4, crashed: 1 })
      yield* release(2n)
      yield* release(3n)
      yield* Fiber.joinAll(waiting)
    }).pipe(Effect.scoped, quiet)
  )

  it.effect("is tried again, one at a time and ever later, until it does; each that waits is told of a try", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { break: breaks, handle, mend, snapshot } = yield* breakable({ size: 2, start: "lazy" })
      yield* breaks
      const errors = yield* Effect.forEach([1, 2, 3], (i) => Effect.flip(handle(record(i, ":"))), {
        concurrency: "unbounded"
      })
      for (const error of errors) {
        assert.instanceOf(error, ModuleUnusable)
        assert.deepInclude(error, { why: "import", isRetryable: true })
      }
      // the jobs wait for no thread that has begun to end
      yield* until(snapshot, ({ threads }) => threads === 0)
      assert.deepInclude(yield* snapshot, { waiting: 0, started: 2 })
      let started = 2
      for (const seconds of [1, 2]) {
        const fibers = yield* Effect.forEach([4, 5], (i) => run(handle(record(i, ":"))))
        yield* TestClock.adjust(seconds * 1000 - 1)
        assert.deepInclude(yield* snapshot, { waiting: 2, threads: 0, started })
        yield* TestClock.adjust(1)
        assert.deepInclude(yield* snapshot, { waiting: 2, threads: 1, started: ++started })
        for (const fiber of fibers) assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), ModuleUnusable)
      }
      yield* mend
      const last = yield* run(handle(record(6, ":mended")))
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* Fiber.join(last)).text, "mended")
      assert.deepInclude(yield* snapshot, { started: 5, waiting: 0, crashed: 0, terminated: 0 })
    }).pipe(Effect.scoped, quiet)
  )
})

describe("the pause before a module is loaded again", () => {
  it("grows from a second to half a minute, and is short again after a load that succeeded", () => {
    const pauses: Array<number> = []
    let end = () => {}
    const loads = new Loads(
      (millis, f) => {
        pauses.push(millis)
        end = f
        return () => undefined
      },
      () => undefined
    )
    const fail = () => {
      loads.failed()
      // of another that had begun to load before it
      loads.failed()
      assert.isFalse(loads.mayStart(0))
      end()
      assert.isTrue(loads.mayStart(0))
      assert.isFalse(loads.mayStart(1))
    }
    for (let i = 0; i < 8; i++) fail()
    assert.deepStrictEqual(
      pauses,
      [1, 2, 4, 8, 16, 30, 30, 30].map((seconds) => seconds * 1000)
    )
    loads.succeeded()
    assert.isTrue(loads.mayStart(1))
    fail()
    assert.strictEqual(pauses.at(-1), 1000)
  })
})
