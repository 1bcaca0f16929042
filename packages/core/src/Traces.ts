/**
 * Traces, off unless somebody turns them on.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/**
 * Whose child the span of a record is.
 *
 * - `"continue"`: the span that the record's `traceparent` header names. One trace goes from whoever sent the record to its handler.
 * - `"link"`: nobody's. Each attempt begins a trace of its own, which links to that span.
 *
 * Either way the flag in `traceparent` is respected: what its producer did not sample is not sampled here.
 *
 * @since 0.1.0
 * @category models
 */
export interface Traces {
  readonly parent: "continue" | "link"
}

/**
 * Whether spans are made by consumers, their committers, and the `KafkaProducer` (of who sends with it), by the tracer that is there.
 * Default: no, which costs nothing; `Observability.layerTraces` of `@concurrent-kafka/observability` turns them on.
 *
 * A consumer and its committer look at it when they are built, and give it to their handlers.
 *
 * @since 0.1.0
 * @category references
 */
export const Traces = Context.Reference<Traces | undefined>("@concurrent-kafka/core/Traces", {
  defaultValue: () => undefined
})
