/**
 * How a consumer ends by failure.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { printedWithoutCause } from "./internal/printed.ts"
import { InvalidOptions } from "./InvalidOptions.ts"
import { KafkaClientError } from "./KafkaClient.ts"

const at = { topic: Schema.String, partition: Schema.Number }

/**
 * Why a consumer did not start, or ended.
 *
 * - `AlreadyRunning`: `run` while one runs.
 * - `Ended`: `run` after the consumer had failed, or after its layer was closed.
 * - `TopicsDiffer`: the handler's topics are not the session's.
 * - `Options`: `run` was given a failure policy that this consumer cannot carry out.
 * - `Stopped`: the failure policy (or the want of one) said stop; the record stays uncommitted.
 * - `NoStart`: `startFrom` or `onOutOfRange` is `"fail"`, and there is no offset to start from.
 * - `CommitRefused`: not authorised, or the group id is invalid.
 * - `NotOwned`: `seek`, `pause` or `resume` of a partition that is not ours to move now.
 * - `Client`: the Kafka client gave up.
 * - `Defect`: a fault of this library; what was done since the last commit will be delivered again.
 *
 * Printed, the `cause` of the last and of `Stopped` is shown by its name and where it was made: its message may quote the record.
 *
 * @since 0.1.0
 * @category errors
 */
export class ConsumerError extends Schema.TaggedError<ConsumerError>()("ConsumerError", {
  reason: Schema.Union([
    Schema.TaggedStruct("AlreadyRunning", {}),
    Schema.TaggedStruct("Ended", {}),
    Schema.TaggedStruct("TopicsDiffer", {
      handler: Schema.Array(Schema.String),
      session: Schema.Array(Schema.String)
    }),
    Schema.TaggedStruct("Options", { error: InvalidOptions }),
    Schema.TaggedStruct("Stopped", { ...at, offset: Schema.BigInt, cause: Schema.Defect() }),
    Schema.TaggedStruct("NoStart", { ...at, why: Schema.Literals(["notCommitted", "outOfRange"]) }),
    Schema.TaggedStruct("CommitRefused", { code: Schema.String }),
    Schema.TaggedStruct("NotOwned", at),
    Schema.TaggedStruct("Client", { error: KafkaClientError }),
    Schema.TaggedStruct("Defect", { cause: Schema.Defect() })
  ])
}) {
  constructor(props: { readonly reason: ConsumerError["reason"] }, options?: Schema.MakeOptions) {
    super(props, options)
    const { reason } = this
    if (reason._tag === "Stopped" || reason._tag === "Defect") printedWithoutCause(reason)
  }
  override get message(): string {
    const { reason } = this
    switch (reason._tag) {
      case "AlreadyRunning":
        return "this consumer runs already; one handler at a time"
      case "Ended":
        return "this consumer has failed, or its layer is closed; build the layer anew to run it again"
      case "TopicsDiffer":
        return `the handler handles ${reason.handler.join(", ")} but the session reads ${reason.session.join(", ")}`
      case "Options":
        return reason.error.message
      case "Stopped":
        return `stopped by the failure of ${reason.topic}/${reason.partition} offset ${reason.offset}, which stays uncommitted: the next owner of the partition meets it again`
      case "NoStart":
        return reason.why === "notCommitted"
          ? `${reason.topic}/${reason.partition} has no committed offset and startFrom is "fail"`
          : `the position of ${reason.topic}/${reason.partition} is outside of its log and onOutOfRange is "fail"`
      case "CommitRefused":
        return `the broker refuses commits for good (${reason.code}): check the group's permissions`
      case "NotOwned":
        return `${reason.topic}/${reason.partition} is not owned by this consumer now, or is being taken away`
      case "Client":
        return reason.error.message
      case "Defect":
        return "a fault of the consumer itself; what was done since the last commit will be delivered again"
    }
  }
}
