/** Jobs on real threads: who gets one, when it is over, and what is left. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { availableParallelism } from "node:os"
import { NotCloneable, PoolClosed, WorkerCrashed } from "../src/WorkerError.ts"
import { WorkerPool, type WorkerPoolOptions } from "../src/WorkerPool.ts"
import type * as Bytes from "./modules/bytes.worker.ts"
import * as Jobs from "./modules/jobs.worker.ts"
import { bytes, copyOf, flag, moduleUrl, open, until } from "./support.ts"

const pool = (options: Partial<WorkerPoolOptions> = {}) =>
  WorkerPool.make<typeof Jobs>({ module: moduleUrl("jobs"), error: Jobs.error, size: 1, ...options })

/** One that is there, before anything is done with its fiber. */
const run = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, () => performance.now() - began)
  })

describe("a job", () => {
  it.live("gets its record, and gives back what the handler answers", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* pool()
      const given = record(7, ":a text", {
        key: bytes("key"),
        headers: [
          ["a", bytes("1")],
          ["b", null],
          ["a", bytes("")]
        ],
        attempt: 3,
        epoch: 4,
        generation: 5
      })
      const answer = yield* handle(given)
      assert.deepStrictEqual(answer.record, given)
      assert.strictEqual(answer.text, "a text")
      const tombstone = yield* handle(record(8, "", { value: null }))
      assert.isNull(tombstone.record.value)
    }).pipe(Effect.scoped)
  )

  it.live("takes its record's bytes along and not the chunk that they are a view of, long ones too", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* pool()
      const chunk = Buffer.alloc(1024 * 1024, ":")
      for (const length of [10, 100_000]) {
        const answer = yield* handle(record(1, "", { value: chunk.subarray(1000, 1000 + length) }))
        assert.strictEqual(answer.record.value!.byteLength, length)
        assert.strictEqual(answer.memory, length)
      }
      assert.strictEqual(chunk.buffer.byteLength, 1024 * 1024)
      assert.strictEqual(chunk.toString("latin1", 1000, 1003), ":::")
    }).pipe(Effect.scoped)
  )

  it.live("that answers with bytes gives back those and no more, and keeps its own", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* WorkerPool.make<typeof Bytes>({ module: moduleUrl("bytes"), size: 1 })
      for (const length of [10, 100_000, 10, 100_000]) {
        const answer = yield* handle(record(length, ""))
        assert.deepStrictEqual(answer, new Uint8Array(length).fill(7))
        assert.strictEqual(answer.buffer.byteLength, length)
      }
    }).pipe(Effect.scoped)
  )

  it.live("gets its own answer, whichever of them ends first", () =>
    Effect.gen(function* () {
      const { next, record, release } = yield* open
      const { handle } = yield* pool({ size: 3 })
      const fibers = yield* Effect.forEach([0, 1, 2], (i) => run(handle(record(i, `hold:${i}`))))
      for (const _ of fibers) yield* next("begun")
      for (const offset of [2n, 0n, 1n]) {
        yield* release(offset)
        assert.strictEqual((yield* next("ended")).offset, offset)
      }
      const answers = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(
        answers.map(({ text }) => text),
        ["0", "1", "2"]
      )
      assert.strictEqual(new Set(answers.map(({ thread }) => thread)).size, 3)
    }).pipe(Effect.scoped)
  )
})

describe("a record that cannot cross", () => {
  it.live("fails by itself when its turn comes: the job before it has its answer, and the pool goes on", () =>
    Effect.gen(function* () {
      const { next, record, release } = yield* open
      const { handle, snapshot } = yield* pool()
      const held = yield* run(handle(record(0, "hold:an answer")))
      yield* next("begun")
      const copied = yield* run(Effect.withSpan(handle(copyOf(record(1, ":"))), "around it"))
      const behind = yield* run(handle(record(2, ":behind it")))
      assert.deepInclude(yield* snapshot, { busy: 1, waiting: 2 })
      yield* release(0n)
      assert.strictEqual((yield* Fiber.join(held)).text, "an answer")
      const error = yield* Effect.flip(Fiber.join(copied))
      assert.instanceOf(error, NotCloneable)
      assert.deepInclude(error, { what: "record", isRetryable: false })
      assert.include(error.message, "it has no topic")
      assert.strictEqual((yield* Fiber.join(behind)).text, "behind it")
      assert.deepInclude(yield* snapshot, { threads: 1, busy: 0, waiting: 0, started: 1 })
    }).pipe(Effect.scoped)
  )

  it.live("is told so at once where a thread is idle, which stays so", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle, snapshot } = yield* pool()
      const value = new Uint8Array(8)
      structuredClone(value, { transfer: [value.buffer] })
      for (const given of [copyOf(record(1, ":")), record(1, "", { value })]) {
        const error = yield* Effect.flip(handle(given))
        assert.instanceOf(error, NotCloneable)
        assert.strictEqual(error.what, "record")
        assert.deepInclude(yield* snapshot, { threads: 1, busy: 0, waiting: 0 })
      }
      yield* handle(record(2, ":"))
      assert.deepInclude(yield* snapshot, { started: 1, crashed: 0 })
    }).pipe(Effect.scoped)
  )
})

