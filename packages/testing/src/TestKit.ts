/**
 * Tests of one's own handlers without a broker: a consumer on a Kafka in memory, what can go wrong with it as verbs, and what
 * became of each record as values and as assertions.
 *
 * Under `TestClock` (`it.effect`) nothing waits: `advance` moves the clock. On the live clock (`it.live`) the same verbs wait.
 * A kit shows keys and values in its errors: that is what a test wants to see. Do not feed it with what nobody may read.
 *
 * @since 0.1.0
 */
import type { Codec, EncodeError } from "@concurrent-kafka/core/Codec"
import type { CommitterDied } from "@concurrent-kafka/core/CommitterDied"
import type { HandlerOptions, OnFailure } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { ConsumerError } from "@concurrent-kafka/core/ConsumerError"
import type { ConsumerRecord, TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import type { Handler } from "@concurrent-kafka/core/Handler"
import type { HealthCode } from "@concurrent-kafka/core/Health"
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Topic } from "@concurrent-kafka/core/Topic"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { ExpectationFailed } from "./ExpectationFailed.ts"
import { deadLetterTopics } from "./internal/letters.ts"
import { openKit } from "./internal/kit.ts"
import { watchedKit } from "./internal/watchedKit.ts"
import type { Cluster, MemoryKafka, MemoryKafkaOptions, NewRecord, Written } from "./MemoryKafka.ts"

/**
 * A topic, typed (a `Topic`) or by its name: then its values are text.
 *
 * @since 0.1.0
 * @category models
 */
export type Named<V, RD> = string | { readonly name: string; readonly value: Codec<V, Uint8Array | null, RD, unknown> }

/**
 * What became of a record.
 *
 * - `waiting`: nobody handles it now. Not fetched yet, behind others, or interrupted.
 * - `running`: its handler runs.
 * - `retrying`, `parked`: it failed, and the policy said so. `sending`: its dead letter is on its way.
 * - `handled`, `skipped`, `filtered`: it is done. `deadLettered`: the broker has its dead letter.
 * - `failed`: it failed, and nothing was decided yet. `stopped`: the policy said that the consumer ends.
 *
 * @since 0.1.0
 * @category models
 */
export type RecordStatus =
  | "waiting"
  | "running"
  | "retrying"
  | "parked"
  | "sending"
  | "handled"
  | "skipped"
  | "filtered"
  | "deadLettered"
  | "failed"
  | "stopped"

/**
 * One run of the handler. `killed`: its process was, while it ran.
 *
 * @since 0.1.0
 * @category models
 */
export interface Attempt {
  /** As in `Delivery.attempt`: counted anew by each owner of the partition. */
  readonly attempt: number
  /** `m1` is the kit's own member, `m1.2` its second life, `m2` the first that joined. */
  readonly member: string
  /** Milliseconds since 1970 on the test's clock. */
  readonly startedAt: number
  /** `undefined` while it runs. */
  readonly endedAt: number | undefined
  readonly end: "running" | "handled" | "failed" | "interrupted" | "killed"
  /** Tag or name of what it failed with. */
  readonly error: string | undefined
}

/**
 * A record of a topic, and everything that happened to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface RecordView<out V> extends TopicPartition {
  readonly offset: bigint
  readonly record: ConsumerRecord
  /** Decoded with the topic that was asked with. Its text where it was asked by name, or where it cannot be decoded. */
  readonly value: V | string | null
  readonly status: RecordStatus
  /** Of all lives and members, in the order in which they began. */
  readonly attempts: ReadonlyArray<Attempt>
  /** How often its handler succeeded: more than once after a crash that came before the commit. */
  readonly times: number
}

/**
 * A dead letter that the broker has.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetterView<out V> {
  /** The topic that it is in. */
  readonly topic: string
  /** As it lies there. */
  readonly record: ConsumerRecord
  /** What its headers say: where it came from, attempts, error. */
  readonly letter: DeadLetter
  /** Decoded with the topic that was asked with; its text where it was asked by name, or where it cannot be decoded. */
  readonly value: V | string | null
}

/**
 * Where the group is in a partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommittedView extends TopicPartition {
  readonly groupId: string
  /** The next offset to be read; `undefined` when nothing was committed. */
  readonly committed: bigint | undefined
  /** The end that a reader can see. */
  readonly end: bigint
}

