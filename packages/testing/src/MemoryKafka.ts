/**
 * A Kafka cluster in memory that keeps the contract of `KafkaClient`: topics with everything that leaves holes in a log, consumer
 * groups with both protocols, commits with each of their outcomes, and every fault between a member and the broker.
 *
 * It lives on the Clock of the fiber that makes it: under TestClock nothing happens but by what the test does, and the same
 * calls give the same run.
 *
 * @since 0.1.0
 */
import type { ConsumerRecord, TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Committed, EpochPartition, LogOffsets, Session } from "@concurrent-kafka/core/ConsumerSession"
import { type KafkaAdmin, KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Faults } from "./Faults.ts"
import { Broker } from "./internal/broker.ts"
import { makeCluster } from "./internal/cluster.ts"
import { openProducer } from "./internal/producer.ts"
import { logOffsets, openSession } from "./internal/session.ts"
import type { ClientSettings } from "./internal/state.ts"

/**
 * The broker. Times in milliseconds.
 *
 * @since 0.1.0
 * @category options
 */
export interface ClusterOptions {
  /**
   * How long a request of the group (join, heartbeat, offsets) is on its way. Default 0: the next turn of the scheduler, so that
   * nothing needs a moving clock but what waits for a time by its nature.
   */
  readonly requestLatency?: number | undefined
  /** The same for a fetch. Default 0. */
  readonly fetchLatency?: number | undefined
  /** The same for a commit. Default 0: with more, a flush at the end of a test under TestClock waits for a clock that nobody moves. */
  readonly commitLatency?: number | undefined
  /** The same for what a producer sends. Default 0. */
  readonly produceLatency?: number | undefined
  /** The pause of a client after a request that failed. Default 100. */
  readonly retryBackoff?: number | undefined
  /** Records of one partition in one chunk at most. Default 500. */
  readonly maxChunk?: number | undefined
  /** Records of all partitions in one fetch at most. Default 5,000. */
  readonly maxFetchRecords?: number | undefined
  /** Characters of metadata that a commit may have. Default 4,096. Kafka: `offset.metadata.max.bytes`. */
  readonly maxMetadataLength?: number | undefined
  /** Bytes that one commit may take in the offsets topic; more is refused as a whole with `UNKNOWN_SERVER_ERROR`. Default 1 MiB. */
  readonly maxCommitBytes?: number | undefined
  /** Bytes that a record may have; a larger one is refused with `MESSAGE_TOO_LARGE`. Default 1,048,588. Kafka: `message.max.bytes`. */
  readonly maxRecordBytes?: number | undefined
  /** Bytes that a client sends in one request; it refuses more itself, with `REQUEST_TOO_LARGE`. Default 100 MiB. */
  readonly maxRequestBytes?: number | undefined
  /** How long the first members of an empty eager group are waited for. Default 0. Kafka: `group.initial.rebalance.delay.ms`. */
  readonly initialRebalanceDelay?: number | undefined
  /** How many commits `commits` remembers. Default 100,000. */
  readonly commitHistory?: number | undefined
  /** Keep a line for each event, for `trace`. Default false. */
  readonly trace?: boolean | undefined
}

/**
 * One process that uses the cluster.
 *
 * @since 0.1.0
 * @category options
 */
