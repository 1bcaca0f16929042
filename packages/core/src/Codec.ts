/**
 * Between what a record carries and what a program works with, and how that fails.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const part = Schema.Literals(["key", "value", "headers"])

/**
 * A record is not what its topic says. Says where and what was expected, and nothing of what the record carries; the bytes stay
 * with the record, for a dead letter.
 *
 * @since 0.1.0
 * @category errors
 */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  topic: Schema.String,
  part,
  message: Schema.String
}) {
  /** No attempt makes bytes right that are not. */
  get isRetryable(): false {
    return false
  }
}

/**
 * A value is not what its topic says, and was not sent. Says where and what was expected, and nothing of the value.
 *
 * @since 0.1.0
 * @category errors
 */
export class EncodeError extends Schema.TaggedError<EncodeError>()("EncodeError", {
  topic: Schema.String,
  part,
  message: Schema.String
}) {}

/**
 * Reads and writes one part of a record.
 *
 * **Cost**: what needs neither a service nor time is done when it is called; the effect is then an `Exit`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec<in out A, in out Wire, out RD = never, out RE = never> {
  readonly decode: (wire: Wire) => Effect.Effect<A, DecodeError, RD>
  /** `undefined` is a key, or headers, that were left out. */
  readonly encode: (value: A | undefined) => Effect.Effect<Wire, EncodeError, RE>
}
