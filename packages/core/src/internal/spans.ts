/**
 * What the spans of this library have in common: names of attributes, how they end, and that they tell nothing of a record.
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

/** Ends the span now, as the tracer of Effect ends its own. */
export const endSpan = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.flatMap(References.TracerTimingEnabled, (timed) =>
    Effect.clockWith((clock) => Effect.sync(() => span.end(timed ? clock.currentTimeNanosUnsafe() : 0n, exit)))
  )