export interface ClientOptions {
  /** Names the process in member ids, faults and histories. Default `client`. */
  readonly clientId?: string | undefined
  /**
   * Of sessions that do not say it themselves (`groupProtocol`, `assignor`): `"eager"` is the classic protocol as kafkajs speaks it,
   * `"incremental"` KIP-848, which stands for `assignor: "cooperative-sticky"`, too. Such a session has in addition what is its own: a
   * rebalance takes two rounds, and in each of them its commits wait until all members have joined. Default `"eager"`.
   */
  readonly protocol?: "eager" | "incremental" | undefined
  /** Names of the assignors that it offers, best first; an eager group needs one that all members know. Default `["sticky"]`. */
  readonly assignors?: ReadonlyArray<string> | undefined
  /**
   * In which version it tells the leader of an eager group what it holds, as a process of another release does; `"unreadable"`: in none.
   * A leader reads 1 to its own, and takes who it cannot read for one who owns nothing. Default 1.
   */
  readonly claims?: number | "unreadable" | undefined
  /** `false`: like a client whose rejoin cannot be held; `Revoking` comes with a hold of 0. Default `true`. */
  readonly awaitedRevoke?: boolean | undefined
  /** `false`: the metadata of commits is dropped. Default `true`. */
  readonly commitMetadata?: boolean | undefined
  /** `false`: the first refusal of a commit is told for all its entries. Default `true`. */
  readonly perPartitionCommitResult?: boolean | undefined
  /** Milliseconds until a request without an answer is given up. Default 30,000. */
  readonly requestTimeout?: number | undefined
  /** Milliseconds for which a producer tries to send a record. Default 120,000. Java: `delivery.timeout.ms`. */
  readonly deliveryTimeout?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface MemoryKafkaOptions extends ClusterOptions, ClientOptions {}

/**
 * A record to be written. Text is written as UTF-8.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewRecord {
  readonly key?: Uint8Array | string | null | undefined
  readonly value?: Uint8Array | string | null | undefined
  readonly headers?: ReadonlyArray<readonly [name: string, value: Uint8Array | string | null]> | undefined
  /** Milliseconds since 1970. Default the cluster's clock. */
  readonly timestamp?: number | bigint | undefined
  /** Default by the key, as Java's producer does (murmur2), and in turn without one. */
  readonly partition?: number | undefined
}

/**
 * Where a record was written.
 *
 * @since 0.1.0
 * @category models
 */
export interface Written extends TopicPartition {
  readonly offset: bigint
}

/**
 * A producer's transaction. Until it ends, readers with `read_committed` see nothing from its first record on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Transaction {
  readonly produce: (topic: string, records: Iterable<NewRecord>) => Effect.Effect<ReadonlyArray<Written>>
  /** Writes a control marker into each partition; the records become visible. */
  readonly commit: Effect.Effect<void>
  /** Writes a control marker into each partition; the records never become visible. */
  readonly abort: Effect.Effect<void>
}

/**
 * One commit that reached the broker, or was answered in its name by a fault.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitRecord {
  /** milliseconds on the cluster's clock */
  readonly at: number
  readonly groupId: string
  readonly clientId: string
  readonly memberId: string
  /** generation or member epoch, as it was sent */
  readonly generation: number
  /** An entry without a code was stored. */
  readonly entries: ReadonlyArray<TopicPartition & Committed & { readonly code: string | undefined }>
}

/**
 * A group as its coordinator sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupState {
  readonly groupId: string
  readonly protocol: "eager" | "incremental" | "none"
  readonly state: "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable" | "Reconciling"
  /** The generation, or the group's epoch. */
  readonly generation: number
  readonly members: ReadonlyArray<{
    readonly memberId: string
    readonly clientId: string
    readonly epoch: number
    readonly assignment: ReadonlyArray<TopicPartition>
  }>
}

/**
 * A session from outside: what it holds, and what can be done to its process.
 *
 * @since 0.1.0
 * @category models
 */
export interface MemorySession {
  /** `clientId/n`, counted over the cluster. */
  readonly id: string
  readonly clientId: string
  readonly groupId: string
  readonly memberIdUnsafe: () => string
  readonly generationUnsafe: () => number
  /** What it holds, and where it reads next; `undefined` before `begin`. */
  readonly heldUnsafe: () => ReadonlyArray<
    EpochPartition & { readonly position: bigint | undefined; readonly paused: boolean }
  >
  readonly isOpenUnsafe: () => boolean
  /** The process stands still (SIGSTOP, a blocked event loop): nothing is sent, nothing that comes is read. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** kill -9: nothing is said to the broker, and the inbox ends. */
  readonly crash: Effect.Effect<void>
  /** Its network is gone until `reconnect`; the broker is up for the others. */
  readonly disconnect: Effect.Effect<void>
  readonly reconnect: Effect.Effect<void>
  /** Breaks its connections once; requests that wait get no answer. */
  readonly breakConnections: Effect.Effect<void>
  /** The broker throws the member out, as after a session timeout. */
  readonly evict: Effect.Effect<void>
  /** Ends it with what cannot heal. */
  readonly end: (
    reason: "Authentication" | "Authorization" | "FencedInstance" | "MissingCodec" | "CorruptData"
  ) => Effect.Effect<void>
}

