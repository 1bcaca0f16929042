/**
 * One span for each send, `send {topic}`, and its context in the records: whoever reads them knows what has sent them.
 *
 * By the conventions a record that brings a context of its own keeps it, valid or not. So does a dead letter, whose headers are those of
 * the record that failed: its reader continues the trace of whoever sent that one, of which the failed attempt is a part. The span links
 * to such contexts, and is of kind producer where its own went into a record, else client.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { Headers } from "../ConsumerRecord.ts"
import type { Producer, ProducerRecord, PublishError } from "../KafkaProducer.ts"
import { Traces } from "../Traces.ts"
import {
  Attribute,
  endOfDefect,
  sharedTopic,
  shownFailure,
  type SpanEnd,
  type SpanPlan,
  spanName,
  system,
  TracedRequests
} from "./spans.ts"
import { carriesContext, headersOf, readContext, spanOf } from "./traceContext.ts"

/** of a span; tracers drop what is more */
const mostLinks = 128

export const tracedSend = (send: Producer["send"]): Producer["send"] => {
  const requests = new TracedRequests()
  return (records) =>
    Effect.flatMap(Traces, (traces) =>
      traces === undefined || records.length === 0
        ? send(records)
        : requests.make(
            () => planOf(records),
            (span) => (span === undefined ? send(records) : sendWith(requests, send, records, span)),
            endOf
          )
    )
}

const planOf = (records: ReadonlyArray<ProducerRecord>): SpanPlan => {
  const topic = sharedTopic(records)
  const own = records.filter(({ headers }) => carriesContext(headers))
  return {
    name: spanName("send", topic),
    options: {
      kind: own.length < records.length ? "producer" : "client",
      links: own.slice(0, mostLinks).flatMap(({ headers = [] }) => {
        const context = readContext(headers)
        return context === undefined ? [] : [{ span: spanOf(context), attributes: {} }]
      })
    },
    attributes: {
      [Attribute.system]: system,
      [Attribute.operationName]: "send",
      [Attribute.operationType]: "send",
      ...(topic === undefined ? {} : { [Attribute.destination]: topic }),
      ...shapeOf(records)
    }
  }
}

const sendWith = (
  requests: TracedRequests,
  send: Producer["send"],
  records: ReadonlyArray<ProducerRecord>,
  span: Tracer.Span
): Effect.Effect<boolean, PublishError> =>
  Effect.flatMap(
    requests.attempt((): ReadonlyArray<ProducerRecord> => {
      const ours = headersOf(span)
      return records.map((record) => carrying(record, ours))
    }),
    (carriers) => send(carriers ?? records)
  )

const endOf = (exit: Exit.Exit<boolean, PublishError>): SpanEnd => {
  if (Exit.isSuccess(exit)) return { exit: Exit.void }
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (error !== undefined) return { exit: shownFailure(error._tag, error.message), errorType: error.code }
  return endOfDefect(exit.cause)
}

const carrying = (record: ProducerRecord, ours: Headers): ProducerRecord =>
  ours.length === 0 || carriesContext(record.headers)
    ? record
    : { ...record, headers: [...(record.headers ?? []), ...ours] }

const shapeOf = (records: ReadonlyArray<ProducerRecord>): Record<string, unknown> => {
  const [only] = records
  if (only === undefined || records.length > 1) return { [Attribute.count]: records.length }
  return {
    ...(only.partition === undefined ? {} : { [Attribute.partition]: String(only.partition) }),
    ...(only.value === null ? { [Attribute.tombstone]: true } : {})
  }
}
