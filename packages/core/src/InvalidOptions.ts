/**
 * The error for an option that cannot be used.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * An option has a value that is not accepted. Names the option, the value and what is accepted.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidOptions extends Schema.TaggedError<InvalidOptions>()("InvalidOptions", {
  option: Schema.String,
  value: Schema.Unknown,
  accepted: Schema.String
}) {
  override get message(): string {
    return `option ${this.option}: ${show(this.value)} is not accepted; accepted: ${this.accepted}`
  }
}

const show = (value: unknown): string =>
  typeof value === "string"
    ? JSON.stringify(value)
    : typeof value === "object" && value !== null
      ? "the given object"
      : String(value)
