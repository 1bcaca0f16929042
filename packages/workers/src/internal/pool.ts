/** A pool: its threads as effects. A job is one callback, its interruption that callback's finalizer. */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { WorkerPlatform } from "effect/workers/Worker"
import { JobFailed, type ModuleUnusable, NotCloneable, type WorkerCrashed, type WorkerError } from "../WorkerError.ts"
import type { WorkerModule, WorkerRecord } from "../WorkerModule.ts"
import type { PoolOf, WorkerPoolOptions } from "../WorkerPool.ts"
import { validate } from "./options.ts"
import { Threads, type Job, type Settlement } from "./threads.ts"
import { remoteSpan } from "./traces.ts"
import { pack, type SpanContext, type Thrown, thrownOf } from "./wire.ts"

/**
 * How long what is left of a closed pool waits for its interruption before it fails. A consumer that closes after its pool interrupts
 * its records, which then come again at the next owner, when a failure would be for the policy to decide. Longer than a consumer takes
 * to close (20 s by default), and not for ever: who is no consumer may have nobody to interrupt it.
 */
const closedWait = "1 minute"

export const openPool = Effect.fnUntraced(function* <M extends WorkerModule>(
  platform: WorkerPlatform["Service"],
  options: WorkerPoolOptions,
  errors: Schema.ConstraintCodec<unknown, unknown> | undefined
): Effect.fn.Return<PoolOf<M>, InvalidOptions | ModuleUnusable, Scope.Scope> {
  type A = WorkerModule.Success<M>
  type E = WorkerModule.Failure<M>
  const settings = yield* validate(options)
  // clock, loggers and annotations of who makes the pool, for what happens on no record's account
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const threads = new Threads(
    platform,
    settings,
    {
      crashed: (crash, record) => {
        const of = record && { topic: record.topic, partition: record.partition, offset: record.offset }
        void run(
          Effect.logError(`a thread of ${settings.name} ended by itself: ${told(crash)}`).pipe(
            Effect.annotateLogs(of ?? {})
          )
        )
      },
      unusable: (error) => void run(Effect.logError(`a thread of ${settings.name} did not start`, error.message))
    },
    (millis, f) => {
      const fiber = run(Effect.andThen(Effect.sleep(millis), Effect.sync(f)))
      return () => fiber.interruptUnsafe()
    }
  )
  const close = Effect.callback<void>((resume) => threads.close(() => resume(Effect.void)))
  yield* Effect.addFinalizer(() => close)
  if (settings.start === "now") {
    yield* Effect.callback<void, ModuleUnusable>((resume) =>
      threads.startAll((unusable) => resume(unusable === undefined ? Effect.void : Effect.fail(unusable)))
    )
  }
  // that a module exports what its types say is for its user to see to
  const exitOf = (how: Settlement) => settled(how, errors) as Exit.Exit<A, E | WorkerError>
  const endOf = (how: Settlement): Effect.Effect<A, E | WorkerError> =>
    how._tag === "PoolClosed" ? Effect.andThen(Effect.sleep(closedWait), Effect.fail(how)) : exitOf(how)
  return {
    handle: (record) =>
      Effect.contextWith((context: Context.Context<never>) =>
        Effect.flatMap(
          Effect.callback<Settlement>((resume) => {
            const job = jobOf(record, context, (how) => resume(Effect.succeed(how)))
            threads.submit(job)
            return Effect.callback<void>((over) => threads.abandon(job, () => over(Effect.void)))
          }),
          // not in the callback: what is resumed there is still under its finalizer, and the job is over
          endOf
        )
      ),
    snapshot: Effect.sync(() => ({ name: settings.name, size: settings.size, ...threads.counts }))
  }
})

const jobOf = (record: WorkerRecord, context: Context.Context<never>, settle: Job["settle"]): Job => ({
  record,
  pack: (id) => {
    const { record: own, transfer } = pack(record)
    return {
      order: {
        _tag: "Job",
        id,
        record: own,
        span: spanOf(record, context),
        annotations: annotationsOf(Context.get(context, References.CurrentLogAnnotations)),
        minimumLogLevel: Context.get(context, References.MinimumLogLevel)
      },
      transfer
    }
  },
  settle,
  id: 0,
  thread: undefined,
  missed: false,
  abandoned: undefined
})

const spanOf = (record: WorkerRecord, context: Context.Context<never>): SpanContext | undefined => {
  const span = Context.getOrUndefined(context, Tracer.ParentSpan)
  if (span === undefined) return remoteSpan(record.headers)
  const { sampled, spanId, traceId } = span
  return { traceId, spanId, sampled }
}

/** What is no plain value is for loggers on this side. */
const annotationsOf = (all: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> | undefined => {
  const plain = Object.entries(all).filter(
    ([, value]) => value === null || !["object", "function", "symbol"].includes(typeof value)
  )
  return plain.length === 0 ? undefined : Object.fromEntries(plain)
}

const settled = (
  how: Settlement,
  errors: Schema.ConstraintCodec<unknown, unknown> | undefined
): Exit.Exit<unknown, unknown> => {
  switch (how._tag) {
    case "Succeeded":
      return Exit.succeed(how.value)
    case "Failed":
      return failedWith(how.encoded, errors)
    case "Threw":
      return Exit.fail(jobFailed(how.kind, how.thrown))
    case "NotCloneable":
      return Exit.fail(new NotCloneable({ what: how.what, detail: how.detail }))
    default:
      return Exit.fail(how)
  }
}

const failedWith = (
  encoded: unknown,
  errors: Schema.ConstraintCodec<unknown, unknown> | undefined
): Exit.Exit<never, unknown> => {
  const decoded = errors === undefined ? undefined : Schema.decodeUnknownExit(errors)(encoded)
  if (decoded !== undefined && Exit.isSuccess(decoded)) return Exit.fail(decoded.value)
  return Exit.fail(
    new JobFailed({
      kind: "error",
      name: "unknown",
      detail: "what the module's `error` schema made of it cannot be read with the `error` that the pool was given"
    })
  )
}

/** As classes and tags are called: what a job has thrown may be a record, with a `name` or a `_tag` of its own. */
const looksLikeName = /^[A-Za-z_$@][\w.$/@-]{0,99}$/

/** Not the exception's message: that may be of a record. */
const told = ({ cause, exitCode, how }: WorkerCrashed): string => {
  if (cause === undefined) return `${how}, code ${exitCode}`
  const { frames, name } = thrownOf(cause)
  return `${how}, ${looksLikeName.test(name) ? name : "unknown"}${frames === undefined ? "" : ` ${frames.split("\n")[0]!.trim()}`}`
}

/** Where it was made is of interest, and not where it was told of. */
const jobFailed = (kind: JobFailed["kind"], { detail, frames, name }: Thrown): JobFailed => {
  const error = new JobFailed({ kind, name, detail })
  if (frames !== undefined) error.stack = `JobFailed: ${error.message}\n${frames}`
  return error
}
