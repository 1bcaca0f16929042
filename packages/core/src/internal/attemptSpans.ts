/**
 * One span for each attempt: `process {topic}`, kind consumer, from the call of the handler to what was decided of the record.
 *
 * Attempts are spans and not events of one, because by the conventions such a span covers the call of a handler: a record that waits an
 * hour for its retry is in nobody's hands, and a span of that hour would be lost with the process. Attempts after the first link to the
 * one before.
 *
 * Every span links to the record's creation context (its `traceparent`), as the conventions want it; with `"continue"` that is its parent,
 * too, which they allow for single records. It is never the child of a span around `run`: that one lasts as long as the program.
 *
 * Invariants, with their tests in `packages/observability/test/traces.test.ts`: each span that begins ends once, whatever becomes of the
 * record; what the handler does is below it; with `revealRecords` off it has nothing of the record but where it is; nothing that the tracer
 * throws comes out of here, neither into the attempt nor into who asks for its span to end.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { Directive } from "../Directive.ts"
import type { Traces } from "../Traces.ts"
import { frameOf, nameOf, printable } from "./describe.ts"
import { messageOfOurs } from "./ourErrors.ts"
import { readableHeaders } from "./recordHeaders.ts"
import type { Slot } from "./slot.ts"
import { Attribute, interruptedExit, offsetOf, shownFailure, spanName, system } from "./spans.ts"
import { readContext, spanOf } from "./traceContext.ts"

/**
 * What was decided when the attempt had ended; what became of a dead letter is told by the span of its send.
 *
 * `released`: interrupted by this library (its epoch has ended); the record is delivered, or runs, again.
 */
export const attemptOutcomes = ["handled", "retry", "skip", "dead_letter", "park", "stop", "released"] as const
export type AttemptOutcome = (typeof attemptOutcomes)[number]

/** The span of an attempt that has not ended. */
export interface AttemptTrace {
  readonly span: Tracer.Span
  /** when the attempt failed: the policy may take its time */
  failedAt: bigint | undefined
}

const decoder = new TextDecoder()

export class AttemptSpans {
  private readonly traces: Traces
  private readonly revealRecords: boolean
  private readonly clock: Clock.Clock
  private readonly timed: boolean
  /** the tracer does: told, and gone on without it */
  private readonly fails: (cause: Cause.Cause<unknown>) => void

  constructor(
    traces: Traces,
    revealRecords: boolean,
    context: Context.Context<never>,
    fails: (cause: Cause.Cause<unknown>) => void
  ) {
    this.traces = traces
    this.revealRecords = revealRecords
    this.clock = Context.get(context, Clock.Clock)
    this.timed = Context.get(context, References.TracerTimingEnabled)
    this.fails = fails
  }

  /** The handler's effect, which is made inside, below the attempt's span. */
  around<E, R>(slot: Slot, attempt: () => Effect.Effect<unknown, E, R>): Effect.Effect<unknown, E, R> {
    return Effect.matchCauseEffect(
      Effect.suspend(() => this.begun(slot)),
      {
        onFailure: (cause) => {
          this.fails(cause)
          return attempt()
        },
        onSuccess: (span) => {
          slot.trace = { span, failedAt: undefined }
          try {
            if (span.sampled) this.describe(span, slot)
          } catch (defect) {
            this.fails(Cause.die(defect))
          }
          return Effect.provideService(attempt(), Tracer.ParentSpan, span)
        }
      }
    )
  }

  private begun(slot: Slot): Effect.Effect<Tracer.Span> {
    const headers = readableHeaders(slot)
    const context = headers === undefined ? undefined : readContext(headers)
    const creation = context === undefined ? undefined : spanOf(context)
    const links: Array<Tracer.SpanLink> = []
    if (creation !== undefined) links.push({ span: creation, attributes: {} })
    const before = slot.past?.span
    try {
      if (before !== undefined) links.push({ span: named(before), attributes: {} })
    } catch (defect) {
      this.fails(Cause.die(defect))
    }
    return Effect.makeSpan(spanName("process", slot.topic), {
      kind: "consumer",
      links,
      ...(creation !== undefined && this.traces.parent === "continue" ? { parent: creation } : { root: true }),
      ...(creation?.sampled === false ? { sampled: false } : {})
    })
  }

