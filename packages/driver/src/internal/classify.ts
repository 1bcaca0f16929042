/**
 * What an error code of an answer means: in general, of a commit, of a batch that was sent.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { CommitOutcome } from "@concurrent-kafka/core/ConsumerSession"

type Reason = KafkaClientError["reason"]

const byCode: Readonly<Record<string, Reason>> = {
  CORRUPT_MESSAGE: "CorruptData",
  UNKNOWN_TOPIC_OR_PARTITION: "TopicMissing",
  UNKNOWN_TOPIC_ID: "TopicMissing",
  REQUEST_TIMED_OUT: "Timeout",
  INCONSISTENT_GROUP_PROTOCOL: "ProtocolMismatch",
  TOPIC_AUTHORIZATION_FAILED: "Authorization",
  GROUP_AUTHORIZATION_FAILED: "Authorization",
  CLUSTER_AUTHORIZATION_FAILED: "Authorization",
  // the broker refuses the settings of this group: nothing heals by itself
  INVALID_GROUP_ID: "Authorization",
  INVALID_SESSION_TIMEOUT: "Authorization",
  UNSUPPORTED_SASL_MECHANISM: "Authentication",
  ILLEGAL_SASL_STATE: "Authentication",
  SASL_AUTHENTICATION_FAILED: "Authentication",
  UNSUPPORTED_VERSION: "UnsupportedClient",
  UNSUPPORTED_COMPRESSION_TYPE: "MissingCodec",
  // we ask for neither: the broker means something else by what we say
  UNSUPPORTED_ASSIGNOR: "UnsupportedClient",
  INVALID_REGULAR_EXPRESSION: "UnsupportedClient",
  UNRELEASED_INSTANCE_ID: "FencedInstance",
  FENCED_INSTANCE_ID: "FencedInstance"
}

/** Ends a session; everything else is waited out. */
export const isFatal = (error: KafkaClientError): boolean => !error.isRetryable && error.reason !== "Closed"

/** What Kafka's name of an error says of the whole; `undefined`: trouble of the connection, or of the moment. */
export const reasonOf = (code: string | undefined): Reason | undefined => byCode[code ?? ""]

/** An error code in an answer. `what` says what was asked, without data. */
export const fromCode = (code: string, what: string): KafkaClientError =>
  new KafkaClientError({ reason: byCode[code] ?? "Connection", detail: `${what}: ${code}` })

export const topicMissing = (topics: ReadonlyArray<string>): KafkaClientError =>
  new KafkaClientError({
    reason: "TopicMissing",
    detail:
      topics.length === 1 ? `the topic ${topics[0]} is not there` : `the topics ${topics.join(", ")} are not there`
  })

type Result = CommitOutcome extends infer O
  ? O extends unknown
    ? Omit<O, "topic" | "partition" | "epoch">
    : never
  : never

/** The outcome of one entry of a commit by Kafka's name of its error. */
export const commitOutcome = (code: string): Result => {
  switch (code) {
    case "NONE":
      return { outcome: "committed" }
    case "REBALANCE_IN_PROGRESS":
    case "ILLEGAL_GENERATION":
    case "STALE_MEMBER_EPOCH":
      return { outcome: "deferred", code }
    case "UNKNOWN_MEMBER_ID":
    case "FENCED_MEMBER_EPOCH":
    case "FENCED_INSTANCE_ID":
      return { outcome: "stale", code }
    case "OFFSET_METADATA_TOO_LARGE":
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "INVALID_GROUP_ID":
      return { outcome: "rejected", code }
    // the same, of who was asked by id
    case "UNKNOWN_TOPIC_ID":
      return { outcome: "rejected", code: "UNKNOWN_TOPIC_OR_PARTITION" }
    case "INVALID_COMMIT_OFFSET_SIZE":
    case "MESSAGE_TOO_LARGE":
      return { outcome: "rejected", code: "REQUEST_TOO_LARGE" }
    case "TOPIC_AUTHORIZATION_FAILED":
    case "GROUP_AUTHORIZATION_FAILED":
      return { outcome: "rejected", code: "NOT_AUTHORIZED" }
    default:
      return { outcome: "retriable", code }
  }
}

/**
 * What becomes of a batch that was sent.
 *
 * - `done`: the broker has it.
 * - `before`: the broker has one with these numbers from before: this one, if an earlier attempt may have got there.
 * - `refuse`: it will never take it.
 * - `split`: one of its records it will not take, or all together are too much.
 * - `bump`: it expects another sequence number, so that this producer's epoch in the partition ends; `renew`: so does the producer id.
 * - `again`: sending it again, as it is, helps.
 *
 * `doubtful`: it may be in the log all the same, or get there. `moved`: somebody else may be the leader.
 */
export interface BatchFate {
  readonly next: "done" | "before" | "refuse" | "split" | "bump" | "renew" | "again"
  readonly doubtful: boolean
  readonly moved: boolean
}

const fate = (next: BatchFate["next"], doubtful = false, moved = false): BatchFate => ({ next, doubtful, moved })

/** The fate of a batch by Kafka's name of the error of its partition in the answer. */
export const batchFate = (code: string): BatchFate => {
  switch (code) {
    case "NONE":
      return fate("done")
    // it is older than the batches of ours that the broker remembers
    case "DUPLICATE_SEQUENCE_NUMBER":
      return fate("before")
    case "MESSAGE_TOO_LARGE":
    case "RECORD_LIST_TOO_LARGE":
    // of one record; the others are not to suffer for having been sent at the same time
    case "INVALID_RECORD":
    case "INVALID_TIMESTAMP":
      return fate("split")
    case "OUT_OF_ORDER_SEQUENCE_NUMBER":
    case "UNKNOWN_PRODUCER_ID":
      return fate("bump")
    case "INVALID_PRODUCER_EPOCH":
    case "PRODUCER_FENCED":
      return fate("renew")
    case "TOPIC_AUTHORIZATION_FAILED":
    case "CLUSTER_AUTHORIZATION_FAILED":
    case "INVALID_TOPIC_EXCEPTION":
    case "INVALID_REQUIRED_ACKS":
    case "INVALID_REQUEST":
    case "POLICY_VIOLATION":
    case "UNSUPPORTED_VERSION":
    case "UNSUPPORTED_FOR_MESSAGE_FORMAT":
    case "UNSUPPORTED_COMPRESSION_TYPE":
      return fate("refuse")
    case "CORRUPT_MESSAGE":
    case "NOT_ENOUGH_REPLICAS":
    case "THROTTLING_QUOTA_EXCEEDED":
      return fate("again")
    case "LEADER_NOT_AVAILABLE":
      return fate("again", false, true)
    // the leader may have changed after it had written the batch, while it waited for the replicas
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "UNKNOWN_TOPIC_ID":
    case "NOT_LEADER_OR_FOLLOWER":
    case "REPLICA_NOT_AVAILABLE":
    case "FENCED_LEADER_EPOCH":
    case "UNKNOWN_LEADER_EPOCH":
    case "KAFKA_STORAGE_ERROR":
      return fate("again", true, true)
    default:
      return fate("again", true)
  }
}
