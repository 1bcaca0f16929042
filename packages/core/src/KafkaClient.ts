/**
 * The Kafka client as the engine sees it: something that opens sessions of a consumer group, and producers. Drivers provide it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { TopicPartition } from "./ConsumerRecord.ts"
import type { Committed, LogOffsets, Session, SessionSettings } from "./ConsumerSession.ts"
import type { Producer } from "./KafkaProducer.ts"

/**
 * Something went wrong between this process and Kafka.
 *
 * - `Connection`: no broker answered. Heals by itself; a running session goes on trying.
 * - `Timeout`: a broker took the request and did not answer in time. Heals by itself.
 * - `Authentication`, `Authorization`: the broker refuses these credentials. Ends the session.
 * - `TopicMissing`: the topic is not there (after `topicTimeout`, if that is set).
 * - `ProtocolMismatch`: the group is used with another assigner or protocol. The session goes on trying.
 * - `FencedInstance`: another process uses the same instance id. Ends the session; under the `consumer` protocol who comes second
 *   waits a while first, since the first may be what is left of a process that was killed.
 * - `MissingCodec`: records are compressed with a codec that is not registered. Ends the session.
 * - `CorruptData`: a batch of records cannot be decoded. Ends the session.
 * - `UnsupportedClient`: the client library is not the version whose inner workings the driver knows; it, or the brokers, cannot do
 *   what was asked for (a group protocol, static membership).
 * - `Closed`: the client was closed before.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaClientError extends Schema.TaggedError<KafkaClientError>()("KafkaClientError", {
  reason: Schema.Literals([
    "Connection",
    "Timeout",
    "Authentication",
    "Authorization",
    "TopicMissing",
    "ProtocolMismatch",
    "FencedInstance",
    "MissingCodec",
    "CorruptData",
    "UnsupportedClient",
    "Closed"
  ]),
  /** What was tried and what to do, without data of any record or credential. */
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `${this.reason}: ${this.detail}`
  }
  /** Whether trying again may succeed without anybody changing anything. */
  get isRetryable(): boolean {
    return (
      this.reason === "Connection" ||
      this.reason === "Timeout" ||
      this.reason === "ProtocolMismatch" ||
      this.reason === "TopicMissing"
    )
  }
}

/**
 * What a client can do. The engine asks for less where something is missing.
 *
 * @since 0.1.0
 * @category models
 */
export interface Capabilities {
  /** The client waits for the answer to `Revoking` before it rejoins. Without it there is no drain: the flush is sent at once. */
  readonly awaitedRevoke: boolean
  /** Revocations are exact and the other partitions keep flowing during a rebalance. */
  readonly incremental: boolean
  readonly commitMetadata: boolean
  /** Otherwise one result stands for all entries of a request. */
  readonly perPartitionCommitResult: boolean
  readonly staticMembership: boolean
  readonly groupProtocols: ReadonlyArray<"classic" | "consumer">
  /** Of the classic protocol. */
  readonly assignors: ReadonlyArray<"sticky" | "cooperative-sticky">
  /** Milliseconds after which a request without an answer is given up, and after which the broker can no longer apply it. */
  readonly requestTimeout: number
}

/**
 * Read-only questions about topics and groups, asked outside of any membership.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaAdmin {
  /** All partitions of the topics that exist. */
  readonly partitions: (topics: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<TopicPartition>, KafkaClientError>
  /** What the group has committed; partitions without a committed offset are left out. */
  readonly committed: (
    groupId: string,
    partitions: ReadonlyArray<TopicPartition>
  ) => Effect.Effect<ReadonlyArray<TopicPartition & Committed>, KafkaClientError>
  readonly logOffsets: (
    partitions: ReadonlyArray<TopicPartition>
  ) => Effect.Effect<ReadonlyArray<LogOffsets>, KafkaClientError>
}

/**
 * A Kafka client. `KafkaJs.layer` of `@concurrent-kafka/kafkajs` provides it for production, `MemoryKafka.layer` of
 * `@concurrent-kafka/testing` for tests.
 *
 * @since 0.1.0
 * @category services
 */
export class KafkaClient extends Context.Service<
  KafkaClient,
  {
    /** Name of the driver, for logs. */
    readonly name: string
    /** `false` with `KAFKA_ENABLED=false`: sessions never get a record, and health says `disabled`. */
    readonly enabled: boolean
    /** Connects and prepares; does not join the group. Closing the scope leaves the group and disconnects. */
    readonly openSession: (settings: SessionSettings) => Effect.Effect<Session, KafkaClientError, Scope.Scope>
    /**
     * A producer of its own; it connects on the first send. Closing the scope waits for what is under way, at most some
     * seconds; what is not confirmed then fails with `closed`. Most programs share one: `KafkaProducer`.
     */
    readonly openProducer: Effect.Effect<Producer, KafkaClientError, Scope.Scope>
    readonly openAdmin: Effect.Effect<KafkaAdmin, KafkaClientError, Scope.Scope>
  }
>()("@concurrent-kafka/core/KafkaClient") {}
