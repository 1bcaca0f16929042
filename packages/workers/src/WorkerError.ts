/**
 * How a job on a worker thread can fail, beside what its handler says itself. `isRetryable` of each says whether trying again may succeed
 * without anybody changing anything.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The thread ended in the middle of the job: an exception that nobody caught, `process.exit`, or its `resourceLimits`. Only the
 * record on it fails; another thread takes its place. A job that has not begun by then is handed out again, and fails so when it
 * has not begun on the second thread either.
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
  /** Another job may have left behind what has ended the thread. */
  get isRetryable(): boolean {
    return true
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
  /** Not where an effect died. What is thrown may be either: where it matters, let the module export a schema of its errors. */
  get isRetryable(): boolean {
    return this.kind !== "defect"
  }
}

/**
 * A record, a result or an error cannot cross to the other thread: functions, symbols, promises and what has them cannot be cloned.
 *
 * A record is none where it is a copy by `{ ...record }`, which has lost what it had from its prototype, or where its bytes have been
 * transferred elsewhere.
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
  get isRetryable(): boolean {
    return false
  }
}

/**
 * The handler's module cannot be used. A job fails with it when no thread is left and none could be started.
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
  /** What it imports may be there later. */
  get isRetryable(): boolean {
    return this.why !== "handler" && this.why !== "error"
  }
}

/**
 * The pool's scope has ended, before the job or in the middle of it. The job is over then, and waits a minute for its interruption
 * before it fails with this.
 *
 * A consumer that is built above its pool has ended by then. One that closes after its pool interrupts its records, and none of them
 * goes to its policy: they come again at the next owner.
 *
 * @since 0.1.0
 * @category errors
 */
export class PoolClosed extends Schema.TaggedError<PoolClosed>()("PoolClosed", {}) {
  override get message(): string {
    return "the worker pool is closed: its scope ended before the job did"
  }
  get isRetryable(): boolean {
    return false
  }
}

/**
 * Each of them.
 *
 * @since 0.1.0
 * @category errors
 */
export type WorkerError = WorkerCrashed | JobFailed | NotCloneable | ModuleUnusable | PoolClosed