describe("threads", () => {
  it.live("run one job each, and those that wait begin in their order", () =>
    Effect.gen(function* () {
      const { all, next, record, release } = yield* open
      const { handle, snapshot } = yield* pool({ size: 2 })
      const fibers = yield* Effect.forEach([0, 1, 2, 3, 4], (i) => run(handle(record(i, "hold"))))
      const begun = [(yield* next("begun")).offset, (yield* next("begun")).offset]
      assert.sameMembers(begun, [0n, 1n])
      const full = yield* snapshot
      assert.deepInclude(full, { threads: 2, busy: 2, waiting: 3 })
      for (const offset of [2n, 3n, 4n]) {
        yield* release(offset - 2n)
        assert.strictEqual((yield* next("begun")).offset, offset)
      }
      yield* release(3n)
      yield* release(4n)
      yield* Fiber.joinAll(fibers)
      assert.deepInclude(yield* snapshot, { busy: 0, waiting: 0, started: 2, crashed: 0, terminated: 0 })
      const running = new Set<number>()
      for (const { thread, what } of all) {
        if (what === "begun") assert.isFalse(running.has(thread))
        if (what === "begun") running.add(thread)
        else running.delete(thread)
      }
    }).pipe(Effect.scoped)
  )

  it.live("start when they are needed, and no sooner, where that is asked for", () =>
    Effect.gen(function* () {
      const { next, record, release } = yield* open
      const { handle, snapshot } = yield* pool({ size: 2, start: "lazy" })
      assert.deepInclude(yield* snapshot, { size: 2, threads: 0 })
      yield* handle(record(0, ":"))
      yield* handle(record(1, ":"))
      assert.deepInclude(yield* snapshot, { threads: 1, started: 1 })
      const held = yield* run(handle(record(2, "hold")))
      while ((yield* next("begun")).offset !== 2n);
      yield* handle(record(3, ":"))
      assert.deepInclude(yield* snapshot, { threads: 2, started: 2 })
      yield* release(2n)
      yield* Fiber.join(held)
    }).pipe(Effect.scoped)
  )
})

describe("a pool", () => {
  it.live("has a thread for each core but one, and is called as its module is", () =>
    Effect.gen(function* () {
      const { snapshot } = yield* pool({ size: undefined, start: "lazy" })
      const size = Math.max(1, availableParallelism() - 1)
      assert.deepInclude(yield* snapshot, { name: "jobs.worker.ts", size })
    }).pipe(Effect.scoped)
  )
})

