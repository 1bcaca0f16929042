/**
 * One membership of one consumer in one group: the contract between the engine and a Kafka client.
 *
 * **Order**: everything that happens to a session comes out of one queue, `inbox`, so that a chunk never overtakes the
 * assignment it belongs to.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Queue from "effect/Queue"
import type { ConsumerRecord, TopicPartition } from "./ConsumerRecord.ts"
import { validateSession } from "./internal/options.ts"
import type { InvalidOptions } from "./InvalidOptions.ts"
import { type Capabilities, KafkaClient, type KafkaClientError } from "./KafkaClient.ts"

/**
 * How a session takes part in its group.
 *
 * @since 0.1.0
 * @category options
 */
export interface MembershipOptions {
  /** Default `"read_committed"`: records of open and aborted transactions are not delivered. Java: `isolation.level`. */
  readonly isolation?: "read_committed" | "read_uncommitted" | undefined
  /** How long the broker waits for a heartbeat before it gives our partitions to others. Default 30 s. Java: `session.timeout.ms`. */
  readonly sessionTimeout?: Duration.Input | undefined
  /** Default 3 s; at most a third of `sessionTimeout`. Also how late a rebalance is noticed. Java: `heartbeat.interval.ms`. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** How long the group waits for a member at a rebalance. Default 60 s. Java: `rebalance.timeout.ms`. */
  readonly rebalanceTimeout?: Duration.Input | undefined
  /** How long the client holds a rejoin for the drain and the flush at most. Default 10 s; below `rebalanceTimeout`. */
  readonly revokeTimeout?: Duration.Input | undefined
  /** How late new partitions and moved leaders are noticed. Default 30 s (the clients' 5 min is long under `latest`). Java: `metadata.max.age.ms`. */
  readonly metadataMaxAge?: Duration.Input | undefined
  /** The long poll. Default 250 ms: on kafkajs a resume, a seek and a rebalance wait that long at most. Java: `fetch.max.wait.ms`. */
  readonly maxWait?: Duration.Input | undefined
  /** Default none: a topic that is not there is waited for. With it the session fails after this time with `TopicMissing`. */
  readonly topicTimeout?: Duration.Input | undefined
  /**
   * Default none. Makes this a static member (KIP-345): a name that no other member of the group has, and that this one keeps over
   * restarts. At its end the flush is made and the group is not left: the partitions stay with it and idle until it is back, and
   * go to others only when its session has timed out without it. So a restart that is faster makes no rebalance. With several
   * `members` each after the first has a number behind it: `-2`, `-3`. Java: `group.instance.id`.
   *
   * **Errors**: `UnsupportedClient` when the layer is built and the client cannot do it; `FencedInstance` ends the session when
   * another member has the same name.
   */
  readonly instanceId?: string | undefined
  /**
   * Default `"classic"`. `"consumer"` is the protocol of KIP-848 (Kafka 4.0): the broker assigns, partitions come and go one by one,
   * and the others keep flowing. There `sessionTimeout` and `heartbeatInterval` are not sent: the settings of the broker or group
   * count (`group.consumer.session.timeout.ms`, 45 s; `group.consumer.heartbeat.interval.ms`, 5 s). Java: `group.protocol`.
   *
   * **Errors**: `UnsupportedClient` when the layer is built and the client cannot do it, or ends the session when the brokers
   * cannot.
   */
  readonly groupProtocol?: "classic" | "consumer" | undefined
  /**
   * How partitions are given out under the classic protocol. Default `"sticky"`: a rebalance is eager, all members drain and join again,
   * and what they get back goes on. With `"cooperative-sticky"` (KIP-429) a member keeps what it has while the group rebalances, and only
   * what goes to others is drained and revoked, in a second round; commits wait until the group has joined. A group changes from one to
   * the other, and back, member by member. Under `groupProtocol: "consumer"` the broker assigns, and none can be given. Java:
   * `partition.assignment.strategy`.
   */
  readonly assignor?: "sticky" | "cooperative-sticky" | undefined
}

/**
 * Topics are names. A regular expression is a type error: the clients resolve one once, when they subscribe, and never again.
 *
 * @since 0.1.0
 * @category options
 */
export interface SessionOptions extends MembershipOptions {
  readonly groupId: string
  readonly topics: ReadonlyArray<string>
}

/**
 * Validated options with defaults filled in; this is what a driver gets. All times in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionSettings {
  readonly groupId: string
  readonly topics: ReadonlyArray<string>
  readonly isolation: "read_committed" | "read_uncommitted"
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  readonly rebalanceTimeout: number
  readonly revokeTimeout: number
  readonly metadataMaxAge: number
  readonly maxWait: number
  readonly topicTimeout: number | undefined
  readonly instanceId?: string | undefined
  /** Not given: the client's own, which with real brokers is the classic one. */
  readonly groupProtocol?: "classic" | "consumer" | undefined
  /** Not given: `"sticky"`. */
  readonly assignor?: "sticky" | "cooperative-sticky" | undefined
}

