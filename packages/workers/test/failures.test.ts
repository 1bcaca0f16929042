/** What comes back from a thread when it is no answer, and modules that are none. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { JobFailed, ModuleUnusable, NotCloneable, PoolClosed, WorkerCrashed } from "../src/WorkerError.ts"
import { WorkerPool, type WorkerPoolOptions } from "../src/WorkerPool.ts"
import * as Jobs from "./modules/jobs.worker.ts"
import { bytes, moduleUrl, open } from "./support.ts"

const pool = WorkerPool.make<typeof Jobs>({ module: moduleUrl("jobs"), error: Jobs.error, size: 1 })
const plain = (options: Partial<WorkerPoolOptions>) =>
  WorkerPool.make({ module: moduleUrl("jobs"), size: 1, error: undefined, ...options })

describe("a handler's errors", () => {
  it.live("are what they were, by the schema that the module exports: thrown, rejected, or an effect's", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* pool
      for (const task of ["throw", "reject", "fail"]) {
        const error = yield* Effect.flip(handle(record(1, `${task}:why`)))
        assert.instanceOf(error, Jobs.BadJob)
        assert.strictEqual(error.text, "why")
        assert.deepStrictEqual(error.at, new Date(0))
      }
    }).pipe(Effect.scoped)
  )

  it.live("that no schema knows come with name, message, and the place where they were made", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* pool
      const failed = (task: string) => Effect.flip(handle(record(1, task)))
      const unheard = yield* failed("unheard:why")
      assert.instanceOf(unheard, JobFailed)
      assert.deepInclude(unheard, { kind: "error", name: "Unheard" })
      assert.match(unheard.stack ?? "", /^JobFailed: .*\n +at .*jobs\.worker\.ts/)
      const died = yield* failed("die:a bug")
      assert.instanceOf(died, JobFailed)
      assert.deepInclude(died, { kind: "defect", name: "TypeError", detail: "a bug" })
      assert.deepInclude(yield* failed("string:words"), { kind: "error", name: "string", detail: "words" })
      assert.deepInclude(yield* failed("interrupt"), { kind: "interrupted" })
      assert.deepInclude(yield* failed("nothing"), { kind: "error", name: "Error", detail: "there is no task nothing" })
    }).pipe(Effect.scoped)
  )

  it.live("and answers that cannot be cloned are told as such, and the thread goes on", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle, snapshot } = yield* pool
      const answer = yield* Effect.flip(handle(record(1, "function:f")))
      assert.instanceOf(answer, NotCloneable)
      assert.strictEqual(answer.what, "result")
      assert.include(answer.message, "could not be cloned")
      const error = yield* Effect.flip(handle(record(1, "unclear:f")))
      assert.instanceOf(error, NotCloneable)
      assert.strictEqual(error.what, "error")
      yield* handle(record(2, ":"))
      assert.deepInclude(yield* snapshot, { started: 1, crashed: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("do not come through where the pool has another schema", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* plain({})
      const error = yield* Effect.flip(handle(record(1, "throw:why")))
      assert.instanceOf(error, JobFailed)
      assert.include(error.detail, "`error`")
    }).pipe(Effect.scoped)
  )
})

describe("a job", () => {
  it.live("that is an effect has a Scope, which is closed with it", () =>
    Effect.gen(function* () {
      const { next, record } = yield* open
      const { handle } = yield* pool
      yield* handle(record(1, "scoped"))
      assert.strictEqual((yield* next("finalized")).offset, 1n)
    }).pipe(Effect.scoped)
  )

  it.live("is below the span around it, with the log's annotations", () =>
    Effect.gen(function* () {
      const { next, record } = yield* open
      const { handle } = yield* pool
      const span = yield* Effect.makeSpan("parent")
      const answer = yield* handle(record(1, "traced")).pipe(
        Effect.withParentSpan(span),
        Effect.annotateLogs({ order: 7, by: "name", what: { no: "plain value" } }),
        Effect.provideService(References.MinimumLogLevel, "Warn")
      )
      assert.strictEqual(answer.traceparent, `00-${span.traceId}-${span.spanId}-01`)
      assert.deepStrictEqual((yield* next("traced")).more, {
        traceId: span.traceId,
        spanId: span.spanId,
        sampled: true,
        annotations: { order: 7, by: "name" },
        level: "Warn"
      })
    }).pipe(Effect.scoped)
  )

  it.live("is below the span that its record names where there is none around it", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const { handle } = yield* pool
      const of = (...values: ReadonlyArray<string>) =>
        Effect.map(
          handle(record(1, ":", { headers: values.map((value) => ["TraceParent", bytes(value)] as const) })),
          ({ traceparent }) => traceparent
        )
      const named = `00-${"a".repeat(32)}-${"b".repeat(16)}-00`
      assert.strictEqual(yield* of(named), named)
      assert.isUndefined(yield* of())
      assert.isUndefined(yield* of(named, named))
      assert.isUndefined(yield* of(named.replaceAll("a", "0")))
      assert.isUndefined(yield* of(named.replaceAll("a", "x")))
    }).pipe(Effect.scoped)
  )
})

describe("a crash", () => {
  it.live("is logged once, with where its record is and nothing of what is in it", () =>
    Effect.gen(function* () {
      const { record } = yield* open
      const logged: Array<{ readonly text: string; readonly annotations: unknown }> = []
      const logger = Logger.make(({ fiber, message }) => {
        logged.push({ text: String(message), annotations: fiber.getRef(References.CurrentLogAnnotations) })
      })
      const { handle } = yield* Effect.provide(pool, Logger.layer([logger]))
      yield* Effect.flip(handle(record(42, "uncaught:a secret")))
      assert.strictEqual(logged.length, 1)
      assert.match(
        logged[0]!.text,
        /^a thread of jobs\.worker\.ts ended by itself: exception, RangeError at .*jobs\.worker\.ts/
      )
      assert.notInclude(logged[0]!.text, "secret")
      assert.deepStrictEqual(logged[0]!.annotations, { topic: "jobs", partition: 0, offset: 42n })
    }).pipe(Effect.scoped)
  )
})

describe("a module that cannot be used", () => {
  const unusable = (module: URL | string, options: Partial<WorkerPoolOptions> = {}) =>
    Effect.flip(Effect.scoped(plain({ module, size: 3, ...options })))

  for (const [name, why, detail] of [
    ["missing", "import", "missing.worker.ts"],
    ["throws", "import", "Error: no model here"],
    ["noHandler", "handler", 'it has no export "handler"; it exports other'],
    ["notFunction", "handler", "is not a function"],
    ["notSchema", "error", "is not a schema"],
    ["exits", "crashed", "exited with code 7"]
  ] as const) {
    it.live(`fails the pool, and says why: ${name}`, () =>
      Effect.gen(function* () {
        const error = yield* unusable(moduleUrl(name))
        assert.instanceOf(error, ModuleUnusable)
        assert.deepInclude(error, { why, module: moduleUrl(name).href })
        assert.include(error.detail, detail)
        assert.include(error.message, error.detail)
      })
    )
  }

  it.live("is not waited for longer than loadTimeout", () =>
    Effect.gen(function* () {
      const error = yield* unusable(moduleUrl("never"), { loadTimeout: "200 millis" })
      assert.deepInclude(error, { why: "timeout", detail: "it was not loaded within 200 ms" })
    })
  )
})

describe("whether it may help to try again", () => {
  const module = "file:///handler.worker.js"
  for (const [error, isRetryable] of [
    [new WorkerCrashed({ how: "exception", exitCode: 1 }), true],
    [new WorkerCrashed({ how: "outOfMemory", exitCode: 1 }), true],
    [new JobFailed({ kind: "error", name: "Error", detail: "" }), true],
    [new JobFailed({ kind: "interrupted", name: "Interrupted", detail: "" }), true],
    [new JobFailed({ kind: "defect", name: "TypeError", detail: "" }), false],
    [new NotCloneable({ what: "record", detail: "" }), false],
    [new NotCloneable({ what: "result", detail: "" }), false],
    [new ModuleUnusable({ why: "import", module, detail: "" }), true],
    [new ModuleUnusable({ why: "crashed", module, detail: "" }), true],
    [new ModuleUnusable({ why: "timeout", module, detail: "" }), true],
    [new ModuleUnusable({ why: "handler", module, detail: "" }), false],
    [new ModuleUnusable({ why: "error", module, detail: "" }), false],
    [new PoolClosed(), false]
  ] as const) {
    it(`is said by the error: ${error.message}`, () => assert.strictEqual(error.isRetryable, isRetryable))
  }
})

describe("options", () => {
  for (const [option, options] of [
    ["module", { module: "jobs.worker.ts" }],
    ["size", { size: 0 }],
    ["size", { size: 1.5 }],
    ["loadTimeout", { loadTimeout: 0 }],
    ["interruptGrace", { interruptGrace: "1000 days" }],
    ["resourceLimits.maxOldGenerationSizeMb", { resourceLimits: { maxOldGenerationSizeMb: -1 } }],
    ["name", { name: "" }]
  ] as const) {
    it.live(`that are not accepted are named: ${JSON.stringify(options)}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.scoped(plain(options)))
        assert.instanceOf(error, InvalidOptions)
        assert.strictEqual(error.option, option)
      })
    )
  }
})