/**
 * The cluster as a test sees it. A misuse (an unknown topic) is a defect.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cluster {
  /** Another process on this cluster. */
  readonly client: (options?: ClientOptions) => KafkaClient["Service"]
  readonly admin: KafkaAdmin

  readonly createTopic: (
    topic: string,
    options?: {
      /** Default 1. */
      readonly partitions?: number | undefined
      /** Whether `compact` may be asked for; records then need a key. Default false. */
      readonly compaction?: boolean | undefined
      /** The offset of the first record, for numbers that a double cannot hold. Default 0. */
      readonly startOffset?: bigint | undefined
    }
  ) => Effect.Effect<void>
  /** Raises the number of partitions to `total`. */
  readonly addPartitions: (topic: string, total: number) => Effect.Effect<void>
  /** With `keepCommitted` the groups' offsets stay, as when a commit comes just after the deletion. */
  readonly deleteTopic: (
    topic: string,
    options?: { readonly keepCommitted?: boolean | undefined }
  ) => Effect.Effect<void>
  /** Another topic of the same name. */
  readonly recreateTopic: (
    topic: string,
    options?: { readonly partitions?: number | undefined; readonly keepCommitted?: boolean | undefined }
  ) => Effect.Effect<void>

  readonly produce: (topic: string, records: Iterable<NewRecord>) => Effect.Effect<ReadonlyArray<Written>>
  readonly produceUnsafe: (topic: string, records: Iterable<NewRecord>) => ReadonlyArray<Written>
  /** Writes `count` records of one partition that are made whenever they are read: millions cost nothing to hold. */
  readonly produceMany: (
    partition: TopicPartition,
    count: number,
    make: (index: number) => { readonly key: Uint8Array | null; readonly value: Uint8Array | null }
  ) => Effect.Effect<void>
  readonly transaction: Effect.Effect<Transaction>
  /** A control marker of a producer that wrote nothing here: it only takes an offset. */
  readonly appendMarker: (topic: string, partition: number) => Effect.Effect<void>
  /** Keeps the newest record of each key, and with `tombstones` no record without a value. */
  readonly compact: (topic: string, options?: { readonly tombstones?: boolean | undefined }) => Effect.Effect<void>
  /** Makes holes. */
  readonly removeOffsets: (topic: string, partition: number, offsets: Iterable<bigint>) => Effect.Effect<void>
  /** Retention. */
  readonly deleteRecordsBefore: (topic: string, partition: number, offset: bigint) => Effect.Effect<void>
  /** An unclean leader election: the log ends at `offset`, and its offsets are given out again. */
  readonly truncateTo: (topic: string, partition: number, offset: bigint) => Effect.Effect<void>

  readonly logOffsetsUnsafe: (
    topic: string,
    partition: number,
    isolation?: "read_committed" | "read_uncommitted"
  ) => LogOffsets
  /** All records that a reader sees, for comparison with what was handled. */
  readonly recordsUnsafe: (
    topic: string,
    partition: number,
    isolation?: "read_committed" | "read_uncommitted"
  ) => ReadonlyArray<ConsumerRecord>

  readonly committed: (groupId: string, topic: string, partition: number) => Effect.Effect<Committed | undefined>
  readonly committedUnsafe: (groupId: string, topic: string, partition: number) => Committed | undefined
  /** Whatever the group is doing, as a tool that resets offsets. */
  readonly setCommitted: (
    groupId: string,
    topic: string,
    partition: number,
    committed: { readonly offset: bigint; readonly metadata?: string | undefined } | undefined
  ) => Effect.Effect<void>
  /** Every commit that came, oldest first. */
  readonly commitsUnsafe: (groupId?: string) => ReadonlyArray<CommitRecord>
  /** Called for each commit when it comes; the result ends it. */
  readonly onCommitUnsafe: (f: (commit: CommitRecord) => void) => () => void
  readonly groupUnsafe: (groupId: string) => GroupState
  /** Makes the members of a group join again without any other reason. */
  readonly rebalance: (groupId: string) => Effect.Effect<void>

  /** Every session that was opened, in this order, also closed ones. */
  readonly sessionsUnsafe: () => ReadonlyArray<MemorySession>
  /** The same session from outside. */
  readonly controlUnsafe: (session: Session) => MemorySession
  /** The newest open session of this client. */
  readonly sessionUnsafe: (clientId: string) => MemorySession

  readonly faults: Faults
  /** The broker is gone for everybody, from now until `brokerUp`. */
  readonly brokerDown: Effect.Effect<void>
  /** It is back with what it had written down; members get a whole session timeout. */
  readonly brokerUp: Effect.Effect<void>
  /** One line for each event, with option `trace`. */
  readonly traceUnsafe: () => ReadonlyArray<string>
}

