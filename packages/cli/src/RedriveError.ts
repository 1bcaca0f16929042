/**
 * How a redrive ends by failure.
 *
 * @since 0.1.0
 */
import { CommitterDied } from "@concurrent-kafka/core/CommitterDied"
import { ConsumerError } from "@concurrent-kafka/core/ConsumerError"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { PublishError } from "@concurrent-kafka/core/KafkaProducer"
import * as Schema from "effect/Schema"

/**
 * Why a redrive did not reach the end. Nothing was passed over: run again it goes on behind what is committed, and what was sent and
 * not committed is sent again.
 *
 * - `SendFailed`: the broker did not take the record at this place of the dead-letter topic, and sending it again would not help.
 *   `refused` of the error's reasons heals only when somebody changes something (a larger `max.message.bytes`, an ACL).
 * - `TopicMissing`: one of the topics is not there. It is not created: a redrive into a misspelt topic would look like a success.
 * - `BehindTheEnd`: the group has committed an offset behind the end of the dead-letter topic, which was truncated or made anew. Which
 *   of its records were sent before cannot be told. Another group starts at its beginning; or set this one's offset yourself.
 * - `Consumer`: reading or committing ended by failure, or the predicate threw.
 * - `Client`: the Kafka client could not be used: no right to ask, wrong credentials. A broker that is away is waited for.
 * - `Disabled`: Kafka is switched off (`KAFKA_ENABLED=false`).
 *
 * @since 0.1.0
 * @category errors
 */
export class RedriveError extends Schema.TaggedError<RedriveError>()("RedriveError", {
  reason: Schema.Union([
    Schema.TaggedStruct("SendFailed", {
      topic: Schema.String,
      partition: Schema.Number,
      offset: Schema.BigInt,
      error: PublishError
    }),
    Schema.TaggedStruct("TopicMissing", { topic: Schema.String }),
    Schema.TaggedStruct("BehindTheEnd", {
      topic: Schema.String,
      partition: Schema.Number,
      groupId: Schema.String,
      committed: Schema.BigInt,
      end: Schema.BigInt
    }),
    Schema.TaggedStruct("Consumer", { error: Schema.Union([ConsumerError, CommitterDied]) }),
    Schema.TaggedStruct("Client", { error: KafkaClientError }),
    Schema.TaggedStruct("Disabled", {})
  ])
}) {
  override get message(): string {
    const { reason } = this
    switch (reason._tag) {
      case "SendFailed":
        return `${reason.topic}/${reason.partition} offset ${reason.offset} was not sent: ${reason.error.message}`
      case "TopicMissing":
        return `there is no topic ${reason.topic}`
      case "BehindTheEnd":
        return (
          `${reason.groupId} has committed ${reason.committed} of ${reason.topic}/${reason.partition}, which ends at ${reason.end}: ` +
          "the topic was truncated or made anew. Name another group, which starts at its beginning, or set the offset of this one"
        )
      case "Consumer":
        return reason.error.message
      case "Client":
        return reason.error.message
      case "Disabled":
        return "Kafka is switched off (KAFKA_ENABLED=false)"
    }
  }
}
