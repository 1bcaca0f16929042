/**
 * What every Kafka client that the engine runs on must do, as a test suite for `@effect/vitest`. A driver calls it with its layer
 * and with what a test needs from the cluster:
 *
 * ```ts
 * contractSuite("kafkajs", { layer: KafkaJs.layer({ brokers }), harness })
 * ```
 *
 * It runs on the live clock and polls with deadlines, so the same suite serves the in-memory cluster and a real broker. It needs one Kafka
 * that stays up: it does not try leaders or coordinators that move, brokers that are away or silent, members on two clients in one group,
 * TLS and SASL, or that a closed client leaves no socket and no timer.
 *
 * @since 0.1.0
 */
import type { Committed, Session, SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { layer } from "@effect/vitest"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { commits } from "./internal/contract/commits.ts"
import { engine } from "./internal/contract/engine.ts"
import { membership } from "./internal/contract/membership.ts"
import { positions } from "./internal/contract/positions.ts"
import { producer } from "./internal/contract/producer.ts"
import { records } from "./internal/contract/records.ts"
import { makeKit } from "./internal/contract/kit.ts"
import { topics } from "./internal/contract/topics.ts"

/**
 * A record that the suite has written.
 *
 * @since 0.1.0
 * @category models
 */
export interface ContractRecord {
  readonly partition: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: ReadonlyArray<readonly [name: string, value: Uint8Array | null]>
}

/**
 * What the suite needs from the cluster, beside the client. Without an optional member the tests that need it are reported as
 * skipped, with the reason in their `meta.skipped`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ContractHarness<R = never> {
  /** Succeeds when the topic can be used, also when it is there already. */
  readonly createTopic: (topic: string, partitions: number) => Effect.Effect<void, unknown, R>
  /** Succeeds when all are written, in their order. */
  readonly produce: (topic: string, records: ReadonlyArray<ContractRecord>) => Effect.Effect<void, unknown, R>
  /** What the broker says that the group has committed, read without the client under test where that is possible. */
  readonly committed: (
    groupId: string,
    topic: string,
    partition: number
  ) => Effect.Effect<Committed | undefined, unknown, R>
  readonly deleteTopic?: ((topic: string) => Effect.Effect<void, unknown, R>) | undefined
  readonly addPartitions?: ((topic: string, total: number) => Effect.Effect<void, unknown, R>) | undefined
  readonly deleteRecordsBefore?:
    | ((topic: string, partition: number, offset: bigint) => Effect.Effect<void, unknown, R>)
    | undefined
  /** Writes the records in one transaction, and ends it so; `open` leaves it open, and the result ends it. Ended: its markers are written. */
  readonly transaction?:
    | ((
        topic: string,
        records: ReadonlyArray<ContractRecord>,
        end: "commit" | "abort" | "open"
      ) => Effect.Effect<(end: "commit" | "abort") => Effect.Effect<void, unknown, R>, unknown, R>)
    | undefined
  /** Removes these offsets, as compaction does. */
  readonly removeOffsets?:
    | ((topic: string, partition: number, offsets: ReadonlyArray<bigint>) => Effect.Effect<void, unknown, R>)
    | undefined
  /** From now on no SyncGroup of the session is served; the result lets them through. Eager protocol only. */
  readonly holdSync?: ((session: Session) => Effect.Effect<Effect.Effect<void>, unknown, R>) | undefined
  /** The broker throws the session's member out of its group. */
  readonly evict?: ((session: Session) => Effect.Effect<void, unknown, R>) | undefined
  /** Breaks the session's connections once. */
  readonly breakConnections?: ((session: Session) => Effect.Effect<void, unknown, R>) | undefined
  /** The order of headers of different names is kept. Default `true`; kafkajs gives them as an object. */
  readonly keepsHeaderOrder?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ContractOptions<R, E> {
  readonly layer: Layer.Layer<KafkaClient | R, E>
  readonly harness: ContractHarness<R>
  /** How groups of the client rebalance: `"incremental"` under KIP-848, `"cooperative"` under the classic protocol (KIP-429). */
  readonly protocol: "eager" | "incremental" | "cooperative"
  /** `false` for a client that cannot hold a rejoin. Default `true`. */
  readonly awaitedRevoke?: boolean | undefined
  /**
   * Times of the sessions, in milliseconds. The defaults are what a broker with standard settings accepts; the in-memory
   * cluster takes shorter ones.
   */
  readonly settings?:
    | Partial<Pick<SessionSettings, "sessionTimeout" | "heartbeatInterval" | "metadataMaxAge" | "maxWait">>
    | undefined
  /** How long the suite waits for something that must happen, in milliseconds. Default 30,000. */
  readonly patience?: number | undefined
  /** How long it waits for something that must not happen, in milliseconds. Default 1,000. */
  readonly quiet?: number | undefined
  /** The tests run side by side: they mostly wait. Default `false`. */
  readonly concurrent?: boolean | undefined
}

/**
 * Registers the suite.
 *
 * @since 0.1.0
 * @category tests
 */
export const contractSuite = <R, E>(name: string, options: ContractOptions<R, E>): void => {
  const kit = makeKit(options)
  layer(options.layer, {
    excludeTestServices: true,
    timeout: kit.patience,
    concurrent: options.concurrent ?? false
  })(`contract: ${name}`, (it) => {
    const suite = { ...kit, it }
    records(suite)
    positions(suite)
    commits(suite)
    membership(suite)
    topics(suite)
    producer(suite)
    engine(suite)
  })
}