describe("an interrupted record", () => {
  it.live("ends its job at once, though it computes, and another thread takes the place for the next", () =>
    Effect.gen(function* () {
      const { all, next, record, release } = yield* open
      const { handle, snapshot } = yield* pool({ size: 2 })
      const beside = yield* run(handle(record(0, "hold")))
      yield* next("begun")
      const spinning = yield* run(handle(record(1, "spin:60000")))
      const { thread } = yield* next("begun")
      const waiting = yield* run(handle(record(2, ":next")))
      assert.deepInclude(yield* snapshot, { busy: 2, waiting: 1 })
      const millis = yield* elapsed(Fiber.interrupt(spinning))
      assert.isBelow(millis, 10_000)
      // it was over before the interruption was
      assert.deepInclude(yield* snapshot, { threads: 2, busy: 1, waiting: 1, terminated: 1 })
      assert.notStrictEqual((yield* Fiber.join(waiting)).thread, thread)
      assert.deepInclude(yield* snapshot, { started: 3, terminated: 1, crashed: 0 })
      yield* release(0n)
      assert.strictEqual((yield* Fiber.join(beside)).record.offset, 0n)
      assert.isFalse(all.some(({ offset, what }) => offset === 1n && what === "ended"))
    }).pipe(Effect.scoped)
  )

  it.live("runs the finalizers of an effect on its thread, which goes on, though it computes in many steps", () =>
    Effect.gen(function* () {
      const { next, record } = yield* open
      // so long that only its own end can have been waited for
      const { handle, snapshot } = yield* pool({ interruptGrace: "10 minutes" })
      for (const task of ["holdEffect", "turning"]) {
        const fiber = yield* run(handle(record(0, task)))
        const { thread } = yield* next("begun")
        yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* next("finalized")).offset, 0n)
        assert.strictEqual((yield* handle(record(1, ":"))).thread, thread)
        yield* next("ended")
      }
      assert.deepInclude(yield* snapshot, { started: 1, terminated: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("costs the thread where it is a promise, without a wait for what cannot come", () =>
    Effect.gen(function* () {
      const { next, record } = yield* open
      const { handle, snapshot } = yield* pool({ interruptGrace: "10 minutes" })
      const fiber = yield* run(handle(record(0, "hold")))
      const { thread } = yield* next("begun")
      yield* Fiber.interrupt(fiber)
      assert.notStrictEqual((yield* handle(record(1, ":"))).thread, thread)
      assert.deepInclude(yield* snapshot, { started: 2, terminated: 1 })
    }).pipe(Effect.scoped)
  )

  it.live("that waits for a thread never begins", () =>
    Effect.gen(function* () {
      const { all, next, record, release } = yield* open
      const { handle, snapshot } = yield* pool()
      const held = yield* run(handle(record(0, "hold")))
      yield* next("begun")
      const given = yield* run(handle(record(1, ":")))
      const last = yield* run(handle(record(2, ":")))
      yield* Fiber.interrupt(given)
      assert.deepInclude(yield* snapshot, { busy: 1, waiting: 1, terminated: 0 })
      yield* release(0n)
      yield* Fiber.join(held)
      yield* Fiber.join(last)
      assert.isFalse(all.some(({ offset }) => offset === 1n))
    }).pipe(Effect.scoped)
  )
})

describe("a thread that crashes", () => {
  for (const [task, how, exitCode] of [
    ["exit:3", "exit", 3],
    ["uncaught:later", "exception", 1],
    ["memory", "outOfMemory", 1]
  ] as const) {
    it.live(`costs its own record only, and is replaced: ${task}`, () =>
      Effect.gen(function* () {
        const { next, record, release } = yield* open
        const { handle, snapshot } = yield* pool({ size: 2, resourceLimits: { maxOldGenerationSizeMb: 64 } })
        const beside = yield* run(handle(record(0, "hold")))
        const { thread } = yield* next("begun")
        const crashed = yield* Effect.flip(handle(record(1, task)))
        assert.instanceOf(crashed, WorkerCrashed)
        assert.deepInclude(crashed, { how, exitCode })
        assert.deepInclude(yield* snapshot, { threads: 2, busy: 1, started: 3, crashed: 1 })
        const after = yield* handle(record(2, ":"))
        assert.notStrictEqual(after.thread, thread)
        yield* release(0n)
        assert.strictEqual((yield* Fiber.join(beside)).thread, thread)
        assert.deepInclude(yield* snapshot, { started: 3, crashed: 1, terminated: 0 })
      }).pipe(Effect.scoped, quiet)
    )
  }

  it.live("while nothing runs on it costs nothing", () =>
    Effect.gen(function* () {
      const { record, release } = yield* open
      const { handle, snapshot } = yield* pool()
      const { thread } = yield* handle(record(0, "later:an exception after the answer"))
      yield* release(0n)
      yield* until(snapshot, ({ crashed }) => crashed === 1)
      assert.notStrictEqual((yield* handle(record(1, ":"))).thread, thread)
    }).pipe(Effect.scoped, quiet)
  )

  it.live("before the job that it was sent has begun does not cost that either, nor its turn", () =>
    Effect.gen(function* () {
      const { all, record } = yield* open
      const { path, raise } = yield* flag
      const { handle, snapshot } = yield* pool()
      const { thread } = yield* handle(record(0, `blocked:${path}`))
      const sent = yield* run(handle(record(1, ":sent")))
      const waiting = yield* run(handle(record(2, ":")))
      assert.deepInclude(yield* snapshot, { busy: 1, waiting: 1, crashed: 0 })
      yield* raise
      const answer = yield* Fiber.join(sent)
      assert.strictEqual(answer.text, "sent")
      assert.notStrictEqual(answer.thread, thread)
      yield* Fiber.join(waiting)
      assert.deepInclude(yield* snapshot, { started: 2, crashed: 1, busy: 0, waiting: 0 })
      const begun = all.filter(({ what }) => what === "begun").map(({ offset }) => offset)
      assert.deepStrictEqual(begun.slice(0, 2), [0n, 1n])
    }).pipe(Effect.scoped, quiet)
  )

  it.live("before the job that it was sent has begun does not bring back one that is interrupted", () =>
    Effect.gen(function* () {
      const { all, record } = yield* open
      const { path } = yield* flag
      const { handle, snapshot } = yield* pool()
      yield* handle(record(0, `blocked:${path}`))
      const sent = yield* run(handle(record(1, ":")))
      yield* Fiber.interrupt(sent)
      yield* handle(record(2, ":"))
      assert.deepInclude(yield* snapshot, { started: 2, terminated: 1, crashed: 0, busy: 0, waiting: 0 })
      assert.isFalse(all.some(({ offset }) => offset === 1n))
    }).pipe(Effect.scoped, quiet)
  )

  it.live("twice before a job begins fails that: what ends it may be the record", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle, snapshot } = yield* WorkerPool.make({ module: moduleUrl("exitsFirst"), size: 1 })
      const error = yield* Effect.flip(handle(record(1, "")))
      assert.instanceOf(error, WorkerCrashed)
      assert.deepInclude(error, { how: "exit", exitCode: 9 })
      assert.deepInclude(yield* snapshot, { crashed: 2, busy: 0, waiting: 0 })
    }).pipe(Effect.scoped, quiet)
  )
})

