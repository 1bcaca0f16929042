/**
 * How an assertion of a test kit fails.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * An assertion of a kit that does not hold, or something that was waited for and did not come.
 *
 * `message` says what was expected, what is there instead, and what became of each record. It shows keys and values.
 *
 * @since 0.1.0
 * @category errors
 */
export class ExpectationFailed extends Schema.TaggedError<ExpectationFailed>()("ExpectationFailed", {
  /** What was asked, in a few words. */
  expectation: Schema.String,
  expected: Schema.Unknown,
  actual: Schema.Unknown,
  message: Schema.String
}) {}
