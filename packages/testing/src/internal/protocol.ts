/**
 * The requests of Kafka that the model knows, as plain values. The words are Kafka's own.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { CommitOutcome, Committed } from "@concurrent-kafka/core/ConsumerSession"

/** Kafka's error names; `undefined` is NONE. */
export type Code = string

export interface JoinRequest {
  readonly clientId: string
  readonly memberId: string
  readonly sessionTimeout: number
  readonly rebalanceTimeout: number
  /** names of the assignors that the member knows, best first */
  readonly protocols: ReadonlyArray<string>
  readonly topics: ReadonlyArray<string>
  /** what it says of itself to the leader */
  readonly userData: string
}

export interface JoinedMember {
  readonly memberId: string
  readonly topics: ReadonlyArray<string>
  readonly userData: string
}

export interface JoinResponse {
  readonly error?: Code | undefined
  readonly memberId: string
  readonly generation: number
  readonly leader: string
  /** only for the leader */
  readonly members: ReadonlyArray<JoinedMember>
}

export interface SyncResponse {
  readonly error?: Code | undefined
  readonly assignment: ReadonlyArray<TopicPartition>
}

export interface GroupHeartbeatRequest {
  readonly clientId: string
  readonly memberId: string
  /** 0 joins, -1 leaves */
  readonly epoch: number
  readonly sessionTimeout: number
  readonly rebalanceTimeout: number
  readonly topics: ReadonlyArray<string>
  readonly owned: ReadonlyArray<TopicPartition & { readonly topicId: number }>
}

export interface GroupHeartbeatResponse {
  readonly error?: Code | undefined
  readonly epoch: number
  readonly assignment: ReadonlyArray<TopicPartition & { readonly topicId: number }>
  /** all members have heard of the group's epoch and given up what they had to: where a cooperative group has joined */
  readonly joined: boolean
}

export interface CommitRequest {
  readonly groupId: string
  readonly clientId: string
  readonly memberId: string
  readonly generation: number
  readonly entries: ReadonlyArray<TopicPartition & Committed>
}

export interface CommitResponse {
  /** one for each entry */
  readonly codes: ReadonlyArray<Code | undefined>
}

export interface OffsetFetchResponse {
  readonly error?: Code | undefined
  readonly offsets: ReadonlyArray<TopicPartition & Committed>
}

type Fate = CommitOutcome extends infer O
  ? O extends CommitOutcome
    ? Omit<O, "topic" | "partition" | "epoch">
    : never
  : never

/** What a code in the answer to a commit means for its entry. */
export const fateOf = (code: Code | undefined): Fate => {
  switch (code) {
    case undefined:
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
    case "REQUEST_TOO_LARGE":
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "INVALID_GROUP_ID":
      return { outcome: "rejected", code }
    case "TOPIC_AUTHORIZATION_FAILED":
    case "GROUP_AUTHORIZATION_FAILED":
      return { outcome: "rejected", code: "NOT_AUTHORIZED" }
    default:
      return { outcome: "retriable", code }
  }
}

/**
 * What becomes of a batch by the code in the answer to its Produce. `again`: it was not stored, and a retry helps. `doubt`: a
 * retry helps, and it may have been stored. `sequence`: the broker expects another sequence number.
 */
export type ProduceFate = "stored" | "refused" | "split" | "sequence" | "doubt" | "again"

export const produceFateOf = (code: Code | undefined): ProduceFate => {
  switch (code) {
    case undefined:
    case "DUPLICATE_SEQUENCE_NUMBER":
      return "stored"
    case "MESSAGE_TOO_LARGE":
    case "RECORD_LIST_TOO_LARGE":
    case "INVALID_RECORD":
    case "INVALID_TIMESTAMP":
      return "split"
    case "OUT_OF_ORDER_SEQUENCE_NUMBER":
    case "UNKNOWN_PRODUCER_ID":
    case "INVALID_PRODUCER_EPOCH":
      return "sequence"
    case "CLUSTER_AUTHORIZATION_FAILED":
    case "INVALID_TOPIC_EXCEPTION":
    case "POLICY_VIOLATION":
    case "TOPIC_AUTHORIZATION_FAILED":
    case "UNSUPPORTED_FOR_MESSAGE_FORMAT":
      return "refused"
    case "CORRUPT_MESSAGE":
    case "LEADER_NOT_AVAILABLE":
    case "NOT_ENOUGH_REPLICAS":
    case "UNKNOWN_TOPIC_OR_PARTITION":
      return "again"
    default:
      return "doubt"
  }
}
