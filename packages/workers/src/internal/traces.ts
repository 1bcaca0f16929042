/** The span that a record's headers name. */
import type { Headers } from "@concurrent-kafka/core/ConsumerRecord"
import * as Option from "effect/Option"
import { fromInput } from "effect/http/Headers"
import { w3c } from "effect/http/HttpTraceContext"
import type { SpanContext } from "./wire.ts"

const name = "traceparent"
const length = 55
const decoder = new TextDecoder("latin1")

/** Of two of them nobody knows whose they are. */
export const remoteSpan = (headers: Headers): SpanContext | undefined => {
  const [value, other] = headers.filter(([key]) => key.length === name.length && key.toLowerCase() === name)
  if (value === undefined || other !== undefined || value[1] === null || value[1].byteLength !== length)
    return undefined
  return Option.getOrUndefined(
    Option.map(w3c(fromInput({ [name]: decoder.decode(value[1]) })), ({ sampled, spanId, traceId }) => ({
      traceId,
      spanId,
      sampled
    }))
  )
}
