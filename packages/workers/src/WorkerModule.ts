/**
 * What the module is that runs on worker threads.
 *
 * @since 0.1.0
 */
import type { Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * A record as it crosses to a thread: a `Delivery` without `ack`. Its bytes are a copy of the record's own and belong to the job.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerRecord extends Omit<Delivery, "ack"> {}

/**
 * What a handler is told beside its record.
 *
 * @since 0.1.0
 * @category models
 */
export interface JobContext {
  /**
   * Of the span around `handle`, or else the record's own header of this name. To be passed on; spans of a handler that is an effect
   * are below it anyway.
   *
   * **Source**: W3C Trace Context.
   */
  readonly traceparent: string | undefined
}

/**
 * What has to be exported by the module whose URL a pool is given.
 *
 * `handler` may answer with a value, a promise or an effect. An effect may need a `Scope`, which is that of the job, and nothing
 * else: what it needs it provides itself. A promise inside of it is not ended by its interruption and runs on beside the next job,
 * unless it heeds the `AbortSignal` of `Effect.promise` or `Effect.tryPromise`. The answer crosses by structured clone, so that
 * instances of classes arrive as plain objects.
 *
 * `error` is a schema of what the handler throws or fails with; that comes back as it was. Anything else comes back as `JobFailed`.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerModule {
  readonly handler: (record: WorkerRecord, context: JobContext) => unknown
  readonly error?: Schema.ConstraintCodec<unknown, unknown>
}

/**
 * @since 0.1.0
 */
export declare namespace WorkerModule {
  /**
   * What the handler answers with.
   *
   * @since 0.1.0
   * @category models
   */
  export type Success<M extends WorkerModule> = Answer<ReturnType<M["handler"]>>
  /**
   * How the handler fails, where the module exports a schema of it.
   *
   * @since 0.1.0
   * @category models
   */
  export type Failure<M extends WorkerModule> = M extends { readonly error: { readonly Type: infer E } } ? E : never
  /**
   * The part of a pool's options that depends on the module: its `error`, exactly when it has one.
   *
   * @since 0.1.0
   * @category options
   */
  export type ErrorOption<M extends WorkerModule> = M extends { readonly error: infer S extends Schema.Constraint }
    ? { readonly error: S }
    : { readonly error?: undefined }
  /**
   * No more than `unknown` where the handler's effect provides what it needs.
   *
   * @since 0.1.0
   * @category models
   */
  export type SelfContained<M extends WorkerModule> = [Needs<ReturnType<M["handler"]>>] extends [never]
    ? unknown
    : TheWorkerMustProvide<Needs<ReturnType<M["handler"]>>>
}

type Answer<R> = R extends Effect.Effect<infer A, infer _E, infer _R> ? A : Awaited<R>
type Needs<R> = R extends Effect.Effect<infer _A, infer _E, infer N> ? Exclude<N, Scope.Scope> : never

/**
 * Only there so that the compiler's message names what is missing.
 *
 * @since 0.1.0
 * @category models
 */
export interface TheWorkerMustProvide<_R> {
  readonly services: never
}