  private describe(span: Tracer.Span, slot: Slot): void {
    span.attribute(Attribute.system, system)
    span.attribute(Attribute.operationName, "process")
    span.attribute(Attribute.operationType, "process")
    span.attribute(Attribute.destination, slot.topic)
    span.attribute(Attribute.partition, String(slot.partition))
    span.attribute(Attribute.offset, offsetOf(slot.offset))
    span.attribute(Attribute.group, slot.groupId)
    span.attribute(Attribute.attempt, slot.attempt)
    if (slot.value === null) span.attribute(Attribute.tombstone, true)
    if (this.revealRecords && slot.key !== null) span.attribute(Attribute.key, printable(decoder.decode(slot.key)))
  }

  /** The attempt is over, and what is done about it is not decided yet. */
  failed(trace: AttemptTrace): void {
    trace.failedAt = this.now()
  }

  end(slot: Slot, outcome: AttemptOutcome, exit: Exit.Exit<unknown, unknown>): void {
    const { trace } = slot
    if (trace === undefined) return
    slot.trace = undefined
    const { span } = trace
    const failure = exit._tag === "Failure" && !isSkipAsked(exit.cause) ? exit.cause : undefined
    const interrupted = failure !== undefined && Cause.hasInterruptsOnly(failure)
    // handled by its acknowledgement: whoever interrupts the handler after that interrupts nothing of the record
    const cause = interrupted && outcome === "handled" ? undefined : failure
    try {
      if (slot.past !== undefined) slot.past.span = span
      if (span.sampled) {
        span.attribute(Attribute.outcome, outcome)
        if (cause !== undefined && !interrupted) span.attribute(Attribute.errorType, nameOf(errorOf(cause)))
        else if (cause !== undefined && outcome !== "released")
          span.attribute(Attribute.errorType, "HandlerInterrupted")
      }
    } catch (defect) {
      this.fails(Cause.die(defect))
    }
    // one that could not be described ends all the same
    try {
      span.end(
        trace.failedAt ?? this.now(),
        cause === undefined ? Exit.void : interrupted ? interruptedExit : this.shown(cause)
      )
    } catch (defect) {
      this.fails(Cause.die(defect))
    }
  }

  /** Left behind, or gone with its epoch; `handled`: acknowledged, and not too late. */
  release(slot: Slot, handled: boolean): void {
    this.end(slot, handled ? "handled" : "released", interruptedExit)
  }

  private now(): bigint {
    return this.timed ? this.clock.currentTimeNanosUnsafe() : 0n
  }

  private shown(cause: Cause.Cause<unknown>): Exit.Exit<never, unknown> {
    if (this.revealRecords) return Exit.failCause(cause)
    const error = errorOf(cause)
    return shownFailure(nameOf(error), messageOfOurs(error), frameOf(error))
  }
}

/** Not itself: it has a link to the one before, and a record that is tried for days would hold them all. */
const named = ({ sampled, spanId, traceId }: Tracer.Span): Tracer.ExternalSpan =>
  Tracer.externalSpan({ traceId, spanId, sampled })

/** The handler itself has said that there is nothing to be done. */
const isSkipAsked = (cause: Cause.Cause<unknown>): boolean => {
  const error = errorOf(cause)
  return Directive.isDirective(error) && error.kind === "Skip"
}

/** A typed error tells more than the defect of a finalizer beside it. */
const errorOf = (cause: Cause.Cause<unknown>): unknown => {
  const fail = cause.reasons.find(Cause.isFailReason)
  return fail === undefined ? cause.reasons.find(Cause.isDieReason)?.defect : fail.error
}
