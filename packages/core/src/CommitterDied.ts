/**
 * How the committer ends by failure.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The committer died of a defect. Everybody who waits on it gets this, and the consumer fails with it.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommitterDied extends Schema.TaggedError<CommitterDied>()("CommitterDied", { cause: Schema.Defect() }) {
  override get message(): string {
    return "the committer died; what was done since the last commit will be delivered again"
  }
}
