/**
 * The seam between a client library and the driver: what a connection to one broker can be asked.
 *
 * The library gives connections: TCP, TLS, SASL, the versions that both sides have, requests and answers by number.
 * Membership, assignment, fetching, commits and producing are the driver's own and stand on this interface only, so that
 * they are the same on every library.
 *
 * What every implementation promises:
 * - An answer comes whole, with its error codes; a promise is rejected only when there is none.
 * - A request is sent once: nothing below tries again, looks for another broker or changes what was asked for.
 * - Requests of a broker may be under way at the same time. A Fetch does not hold up the others.
 * - `destroy` ends at once: what is under way is rejected, and no connection is opened any more.
 *
 * @since 0.1.0
 */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Fetched } from "./internal/fetchResponse.ts"
import type { PartitionBatch, Produced, ProducerIdentity } from "./internal/produceRequest.ts"

export interface Address {
  readonly host: string
  readonly port: number
}

export interface MemberOfGroup {
  readonly memberId: string
  readonly memberMetadata: Buffer
}

export interface TopicEntries<A> {
  readonly topic: string
  /** as in `TopicMetadata`; who can asks by it */
  readonly topicId?: string | undefined
  readonly partitions: ReadonlyArray<A>
}

export interface TopicMetadata {
  readonly topic: string
  /** Kafka's name of the error; `NONE` */
  readonly code: string
  /** `undefined` with brokers that have no topic ids */
  readonly id: string | undefined
  /** leaders by partition; -1 while there is none */
  readonly leaders: ReadonlyMap<number, number>
}

export interface Metadata {
  readonly brokers: ReadonlyMap<number, Address>
  readonly topics: ReadonlyMap<string, TopicMetadata>
}

/** By topic id, as in `TopicMetadata`. */
export interface TopicIdPartitions {
  readonly topicId: string
  readonly partitions: ReadonlyArray<number>
}

/** Says everything each time, so that the answer says everything, too, and the next one makes up for one that was lost. */
export interface ConsumerGroupHeartbeat {
  readonly groupId: string
  readonly memberId: string
  /** 0 to join, -1 to leave, -2 to go away as a static member that comes back */
  readonly memberEpoch: number
  readonly instanceId: string | undefined
  readonly rebalanceTimeout: number
  readonly topics: ReadonlyArray<string>
  readonly owned: ReadonlyArray<TopicIdPartitions>
}

export interface ConsumerGroupHeartbeatAnswer {
  readonly errorCode: number
  readonly errorMessage: string | undefined
  readonly memberEpoch: number
  /** milliseconds */
  readonly heartbeatInterval: number
  /** `undefined`: as before */
  readonly assignment: ReadonlyArray<TopicIdPartitions> | undefined
}

