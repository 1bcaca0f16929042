/**
 * What the spans of this library have in common: names of attributes, how they end, that they tell nothing of a record, and that they
 * decide nothing. The tracer is somebody else's: what it throws is told once, and what was to be traced goes on as if traces were off
 * (`packages/observability/test/traces.test.ts`).
 *
 * Of an error a span has the name, of one of ours the message too: the tracer would write message, stack and causes of it as they are,
 * and any of them may quote the record.
 *
 * **Source**: OpenTelemetry's semantic conventions 1.44, whose part on messaging is in development. 1.45 renames `messaging.system` and
 * what begins with `messaging.kafka`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import type * as Tracer from "effect/Tracer"
import { describe, nameOf } from "./describe.ts"

export const Attribute = {
  system: "messaging.system",
  operationName: "messaging.operation.name",
  operationType: "messaging.operation.type",
  destination: "messaging.destination.name",
  partition: "messaging.destination.partition.id",
  group: "messaging.consumer.group.name",
  count: "messaging.batch.message_count",
  offset: "messaging.kafka.offset",
  key: "messaging.kafka.message.key",
  tombstone: "messaging.kafka.message.tombstone",
  errorType: "error.type",
  /** 1 for the first */
  attempt: "concurrent_kafka.attempt",
  /** what was decided of the record when the attempt had ended */
  outcome: "concurrent_kafka.outcome"
} as const

export const system = "kafka"

/** not every tracer takes a bigint for the whole number that it is to be */
export const offsetOf = (offset: bigint): number | bigint => {
  const number = Number(offset)
  return Number.isSafeInteger(number) ? number : offset
}

/** The one topic of all, or nothing. */
export const sharedTopic = (of: ReadonlyArray<{ readonly topic: string }>): string | undefined => {
  const [first] = of
  return first !== undefined && of.every(({ topic }) => topic === first.topic) ? first.topic : undefined
}

export const spanName = (operation: string, topic: string | undefined): string =>
  topic === undefined ? operation : `${operation} ${topic}`

/** What is shown of an error in its place. */
class Shown extends Error {}

export const shownFailure = (name: string, message = name, frame?: string): Exit.Exit<never, Error> => {
  const shown = new Shown(message)
  shown.name = name
  shown.stack = `${name}: ${message}${frame === undefined ? "" : `\n    ${frame}`}`
  return Exit.fail(shown)
}

/** An interruption tells nothing. */
export const interruptedExit: Exit.Exit<never> = Exit.failCause(Cause.interrupt())

/** Nothing of its message: that may quote what the tracer was given. */
export const tracerFails = (cause: Cause.Cause<unknown>): string =>
  `spans are missing or incomplete, nothing else is: the tracer fails with ${describe(cause)} (said once)`

export interface SpanPlan {
  readonly name: string
  readonly options: Tracer.SpanOptionsNoTrace
  readonly attributes: Readonly<Record<string, unknown>>
}

export interface SpanEnd {
  readonly exit: Exit.Exit<unknown, unknown>
  readonly errorType?: string | undefined
}

/** Of a request without an answer: it was interrupted, or whoever makes it has died, of which there is the name. */
export const endOfDefect = (cause: Cause.Cause<unknown>): SpanEnd => {
  if (Cause.hasInterruptsOnly(cause)) return { exit: interruptedExit }
  const errorType = nameOf(Cause.squash(cause))
  return { exit: shownFailure(errorType), errorType }
}

/** The requests of one committer or producer, each in a span. */
export class TracedRequests {
  private told = false

  /** The request is made with a span, or without one when there could be none, and its exit is its own. */
  make<A, E, R>(
    plan: () => SpanPlan,
    request: (span: Tracer.Span | undefined) => Effect.Effect<A, E, R>,
    endOf: (exit: Exit.Exit<A, E>) => SpanEnd
  ): Effect.Effect<A, E, R> {
    const begun = Effect.suspend(() => {
      const { attributes, name, options } = plan()
      return Effect.flatMap(Effect.makeSpan(name, options), (span) =>
        // a span that could not be described has begun, and is to end
        Effect.as(
          this.attempt(() => {
            for (const key in attributes) span.attribute(key, attributes[key])
          }),
          span
        )
      )
    })
    return Effect.flatMap(this.safely(begun), (span) =>
      span === undefined
        ? request(undefined)
        : Effect.onExit(request(span), (exit) => this.safely(Effect.suspend(() => this.end(span, endOf(exit)))))
    )
  }

  private end(span: Tracer.Span, { errorType, exit }: SpanEnd): Effect.Effect<void> {
    const ends = this.safely(endSpan(span, exit))
    return errorType === undefined
      ? ends
      : Effect.andThen(
          this.attempt(() => span.attribute(Attribute.errorType, errorType)),
          ends
        )
  }

  /** What it gives back, or nothing when it throws. */
  attempt<A>(use: () => A): Effect.Effect<A | undefined> {
    return this.safely(Effect.sync(use))
  }

  private safely<A>(use: Effect.Effect<A>): Effect.Effect<A | undefined> {
    return Effect.catchCause(use, (cause) => {
      if (this.told) return Effect.undefined
      this.told = true
      // loggers are somebody else's, too
      return Effect.catchCause(Effect.as(Effect.logWarning(tracerFails(cause)), undefined), () => Effect.undefined)
    })
  }
}

/** Now, as the tracer of Effect ends its own. */
const endSpan = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.flatMap(References.TracerTimingEnabled, (timed) =>
    Effect.clockWith((clock) => Effect.sync(() => span.end(timed ? clock.currentTimeNanosUnsafe() : 0n, exit)))
  )