const clientSettings = (options: ClientOptions): ClientSettings => ({
  clientId: options.clientId ?? "client",
  protocol: options.protocol ?? "eager",
  cooperative: false,
  assignors: options.assignors ?? ["sticky"],
  claims: options.claims ?? 1,
  awaitedRevoke: options.awaitedRevoke ?? true,
  commitMetadata: options.commitMetadata ?? true,
  perPartitionCommitResult: options.perPartitionCommitResult ?? true,
  requestTimeout: options.requestTimeout ?? 30_000,
  deliveryTimeout: options.deliveryTimeout ?? 120_000
})

const makeAdmin = (broker: Broker): KafkaAdmin => {
  const ask = <A>(question: () => A | KafkaClientError): Effect.Effect<A, KafkaClientError> =>
    Effect.suspend(() => {
      if (!broker.isUp) return Effect.fail(new KafkaClientError({ reason: "Connection", detail: "the broker is down" }))
      const answer = question()
      return answer instanceof KafkaClientError ? Effect.fail(answer) : Effect.succeed(answer)
    })
  return {
    partitions: (topics) => ask(() => broker.topics.partitionsOf(topics)),
    committed: (groupId, partitions) =>
      ask(() => {
        const { offsets } = broker.coordinator.group(groupId)
        return partitions.flatMap((partition) => offsets.get(`${partition.topic}/${partition.partition}`) ?? [])
      }),
    logOffsets: (partitions) => ask(() => logOffsets(broker, partitions, "read_uncommitted"))
  }
}

/**
 * The cluster, as a service for tests.
 *
 * @since 0.1.0
 * @category services
 */
export class MemoryKafka extends Context.Service<MemoryKafka, Cluster>()("@concurrent-kafka/testing/MemoryKafka") {
  /** A cluster that lives as long as the scope. */
  static readonly make = (options: ClusterOptions = {}): Effect.Effect<Cluster, never, Scope.Scope> =>
    Effect.map(
      Broker.make({
        requestLatency: options.requestLatency ?? 0,
        fetchLatency: options.fetchLatency ?? 0,
        commitLatency: options.commitLatency ?? 0,
        produceLatency: options.produceLatency ?? 0,
        retryBackoff: options.retryBackoff ?? 100,
        maxChunk: options.maxChunk ?? 500,
        maxFetchRecords: options.maxFetchRecords ?? 5000,
        maxMetadataLength: options.maxMetadataLength ?? 4096,
        maxCommitBytes: options.maxCommitBytes ?? 1_048_576,
        maxRecordBytes: options.maxRecordBytes ?? 1_048_588,
        maxRequestBytes: options.maxRequestBytes ?? 104_857_600,
        initialRebalanceDelay: options.initialRebalanceDelay ?? 0,
        commitHistory: options.commitHistory ?? 100_000,
        trace: options.trace ?? false
      }),
      (broker) => {
        const admin = makeAdmin(broker)
        return MemoryKafka.of({
          ...makeCluster(broker),
          admin,
          client: (clientOptions = {}) => {
            const client = clientSettings(clientOptions)
            return KafkaClient.of({
              name: "memory",
              enabled: true,
              openSession: (settings) => openSession(broker, client, settings),
              openProducer: openProducer(broker, client),
              openAdmin: Effect.succeed(admin)
            })
          }
        })
      }
    )

  /** The cluster and one client of it. */
  static readonly layer = (options: MemoryKafkaOptions = {}): Layer.Layer<MemoryKafka | KafkaClient | KafkaProducer> =>
    Layer.provideMerge(MemoryKafka.layerClient(options), Layer.effect(MemoryKafka, MemoryKafka.make(options)))

  /** Another process on the cluster that is there. */
  static readonly layerClient = (
    options: ClientOptions = {}
  ): Layer.Layer<KafkaClient | KafkaProducer, never, MemoryKafka> =>
    Layer.effectContext(
      Effect.gen(function* () {
        const client = (yield* MemoryKafka).client(options)
        // not `KafkaProducer.layer`: a constant is built once, and two clients would share the producer of the first
        const producer = yield* Effect.provideService(KafkaProducer.make, KafkaClient, client)
        return Context.make(KafkaClient, client).pipe(Context.add(KafkaProducer, producer))
      })
    )
}