/**
 * Values of a topic, each with what became of its record. A key that is left out is not looked at. Values are compared by their
 * content and in any order; what cannot be decoded stands as its text.
 *
 * @since 0.1.0
 * @category options
 */
export type Expected<V> = {
  readonly [S in RecordStatus]?: ReadonlyArray<V | string | null> | undefined
} & {
  /** How many attempts were made in all, for each value that is named. */
  readonly attempts?: ReadonlyArray<readonly [value: V | string | null, attempts: number]> | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface KitOptions {
  /** Topics and their numbers of partitions. Default: the handler's and those of the policy's dead letters, with one partition each. */
  readonly topics?: { readonly [topic: string]: number } | undefined
  /** The cluster, and the members' clients. */
  readonly kafka?: Omit<MemoryKafkaOptions, "clientId"> | undefined
}

/**
 * A member of the group that was started by `join`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KitMember {
  readonly name: string
  /** The partitions that it holds. */
  readonly held: Effect.Effect<ReadonlyArray<TopicPartition>>
  /** Closes it in order; the others get its partitions. */
  readonly leave: Effect.Effect<void, ExpectationFailed>
  /** kill -9, without a second life; the others get its partitions when the broker has noticed. */
  readonly kill: Effect.Effect<void, ExpectationFailed>
}

/**
 * A program on a Kafka in memory. Verbs that disturb the group move the clock until it is at rest again: after a crash that takes
 * `sessionTimeout`, on the live clock too.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProgramKit<out E = never> {
  /** Everything that the Kafka in memory can do. */
  readonly cluster: Cluster

  /** Writes a record, typed by its topic, or any number of undecoded ones by the topic's name. They are there at once; the consumer gets them with `settled`. */
  readonly produce: {
    <K, V, H, RD, RE>(
      topic: Topic<K, V, H, RD, RE>,
      value: V,
      options?: {
        readonly key?: K | undefined
        readonly headers?: H | undefined
        readonly partition?: number | undefined
      }
    ): Effect.Effect<Written, EncodeError, RE>
    (topic: string, records: NewRecord | Iterable<NewRecord>): Effect.Effect<ReadonlyArray<Written>>
  }

  /**
   * Lets everything run until nothing is left to do but to wait for the clock. Promises that resolve by themselves are waited for,
   * timers and sockets of the machine are not.
   */
  readonly settled: Effect.Effect<void, ExpectationFailed>
  /** Moves the clock, and lets everything run on the way and at its end. On the live clock it waits that long. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void, ExpectationFailed>
  /**
   * Moves the clock until everything that was produced is committed.
   *
   * **Default**: it gives up after 10 minutes of the test's clock, on the live clock after 10 seconds.
   */
  readonly caughtUp: (options?: {
    readonly within?: Duration.Input | undefined
  }) => Effect.Effect<void, ExpectationFailed>

  /** Of all topics that the group reads. */
  readonly committed: Effect.Effect<ReadonlyArray<CommittedView>>
  /** Everything that was produced is committed; or, with offsets, just these are, by partition. */
  readonly expectCommitted: (topic?: string, offsets?: ReadonlyArray<bigint>) => Effect.Effect<void, ExpectationFailed>
  /** Dead letters of records of this topic, whichever topic they were sent to. */
  readonly deadLetters: <V = string, RD = never>(
    topic: Named<V, RD>
  ) => Effect.Effect<ReadonlyArray<DeadLetterView<V>>, never, RD>
  /** Just these records of the topic have dead letters, in any order. */
  readonly expectDeadLetters: <V = string, RD = never>(
    topic: Named<V, RD>,
    values: ReadonlyArray<NoInfer<V> | string | null>
  ) => Effect.Effect<void, ExpectationFailed, RD>
  /** Why its consumers are not simply well: each code once, in the order of the alphabet. */
  readonly health: Effect.Effect<ReadonlyArray<HealthCode>>
  /** Just these codes, in any order; none: it is well. */
  readonly expectHealth: (...codes: ReadonlyArray<HealthCode>) => Effect.Effect<void, ExpectationFailed>
  /** Everything that can be seen of its consumers. */
  readonly snapshots: Effect.Effect<ReadonlyArray<Snapshot>>
  /** What the program of the kit's own member ended with, if it has ended by itself. */
  readonly failure: Effect.Effect<E | ConsumerError | CommitterDied | undefined>

  /** The group rebalances, with the same members. */
  readonly rebalance: Effect.Effect<void, ExpectationFailed>
  /** The same program once more, as another process: it takes its part of the partitions. */
  readonly join: Effect.Effect<KitMember, ExpectationFailed>
  /** kill -9 of the kit's own member and its second life: nothing of it runs any more, no finalizer, no commit. What it had not committed comes again. */
  readonly crash: Effect.Effect<void, ExpectationFailed>
  /** The kit's own member is closed in order and started again. */
  readonly restart: Effect.Effect<void, ExpectationFailed>
  /** The broker throws the kit's own member out, as after a session timeout: handlers are interrupted, nothing is committed, it joins again. */
  readonly loseMembership: Effect.Effect<void, ExpectationFailed>
  /**
   * The next commits are refused with this error of Kafka's. **Default**: one, with `COORDINATOR_LOAD_IN_PROGRESS`, which a repetition
   * mends.
   */
  readonly failCommits: (times?: number, code?: string) => Effect.Effect<void>
  /**
   * The next records that are sent by members (dead letters, and what handlers send) are refused with this error of Kafka's.
   * **Default**: one, with `NOT_LEADER_OR_FOLLOWER`, which a repetition mends. `MESSAGE_TOO_LARGE` is for good.
   */
  readonly failDeadLetters: (times?: number, code?: string) => Effect.Effect<void>
}