/**
 * A partition in one of its epochs. The number changes each time the partition is newly given to this session, and never
 * repeats within a process; late chunks, outcomes and commits of an ended epoch are recognised by it.
 *
 * @since 0.1.0
 * @category models
 */
export interface EpochPartition extends TopicPartition {
  readonly epoch: number
}

/**
 * A committed offset (the next one to read) and its metadata.
 *
 * @since 0.1.0
 * @category models
 */
export interface Committed {
  readonly offset: bigint
  readonly metadata: string
}

/**
 * Where the log of a partition begins and ends.
 *
 * @since 0.1.0
 * @category models
 */
export interface LogOffsets extends TopicPartition {
  readonly start: bigint
  /** The end that a reader can see: the last stable offset under `read_committed`, else the high watermark. */
  readonly end: bigint
}

/**
 * A partition of an assignment.
 *
 * @since 0.1.0
 * @category models
 */
export interface AssignedPartition extends EpochPartition {
  /**
   * `true` only when the session held the partition in the generation directly before this one, and the group's committed
   * offset is still the one that this session committed last; where partitions come or go one by one: when the session has held it
   * without a break. Position, buffer and work in flight are valid.
   */
  readonly retained: boolean
  /** What the group has committed; `undefined` when there is nothing. */
  readonly committed: Committed | undefined
  /** Whether the group has committed anything for any partition of this topic: then a partition without is a new one. */
  readonly topicCommitted: boolean
}

/**
 * Records of one partition in offset order, maybe none.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Chunk extends EpochPartition {
  readonly _tag: "Chunk"
  readonly records: ReadonlyArray<ConsumerRecord>
  /** Position after the chunk: beyond the last record's offset + 1 where control records, aborted records or compaction follow it. */
  readonly nextOffset: bigint
  /** The end that a reader can see, as of this chunk. */
  readonly end: bigint
}

/**
 * The whole new assignment. What was owned before and is not in it is gone. Nothing of a new epoch is fetched before `beginUnsafe`.
 * A partition of which it cannot be said yet where it begins, since a transaction is about to replace its committed offset, is not in it, and
 * comes with a later one of the same generation, in which the others are retained.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Assigned {
  readonly _tag: "Assigned"
  readonly all: ReadonlyArray<AssignedPartition>
}

/**
 * Partitions are about to be taken away. An answer (`acknowledgeUnsafe`) is owed in every path. When the membership is gone
 * meanwhile, the hold ends and `Lost` comes at once.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Revoking {
  readonly _tag: "Revoking"
  readonly partitions: ReadonlyArray<EpochPartition>
  /** `false`: an eager protocol, all partitions are listed and some may come back retained. `true`: what is listed goes, and never comes back retained. */
  readonly exact: boolean
  /** Milliseconds that the client can hold the rejoin at most; 0 where it cannot wait. */
  readonly hold: number
  /** Lets the rejoin go on. Synchronous, idempotent. */
  readonly acknowledgeUnsafe: () => void
}

/**
 * The membership of these partitions is over without a chance to commit.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Lost {
  readonly _tag: "Lost"
  readonly partitions: ReadonlyArray<EpochPartition>
}

/**
 * The position is outside of the log. Below `start` (retention) the client goes on at `start` in the same epoch; beyond
 * `end` (truncation, recreated topic) it fetches nothing until `reopenUnsafe` and `beginUnsafe`.
 *
 * @since 0.1.0
 * @category signals
 */
export interface OutOfRange extends EpochPartition, LogOffsets {
  readonly _tag: "OutOfRange"
  readonly position: bigint
}

/**
 * The topic or partition is not there any more (or is another one of the same name). The client fetches nothing of it.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Gone extends EpochPartition {
  readonly _tag: "Gone"
  readonly why: "deleted" | "recreated"
}

/**
 * The session has trouble (`down`, with the reason in `cause`: `Connection` and `Timeout` are an outage, `TopicMissing` and
 * `ProtocolMismatch` are waited out) or has it no more (`up`). The client goes on trying by itself.
 *
 * @since 0.1.0
 * @category signals
 */
export interface Connection {
  readonly _tag: "Connection"
  readonly state: "up" | "down"
  readonly cause: Option.Option<KafkaClientError>
}

/**
 * @since 0.1.0
 * @category signals
 */
export type Signal = Chunk | Assigned | Revoking | Lost | OutOfRange | Gone | Connection

