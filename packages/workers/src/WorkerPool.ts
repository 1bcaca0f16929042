/**
 * Handlers on worker threads, for work that needs a CPU.
 *
 * @since 0.1.0
 */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as NodeWorker from "@effect/platform-node/NodeWorker"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { WorkerPlatform } from "effect/workers/Worker"
import type { ResourceLimits } from "node:worker_threads"
import { openPool } from "./internal/pool.ts"
import type { ModuleUnusable, WorkerError } from "./WorkerError.ts"
import type { WorkerModule, WorkerRecord } from "./WorkerModule.ts"

/**
 * What a pool is, and does.
 *
 * @since 0.1.0
 * @category options
 */
export interface WorkerPoolOptions {
  /** Of the module that exports `handler`: `new URL("./resize.worker.ts", import.meta.url)`. */
  readonly module: URL | string
  /**
   * How many threads there are, and so how many jobs run at once.
   *
   * **Default**: `os.availableParallelism() - 1`, at least 1: one core is for the consumer.
   */
  readonly size?: number | undefined
  /**
   * `"now"`: the pool is there when the first thread has loaded the module, and the others load it meanwhile; a module that cannot be
   * used fails the layer. `"lazy"`: each thread starts when a job waits and no other is free; the job waits for it.
   *
   * **Default**: `"now"`, so that a bad deployment shows before it has taken a record.
   */
  readonly start?: "now" | "lazy" | undefined
  /** **Default**: 30 seconds, since a module may load a model. */
  readonly loadTimeout?: Duration.Input | undefined
  /**
   * How long an interrupted job may take for its finalizers before its thread is terminated. Only a handler that is an effect and
   * yields gets so far: one that computes on is terminated after it, one that is a promise at once. A promise inside of an effect runs
   * on, beside the next job of the thread: give it the `AbortSignal` that `Effect.promise` hands over.
   *
   * **Default**: 100 ms. Less than the consumer's `interruptGrace` (1 s), or the record counts as a zombie meanwhile.
   */
  readonly interruptGrace?: Duration.Input | undefined
  /** Of each thread. One that needs more memory than that ends, and with it its record only. **Default**: Node's own. */
  readonly resourceLimits?: ResourceLimits | undefined
  /** What the threads are called in debuggers and logs. **Default**: the last part of the module's name. */
  readonly name?: string | undefined
}

/**
 * Numbers of a pool, taken at once; the last three rise from its beginning.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerPoolSnapshot {
  readonly name: string
  readonly size: number
  /** Threads that are there: loading, idle, busy, or about to end. */
  readonly threads: number
  readonly busy: number
  /** Jobs that wait for a thread. Each holds the permit of its record. */
  readonly waiting: number
  readonly started: number
  /** Threads that ended by themselves. */
  readonly crashed: number
  /** Threads that were ended because their job was interrupted. */
  readonly terminated: number
}

/**
 * A handler on threads.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerPool<out A, out E> {
  /**
   * Hands a record to the next free thread, and gives back what its handler answers: the `f` of a `Handler.make`, or a part of one.
   *
   * **Order**: jobs wait in the order in which they came, and there is one on a thread at a time.
   *
   * **Errors**: those of the module's `error` schema as they were; `WorkerError` for everything else. `PoolClosed` only after a minute,
   * which is for an interruption.
   *
   * **Interruption**: ends the job. It is over when nothing of it runs any more: a job that does not yield costs its thread, which
   * another one replaces. Native code cannot be stopped in its middle: that is waited for.
   *
   * **Cost**: 30 to 40 us a record, and a copy of its bytes.
   */
  readonly handle: (record: WorkerRecord) => Effect.Effect<A, E | WorkerError>
  readonly snapshot: Effect.Effect<WorkerPoolSnapshot>
}

/**
 * The pool that a module makes.
 *
 * @since 0.1.0
 * @category models
 */
export type PoolOf<M extends WorkerModule> = WorkerPool<WorkerModule.Success<M>, WorkerModule.Failure<M>>

/**
 * The options of a module's pool.
 *
 * @since 0.1.0
 * @category options
 */
export type OptionsOf<M extends WorkerModule> = WorkerPoolOptions &
  WorkerModule.ErrorOption<M> &
  WorkerModule.SelfContained<M>

/**
 * Makes pools.
 *
 * @since 0.1.0
 * @category constructors
 */
export const WorkerPool: {
  /**
   * Threads that run the handler of a module, until the scope closes: then no thread is left.
   *
   * Given its type, what is handed over is checked: `import type * as Resize from "./resize.worker.ts"` and
   * `WorkerPool.make<typeof Resize>({ module: new URL("./resize.worker.ts", import.meta.url) })`.
   *
   * **Errors**: `InvalidOptions`; with `start: "now"` also `ModuleUnusable`.
   */
  readonly make: <M extends WorkerModule>(
    options: OptionsOf<M>
  ) => Effect.Effect<PoolOf<M>, InvalidOptions | ModuleUnusable, Scope.Scope>
  /**
   * A pool as a service: `class Resize extends WorkerPool.Tag<Resize, typeof Module>()("app/Resize") {}` has `Resize.handle` for a
   * `Handler.make`, and `Resize.layer` to be provided below the consumer, so that it closes after it.
   */
  readonly Tag: <Self, M extends WorkerModule>() => <const Id extends string>(
    id: Id
  ) => Context.ServiceClass<Self, Id, PoolOf<M>> & {
    readonly layer: (options: OptionsOf<M>) => Layer.Layer<Self, InvalidOptions | ModuleUnusable>
    readonly handle: (
      record: WorkerRecord
    ) => Effect.Effect<WorkerModule.Success<M>, WorkerModule.Failure<M> | WorkerError, Self>
  }
} = {
  make: (options) => make(options),
  Tag:
    <Self, M extends WorkerModule>() =>
    <const Id extends string>(id: Id) => {
      const tag = Context.Service<Self, PoolOf<M>>()(id)
      return Object.assign(tag, {
        layer: (options: OptionsOf<M>) => Layer.effect(tag, make<M>(options)),
        handle: (record: WorkerRecord) => Effect.flatMap(tag, (pool) => pool.handle(record))
      })
    }
}

const make = <M extends WorkerModule>(
  options: OptionsOf<M>
): Effect.Effect<PoolOf<M>, InvalidOptions | ModuleUnusable, Scope.Scope> =>
  Effect.flatMap(WorkerPlatform, (platform) => openPool<M>(platform, options, options.error)).pipe(
    Effect.provide(NodeWorker.layerPlatform)
  )