export interface Broker {
  /** `host:port`, for messages */
  readonly address: string
  readonly isConnected: () => boolean
  readonly connect: () => Promise<void>
  readonly destroy: () => void
  /** An empty list asks for no topic, only for the brokers. Never creates one. */
  readonly metadata: (topics: ReadonlyArray<string>) => Promise<Metadata>
  readonly findGroupCoordinator: (args: { readonly groupId: string }) => Promise<{
    readonly errorCode: number
    readonly coordinator: Address & { readonly nodeId: number }
  }>
  readonly joinGroup: (args: {
    readonly groupId: string
    readonly sessionTimeout: number
    readonly rebalanceTimeout: number
    readonly memberId: string
    readonly groupInstanceId?: string | undefined
    readonly groupProtocols: ReadonlyArray<{ readonly name: string; readonly metadata: Buffer }>
  }) => Promise<{
    readonly errorCode: number
    readonly generationId: number
    readonly groupProtocol: string
    readonly leaderId: string
    readonly memberId: string
    readonly members: ReadonlyArray<MemberOfGroup>
  }>
  /** Answered when the leader has assigned, or when its session has ended without it. */
  readonly syncGroup: (args: {
    readonly groupId: string
    readonly generationId: number
    readonly memberId: string
    readonly groupInstanceId?: string | undefined
    readonly groupAssignment: ReadonlyArray<{ readonly memberId: string; readonly memberAssignment: Buffer }>
  }) => Promise<{ readonly errorCode: number; readonly memberAssignment: Buffer }>
  readonly heartbeat: (args: {
    readonly groupId: string
    readonly groupGenerationId: number
    readonly memberId: string
    readonly groupInstanceId?: string | undefined
  }) => Promise<{ readonly errorCode: number }>
  /** Only of a library that has the `consumer` protocol. */
  readonly consumerGroupHeartbeat?:
    | ((args: ConsumerGroupHeartbeat) => Promise<ConsumerGroupHeartbeatAnswer>)
    | undefined
  readonly leaveGroup: (args: { readonly groupId: string; readonly memberId: string }) => Promise<unknown>
  readonly offsetCommit: (args: {
    readonly groupId: string
    /** of a member of the `consumer` protocol its epoch, which takes another version of the request */
    readonly groupGenerationId: number
    readonly memberId: string
    readonly groupInstanceId?: string | undefined
    readonly groupProtocol?: "classic" | "consumer" | undefined
    readonly topics: ReadonlyArray<
      TopicEntries<{ readonly partition: number; readonly offset: bigint; readonly metadata: string }>
    >
  }) => Promise<{
    readonly responses: ReadonlyArray<TopicEntries<{ readonly partition: number; readonly errorCode: number }>>
  }>
  readonly offsetFetch: (args: {
    readonly groupId: string
    /** not what a transaction is about to replace, where the broker can tell: `UNSTABLE_OFFSET_COMMIT` is the answer then */
    readonly requireStable: boolean
    readonly topics: ReadonlyArray<TopicEntries<{ readonly partition: number }>>
  }) => Promise<{
    readonly errorCode?: number | undefined
    readonly responses: ReadonlyArray<
      TopicEntries<{
        readonly partition: number
        readonly offset: bigint
        readonly metadata: string | null
        readonly errorCode: number
      }>
    >
  }>
  readonly listOffsets: (args: {
    readonly isolationLevel: number
    readonly topics: ReadonlyArray<TopicEntries<{ readonly partition: number; readonly timestamp: -1 | -2 }>>
  }) => Promise<{
    readonly responses: ReadonlyArray<
      TopicEntries<{ readonly partition: number; readonly errorCode: number; readonly offset: bigint }>
    >
  }>
  readonly fetch: (args: {
    readonly isolationLevel: number
    readonly maxWaitTime: number
    readonly minBytes: number
    readonly maxBytes: number
    readonly topics: ReadonlyArray<
      TopicEntries<{ readonly partition: number; readonly fetchOffset: bigint; readonly maxBytes: number }>
    >
  }) => Promise<Fetched>
  /**
   * Answered when all replicas in sync have it, or after `timeout` milliseconds; a little later nobody waits any more. Throws,
   * and does not reject, when it has sent nothing.
   */
  readonly produce: (batches: ReadonlyArray<PartitionBatch>, timeout: number) => Promise<Produced>
  /** For an idempotent producer without transactions; any broker gives one. */
  readonly initProducerId: () => Promise<ProducerIdentity>
}

/** What the library has to give. */
export interface Connector {
  /** Its brokers take a `groupInstanceId` wherever it is offered. */
  readonly staticMembership: boolean
  /** With `"consumer"` its brokers have `consumerGroupHeartbeat`. */
  readonly groupProtocols: ReadonlyArray<"classic" | "consumer">
  /** A broker that is not connected yet; without an address one of the first addresses, which are gone through in turn. */
  readonly open: (address: Address | undefined, id: number | undefined) => Promise<Broker>
  /**
   * What an error means that a broker was rejected with. `authenticated`: the broker has taken our credentials over this
   * connection before.
   */
  readonly classify: (error: unknown, what: string, authenticated?: boolean) => KafkaClientError
  readonly decompress: Decompress
}

/**
 * Rejects with `KafkaClientError`: `MissingCodec`, `CorruptData`, which it also is to unpack to too much. `where` names the batch in
 * it, `behind` is the offset after it.
 */
export type Decompress = (codec: number, bytes: Buffer, where: string, behind: bigint) => Promise<Buffer>
