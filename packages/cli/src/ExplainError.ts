/**
 * Why a group could not be explained.
 *
 * @since 0.1.0
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Schema from "effect/Schema"

/**
 * There is nothing to say, or nobody to ask.
 *
 * - `GroupUnknown`: the group has committed nothing of this topic. There is no such group, it reads other topics, or it has never
 *   been assigned a partition of it.
 * - `TopicMissing`: there is no such topic, or this client may not see it.
 * - `Client`: the Kafka client could not be used: no broker answered, wrong credentials, no right to ask.
 * - `Disabled`: Kafka is switched off (`KAFKA_ENABLED=false`).
 *
 * @since 0.1.0
 * @category errors
 */
export class ExplainError extends Schema.TaggedError<ExplainError>()("ExplainError", {
  reason: Schema.Union([
    Schema.TaggedStruct("GroupUnknown", { groupId: Schema.String, topic: Schema.String }),
    Schema.TaggedStruct("TopicMissing", { topic: Schema.String }),
    Schema.TaggedStruct("Client", { error: KafkaClientError }),
    Schema.TaggedStruct("Disabled", {})
  ])
}) {
  override get message(): string {
    const { reason } = this
    switch (reason._tag) {
      case "GroupUnknown":
        return `the group ${reason.groupId} has committed nothing of ${reason.topic}: there is no such group, or it reads other topics`
      case "TopicMissing":
        return `there is no topic ${reason.topic}`
      case "Client":
        return reason.error.message
      case "Disabled":
        return "Kafka is switched off (KAFKA_ENABLED=false)"
    }
  }
}