describe("the end of the scope", () => {
  it.effect("ends what runs and what waits, which has a minute to be interrupted, and leaves no thread", () =>
    Effect.gen(function* () {
      const { all, next, record } = yield* open
      const scope = yield* Scope.make()
      const { handle, snapshot } = yield* Scope.provide(pool({ size: 3 }), scope)
      const fibers = [yield* run(handle(record(0, "spin:60000"))), yield* run(handle(record(1, "hold")))]
      const left = [yield* run(handle(record(2, "hold"))), yield* run(handle(record(3, ":")))]
      for (let i = 0; i < 3; i++) yield* next("begun")
      const millis = yield* elapsed(Scope.close(scope, Exit.void))
      assert.isBelow(millis, 10_000)
      assert.deepInclude(yield* snapshot, { threads: 0, busy: 0, waiting: 0, started: 3, crashed: 0 })
      fibers.push(yield* run(handle(record(4, ":"))))
      yield* TestClock.adjust("59 seconds")
      for (const fiber of left) {
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }
      // two that ran, and one that came after
      for (const fiber of fibers) assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      for (const fiber of fibers) assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), PoolClosed)
      assert.isFalse(all.some(({ what }) => what === "ended"))
    }).pipe(Effect.scoped)
  )

  it.effect("while the threads still load leaves none either", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const scope = yield* Scope.make()
      const { handle, snapshot } = yield* Scope.provide(pool({ start: "lazy" }), scope)
      const fiber = yield* run(handle(record(0, ":")))
      assert.deepInclude(yield* snapshot, { threads: 1, busy: 0, waiting: 1 })
      yield* Scope.close(scope, Exit.void)
      assert.deepInclude(yield* snapshot, { threads: 0, waiting: 0 })
      yield* TestClock.adjust("1 minute")
      assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), PoolClosed)
    }).pipe(Effect.scoped)
  )

  it.live("ends the making of a pool, too", () =>
    Effect.gen(function* () {
      const fiber = yield* run(Effect.scoped(WorkerPool.make({ module: moduleUrl("never"), size: 2 })))
      yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    })
  )
})