/**
 * One entry of an offset commit.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitEntry extends EpochPartition, Committed {}

/**
 * What became of one entry. The codes are Kafka's own names; `EPOCH`, `NO_ANSWER` and `REQUEST_TOO_LARGE` are the client's.
 *
 * - `committed`: the broker has it.
 * - `retriable`: nothing is known to be wrong with the ownership; send again. Also `UNKNOWN_SERVER_ERROR`: the engine knows when
 *   it means a request that was too large.
 * - `deferred`: the group is between two generations; decide again after the next assignment or change of generation.
 * - `stale`: the entry belongs to an epoch or a membership that is over; drop it.
 * - `rejected`: this entry can never succeed.
 *
 * @since 0.1.0
 * @category models
 */
export type CommitOutcome = EpochPartition &
  (
    | { readonly outcome: "committed" }
    | { readonly outcome: "retriable"; readonly code: "NO_ANSWER" | (string & {}) }
    | {
        readonly outcome: "deferred"
        readonly code: "REBALANCE_IN_PROGRESS" | "ILLEGAL_GENERATION" | "STALE_MEMBER_EPOCH"
      }
    | {
        readonly outcome: "stale"
        readonly code: "EPOCH" | "UNKNOWN_MEMBER_ID" | "FENCED_MEMBER_EPOCH" | "FENCED_INSTANCE_ID"
      }
    | {
        readonly outcome: "rejected"
        readonly code:
          | "OFFSET_METADATA_TOO_LARGE"
          | "REQUEST_TOO_LARGE"
          | "UNKNOWN_TOPIC_OR_PARTITION"
          | "NOT_AUTHORIZED"
          | "INVALID_GROUP_ID"
      }
  )

/**
 * What a driver implements. Members named `Unsafe` are synchronous and are called between two records; they ignore
 * partitions whose epoch is not current.
 *
 * @since 0.1.0
 * @category models
 */
export interface Session {
  readonly settings: SessionSettings
  readonly capabilities: Capabilities
  readonly enabled: boolean
  /**
   * Waits for the topics, then starts the membership. Completes when the membership's machinery runs, which may be long
   * before the first `Assigned`. After `leave` it can be called again: all partitions then get new epochs.
   *
   * **Errors**: `TopicMissing` after `topicTimeout`; `Authentication`, `Authorization`; never `Connection` (an outage is waited out
   * and reported by a `Connection` signal).
   */
  readonly join: Effect.Effect<void, KafkaClientError>
  /** Fails only with what cannot heal; ends when the session is closed. Unbounded: its bound is `pauseUnsafe`. */
  readonly inbox: Queue.Dequeue<Signal, KafkaClientError | Cause.Done>
  /** The generation (or member epoch) now; `-1` without a membership. */
  readonly generationUnsafe: () => number
  /** Where the new epochs start. Until then nothing of them is fetched. */
  readonly beginUnsafe: (starts: ReadonlyArray<EpochPartition & { readonly offset: bigint }>) => void
  /** No more is fetched of these until resumed. A fetch that is under way may still bring one chunk of each. */
  readonly pauseUnsafe: (partitions: ReadonlyArray<EpochPartition>) => void
  readonly resumeUnsafe: (partitions: ReadonlyArray<EpochPartition>) => void
  /**
   * Ends the epoch and gives a new one of the same partition, which fetches nothing until `beginUnsafe`. `undefined` when the
   * epoch is not current. No `Assigned` is sent for it.
   */
  readonly reopenUnsafe: (partition: EpochPartition) => EpochPartition | undefined
  /**
   * One request with the generation pinned, never retried, never followed by a rejoin. Never fails: one outcome for each entry, in
   * their order. Entries whose epoch is not current are `stale` (`EPOCH`) and are not sent; between JoinGroup and the new
   * assignment all are `deferred`. When a request got no answer its connection is closed before the next is sent.
   */
  readonly commit: (entries: ReadonlyArray<CommitEntry>) => Effect.Effect<ReadonlyArray<CommitOutcome>>
  readonly logOffsets: (
    partitions: ReadonlyArray<TopicPartition>
  ) => Effect.Effect<ReadonlyArray<LogOffsets>, KafkaClientError>
  /**
   * Leaves the group now, without a signal; idempotent. The scope does it too. `join` may follow. A static member (`instanceId`) only
   * goes away: its partitions wait for it.
   */
  readonly leave: Effect.Effect<void>
}

/**
 * The session as a service. One consumer runs on it, and only that one uses it: a second consumer fails to build.
 *
 * @since 0.1.0
 * @category services
 */
export class ConsumerSession extends Context.Service<ConsumerSession, Session>()(
  "@concurrent-kafka/core/ConsumerSession"
) {
  /** Validates the options, connects, and prepares a session. Joining the group is left to the consumer's `run`. */
  static readonly layer = (
    options: SessionOptions
  ): Layer.Layer<ConsumerSession, KafkaClientError | InvalidOptions, KafkaClient> =>
    Layer.effect(
      ConsumerSession,
      Effect.gen(function* () {
        const client = yield* KafkaClient
        return yield* client.openSession(yield* validateSession(options))
      })
    )
}
