/** Whatever keeps the demo from its end, in words for whoever started it. */
import { Schema } from "effect"

export class DemoError extends Schema.TaggedError<DemoError>()("DemoError", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** A promise that may fail, and what it was for. */
export const failedAt = (what: string) => (cause: unknown) =>
  new DemoError({ reason: `${what}: ${cause instanceof Error ? cause.message : String(cause)}` })
