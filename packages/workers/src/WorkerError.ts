/**
 * How a job on a worker thread can fail, beside what its handler says itself.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The thread ended in the middle of the job: an exception that nobody caught, `process.exit`, or its `resourceLimits`. Only the
 * record on it fails; another thread takes its place.
 *
 * @since 0.1.0
 * @category errors
 */
export class WorkerCrashed extends Schema.TaggedError<WorkerCrashed>()("WorkerCrashed", {
  how: Schema.Literals(["exit", "exception", "outOfMemory"]),
  /** `undefined` where the thread did not say one */
  exitCode: Schema.UndefinedOr(Schema.Number),
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    const why = { exit: "it exited", exception: "an exception was not caught", outOfMemory: "it ran out of memory" }
    return `the worker thread ended during the job: ${why[this.how]}, exit code ${this.exitCode ?? "unknown"}`
  }
}

/**
 * The handler failed on its thread, with something that the module's `error` schema does not know. Its stack is the thread's.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobFailed extends Schema.TaggedError<JobFailed>()("JobFailed", {
  /** `error`: it threw, its promise was rejected, or its effect failed. `defect`, `interrupted`: its effect ended so by itself. */
  kind: Schema.Literals(["error", "defect", "interrupted"]),
  /** Its `_tag`, or else its name; of what is no object, its type. */
  name: Schema.String,
  /** Its message. Whatever the handler has written into it, records too. */
  detail: Schema.String
}) {
  override get message(): string {
    return `the handler failed on its thread with ${this.name}: ${this.detail}`
  }
}

/**
 * A result or an error cannot cross to the other thread: functions, symbols, promises and what has them cannot be cloned.
 *
 * **Source**: the structured clone algorithm of the HTML standard.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotCloneable extends Schema.TaggedError<NotCloneable>()("NotCloneable", {
  what: Schema.Literals(["record", "result", "error"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `the ${this.what} cannot be cloned to the other thread: ${this.detail}`
  }
}

/**
 * The handler's module cannot be used.
 *
 * - `import`: it, or something that it imports, cannot be imported.
 * - `handler`, `error`: its export of this name is none, or not what it has to be.
 * - `crashed`: the thread ended while it was loaded.
 * - `timeout`: it was not loaded within `loadTimeout`.
 *
 * @since 0.1.0
 * @category errors
 */
export class ModuleUnusable extends Schema.TaggedError<ModuleUnusable>()("ModuleUnusable", {
  why: Schema.Literals(["import", "handler", "error", "crashed", "timeout"]),
  module: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `the worker module ${this.module} cannot be used (${this.why}): ${this.detail}`
  }
}

/**
 * The pool's scope has ended, before the job or in the middle of it.
 *
 * A consumer that is built above its pool has ended by then, and no record sees this.
 *
 * @since 0.1.0
 * @category errors
 */
export class PoolClosed extends Schema.TaggedError<PoolClosed>()("PoolClosed", {}) {
  override get message(): string {
    return "the worker pool is closed: its scope ended before the job did"
  }
}

/**
 * Each of them.
 *
 * @since 0.1.0
 * @category errors
 */
export type WorkerError = WorkerCrashed | JobFailed | NotCloneable | ModuleUnusable | PoolClosed