/**
 * A kit that sees every run of its handler.
 *
 * @since 0.1.0
 * @category models
 */
export interface TestKit extends ProgramKit<InvalidOptions | KafkaClientError> {
  /** Every record of the topic, by partition and offset, with what became of it; or those with one status. */
  readonly records: <V = string, RD = never>(
    topic: Named<V, RD>,
    status?: RecordStatus
  ) => Effect.Effect<ReadonlyArray<RecordView<V>>, never, RD>
  /** For each status that is named: just these values have it. */
  readonly expect: <V = string, RD = never>(
    topic: Named<V, RD>,
    expected: Expected<NoInfer<V>>
  ) => Effect.Effect<void, ExpectationFailed, RD>
  /** No record was handled more than once. */
  readonly expectOnce: Effect.Effect<void, ExpectationFailed>
}

type Provided = KafkaClient | KafkaProducer | MemoryKafka

/**
 * Makes kits.
 *
 * @since 0.1.0
 * @category constructors
 */
export const TestKit: {
  /**
   * A consumer with this handler and these options, on a Kafka of its own, until the scope closes. It has joined its group when
   * the kit is there. What the handler needs beside Kafka comes from the test, and outlives a crash: it is the outside world.
   *
   * **Errors**: those of `ConcurrentConsumer.layerHandler`.
   */
  readonly make: <E, R, RP = never>(
    handler: Handler<E, R>,
    options: HandlerOptions & OnFailure<E, RP>,
    kit?: KitOptions
  ) => Effect.Effect<
    TestKit,
    InvalidOptions | KafkaClientError | ExpectationFailed,
    Scope.Scope | Exclude<R | RP, Provided>
  >
  /**
   * A whole program that takes `KafkaClient`, `KafkaProducer` or `MemoryKafka` from its context, as it is given to
   * `ConcurrentConsumer.launch`. It is built anew in each of its lives. Runs of its handlers are not seen: `health`, `committed`,
   * `deadLetters` and `snapshots` tell how it is. Topics have to be named.
   *
   * **Errors**: those of the layer.
   */
  readonly launch: <E, R>(
    program: Layer.Layer<never, E, R>,
    kit: KitOptions & { readonly topics: { readonly [topic: string]: number } }
  ) => Effect.Effect<ProgramKit<E>, E | ExpectationFailed, Scope.Scope | Exclude<R, Provided>>
} = {
  make: (handler, options, kit = {}) =>
    watchedKit(
      (watched, policy) => ConcurrentConsumer.layerHandler(watched, { ...options, ...policy }),
      handler,
      options,
      { ...kit, topics: { ...topicsOf(handler, options), ...kit.topics } }
    ),
  launch: (program, kit) => openKit(() => program, kit)
}

/** One partition for each topic that is known. */
const topicsOf = (handler: Handler.Any, options: { readonly onFailure?: unknown }): Record<string, number> =>
  Object.fromEntries([...handler.topics, ...deadLetterTopics(options.onFailure)].map((topic) => [topic, 1]))
