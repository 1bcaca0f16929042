/**
 * Handles many records of one consumer at once and commits only what is safe.
 *
 * Finalizers, in the order in which they run when the consumer's layer closes: the running handler's shutdown (stop intake, drain or
 * interrupt, flush, leave: `internal/run.ts`), the registration, the consumer's fibers; then committer, session and client, which find
 * their work done.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { BatchCommitter, BatchCommitterOptions } from "./BatchCommitter.ts"
import type { CommitterDied } from "./CommitterDied.ts"
import type { ConsumerError } from "./ConsumerError.ts"
import type { ConsumerRecord, Delivery, TopicPartition } from "./ConsumerRecord.ts"
import { ConsumerRegistry, makeRegistry } from "./ConsumerRegistry.ts"
import type { CommitOutcome, ConsumerSession, MembershipOptions } from "./ConsumerSession.ts"
import type { FailurePolicy } from "./FailurePolicy.ts"
import type { Handler } from "./Handler.ts"
import type { Health, HealthOptions } from "./Health.ts"
import { makeMember } from "./internal/consumer.ts"
import { makeMembers, parts, type Subscribed } from "./internal/members.ts"
import { validateMembers } from "./internal/options.ts"
import type { InvalidOptions } from "./InvalidOptions.ts"
import type { KafkaClient, KafkaClientError } from "./KafkaClient.ts"
import type { Snapshot } from "./Snapshot.ts"

/**
 * Which records of a partition run one after another, in offset order, over retries and rebalances of this process too.
 *
 * - `"unordered"`: none.
 * - `"key"`: those with the same key; records without a key run at once.
 * - `"partition"`: all.
 * - a function: those for which it answers the same text. What it throws, or an answer that is no text, is a failure of that record.
 *
 * Concurrency is bound by the number of different keys then, see the health code `laneBound`. A lane is of one partition of one topic:
 * when a topic gets more partitions, keys move, and nobody can keep their order over that.
 *
 * **Cost**: `"key"` takes 0.5 to 0.7 us a record, a function its own time in place of reading the key.
 *
 * @since 0.1.0
 * @category options
 */
export type Ordering = "unordered" | "key" | "partition" | ((record: ConsumerRecord) => string)

/**
 * How a consumer handles records. Each default has its reason beside it.
 *
 * @since 0.1.0
 * @category options
 */
export interface ConsumerOptions {
  /** Unique in the process. Default: the group id, with `#2`, `#3` and so on for the next ones. */
  readonly name?: string | undefined
  /** Handlers at once. Default 10: enough to hide a slow service, too few to overrun it. Can be changed while running. */
  readonly concurrency?: number | "unbounded" | undefined
  /** Default `"unordered"`: no record waits for another. */
  readonly ordering?: Ordering | undefined
  /** Where a partition without a committed offset starts; the start is committed at once. Default `"earliest"`: `"latest"` hides what was produced before. Java: `auto.offset.reset`. */
  readonly startFrom?: "earliest" | "latest" | "fail" | undefined
  /** When the position lies beyond the end of the log (truncation, recreated topic). Default `"earliest"`. Below its start (retention) there is no choice: it goes on at the start, and what was deleted is counted and logged. */
  readonly onOutOfRange?: "earliest" | "latest" | "fail" | undefined
  /**
   * Records that have finished behind a gap are written into the commit's metadata, so that the next owner does not run them again.
   * Default `"own"`: only maps that carry this library's check are trusted. `"all"`: also those of the Java Parallel Consumer, for a
   * migration. `"off"`: none is written or read.
   */
  readonly offsetMap?: "own" | "all" | "off" | undefined
  /**
   * Records between the committable offset and the newest started one, per partition. Default 100,000 with the offset map, where a record
   * that never ends costs some bytes of the map however far the others go on; 10,000 without, where all that lies behind it is delivered
   * again after a crash.
   */
  readonly maxUncommitted?: number | undefined
  /** Records buffered, in flight, waiting for a retry, parked. Default 20,000: bytes are the real bound. Fetching pauses there and goes on at half; of several partitions one takes at most half, and a quarter is kept for those that hold little. */
  readonly maxHeldRecords?: number | undefined
  /** Bytes of key, value and headers of these. Default 32 MiB. One fetch response of each broker comes on top: some 32 MiB and one batch, however well it is compressed. */
  readonly maxHeldBytes?: number | undefined
  /**
   * Runs inside the record's fiber and Scope, around each attempt: request services, log annotations, tracing, a rate limit. It keeps the
   * effect's types: what it provides is a Reference, or the handler composes it itself.
   */
  readonly wrap?: (<E, R>(effect: Effect.Effect<void, E, R>, record: Delivery) => Effect.Effect<void, E, R>) | undefined
  /** Records without this header value (or for which the function says no) are done at once, counted as filtered. */
  readonly headerFilter?:
    | { readonly header: string; readonly equals: string }
    | ((record: ConsumerRecord) => boolean)
    | undefined
  /** What happens to records in flight when the consumer ends. Default `"interrupt"`: they are delivered again. */
  readonly shutdown?: "interrupt" | "drain" | undefined
  /** The bound on drain, interruption and flush together. Default 20 s, below the 30 s that Kubernetes grants. */
  readonly shutdownTimeout?: Duration.Input | undefined
  /**
   * The part of `shutdownTimeout`, and of a revoke, that is kept for the flush. Default 2 s. While the group is between two generations it
   * takes no commit: who closes then waits for the next one first, within `shutdownTimeout`.
   */
  readonly flushReserve?: Duration.Input | undefined
  /** How long in-flight records of revoked partitions may finish; ends as soon as none runs. Default 5 s. */
  readonly revokeDrain?: Duration.Input | undefined
  /** How long an interrupted handler may take for its finalizers before it is left behind as a zombie. Default 1 s. */
  readonly interruptGrace?: Duration.Input | undefined
  /** An attempt that runs longer makes health say `stuck`. Default 60 s. */
  readonly stuckAfter?: Duration.Input | undefined
  readonly health?: HealthOptions | undefined
  /**
   * The keys of hot lanes are shown in snapshots and health as they are, and where `Traces` are on the spans of records have their keys
   * (both made of printable characters, and cut) and the errors of handlers as they are. Default `false`: hashes, and of errors the names,
   * because who reads a health endpoint or a trace may not be meant to read records. Logs, errors and metrics show nothing of a record,
   * whatever is set here.
   */
  readonly revealRecords?: boolean | undefined
}

/**
 * `onFailure` is required exactly when the handler can fail.
 *
 * @since 0.1.0
 * @category options
 */
export type OnFailure<E, RP> = {
  /** What is done about a record whose handling failed. Without it (the handler cannot fail) a defect ends the consumer. */
  readonly onFailure?: FailurePolicy<NoInfer<E>, RP> | undefined
} & ([E] extends [never] ? unknown : ThisHandlerCanFail<E>)

/**
 * Only there so that the compiler's message names what is missing.
 *
 * @since 0.1.0
 * @category options
 */
export interface ThisHandlerCanFail<_E> {
  /** anything but `undefined`: what it is, is said beside it */
  readonly onFailure: NonNullable<unknown>
}

/**
 * @since 0.1.0
 * @category options
 */
export type OnFailureArgs<E, RP> = [E] extends [never] ? [options?: OnFailure<E, RP>] : [options: OnFailure<E, RP>]

/**
 * Everything of one group.
 *
 * @since 0.1.0
 * @category options
 */
export interface GroupOptions extends ConsumerOptions, BatchCommitterOptions, MembershipOptions {
  readonly groupId: string
  /**
   * Sessions of this group in this process, each with all of these options, as so many processes would have: own membership, commits,
   * `concurrency` and limits. Default 1. They share one event loop: what more of them bring is partitions that are fetched, committed
   * and rebalanced apart, not more computing; for more handlers at once raise `concurrency`.
   *
   * The consumer is all of them together. The first that fails ends the others with it; `snapshot` has them one by one too. Order is
   * kept within a member: a partition that moves from one to another moves as it would to another process.
   */
  readonly members?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface HandlerOptions extends GroupOptions {
  /** What `launch` does when this consumer ends by failure. Default `"fail"`: the program ends with it. */
  readonly onEnd?: "fail" | "report" | undefined
}

/**
 * Each option a value or a `Config`.
 *
 * @since 0.1.0
 * @category options
 */
export type OrConfig<A> = { readonly [K in keyof A]: A[K] | Config.Config<NonNullable<A[K]>> }

/**
 * What a consumer offers while it is there.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConcurrentConsumerShape {
  readonly name: string
  /**
   * Joins the group and handles its records, one handler at a time. Ends with success when the consumer's layer closes, fails with
   * what stopped it. Interrupting it drains or interrupts the records (`shutdown`), flushes and leaves the group, within
   * `shutdownTimeout`; it may be called again after that.
   */
  readonly run: <E, R, RP = never>(
    handler: Handler<E, R>,
    ...options: OnFailureArgs<E, RP>
  ) => Effect.Effect<void, ConsumerError | CommitterDied, R | RP>
  /** Never fails. **Cost**: some microseconds for each partition and record in flight. */
  readonly health: Effect.Effect<Health>
  readonly snapshot: Effect.Effect<Snapshot>
  /**
   * The snapshot of now, and then the newest one at most this often, while somebody reads. It does not end: it tells of a consumer that has
   * ended, too.
   *
   * **Default**: 250 ms, which is often enough for eyes.
   * **Cost**: that of a snapshot each time; nothing while nobody reads, however many records there are.
   */
  readonly snapshots: (every?: Duration.Input) => Stream.Stream<Snapshot>
  /** Ends with the failure that stopped the consumer; never ends while it can go on. */
  readonly failure: Effect.Effect<never, ConsumerError | CommitterDied>
  /** From the next start on; when lowered, what runs finishes. With several `members` it is the number of each one. */
  readonly setConcurrency: (n: number | "unbounded") => Effect.Effect<void, InvalidOptions>
  /**
   * Nothing starts and nothing is fetched; what runs finishes, commits and heartbeats go on. No partitions: the consumer, until
   * resumed, over rebalances. Some: those, until their epoch ends.
   */
  readonly pause: (partitions?: ReadonlyArray<TopicPartition>) => Effect.Effect<void, ConsumerError>
  /** Undoes `pause`. No partitions: everything. Some: their own pause; a consumer that is paused as a whole stays so. */
  readonly resume: (partitions?: ReadonlyArray<TopicPartition>) => Effect.Effect<void, ConsumerError>
  /**
   * Goes on at another offset, in a new epoch: records in flight are interrupted. The offset is committed, also backwards, before
   * anything is fetched; completes then. **Errors**: `NotOwned`.
   */
  readonly seek: (partition: TopicPartition, to: bigint | "start" | "end") => Effect.Effect<void, ConsumerError>
  /** Commits the done prefix of all owned partitions now. */
  readonly flush: Effect.Effect<ReadonlyArray<CommitOutcome>, CommitterDied>
}

/** the consumer of the session and the committer that are there */
const make = Effect.fnUntraced(function* (
  options: ConsumerOptions,
  onEnd?: HandlerOptions["onEnd"],
  policy?: FailurePolicy<never, unknown>
): Effect.fn.Return<ConcurrentConsumerShape, InvalidOptions, ConsumerSession | BatchCommitter | Scope.Scope> {
  const registry = yield* ConsumerRegistry
  const { close, shape } = yield* makeMember(options, registry.nameFor, policy)
  yield* registry.register(shape, { onEnd })
  // after the registration, so that it runs before its end: who reads the registry during a drain sees "shuttingDown", not ready
  yield* Effect.addFinalizer(() => close)
  return shape
})

/** the consumer with sessions and committers of its own, private, and with what is done when it is there */
const consumerLayer = <Self, R = never>(
  tag: Context.Key<Self, ConcurrentConsumerShape>,
  options: Subscribed & Pick<HandlerOptions, "onEnd">,
  policy?: FailurePolicy<never, unknown>,
  then: (consumer: ConcurrentConsumerShape) => Effect.Effect<void, never, R> = () => Effect.void
): Layer.Layer<Self, InvalidOptions | KafkaClientError, KafkaClient | Exclude<R, Scope.Scope>> =>
  Layer.unwrap(
    Effect.map(validateMembers(options), (count) =>
      count === 1
        ? Layer.effect(tag, Effect.tap(make(options, options.onEnd, policy), then)).pipe(Layer.provide(parts(options)))
        : Layer.effect(tag, Effect.tap(makeMembers(count, options, options.onEnd, policy), then))
    )
  )

const handlerLayer = <Self, E, R, RP>(
  tag: Context.Key<Self, ConcurrentConsumerShape>,
  handler: Handler<E, R>,
  options: HandlerOptions & OnFailure<E, RP>
): Layer.Layer<Self, InvalidOptions | KafkaClientError, KafkaClient | R | RP> =>
  consumerLayer(tag, { ...options, topics: handler.topics }, options.onFailure, (consumer) =>
    // a layer cannot fail after it was built: who wants to know races `failure`, as `launch` does
    Effect.forkScoped(
      // whether they may be left out depends on E, which is open here; they are there
      Effect.catchCause(consumer.run<E, R, RP>(handler, ...([options] as OnFailureArgs<E, RP>)), (cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.void
          : Effect.logError(`the consumer ${consumer.name} has ended: ${messageOf(cause)}`)
      )
    )
  )

const messageOf = (cause: Cause.Cause<ConsumerError | CommitterDied>): string => {
  const reason = cause.reasons.find((r) => r._tag === "Fail")
  return reason === undefined ? "a defect" : reason.error.message
}

/** options with their configs read; a concurrency of 0 means unbounded there */
const resolved = <A extends object>(options: OrConfig<A>): Effect.Effect<A, Config.ConfigError> =>
  Effect.gen(function* () {
    const plain: Record<string, unknown> = {}
    for (const [key, value] of Object.entries(options)) {
      if (!Config.isConfig(value)) {
        plain[key] = value
        continue
      }
      const read: unknown = yield* value
      plain[key] = key === "concurrency" && read === 0 ? "unbounded" : read
    }
    return plain as A
  })

/**
 * Handles many records of one consumer at once, inside a partition too, and commits per partition only the contiguous prefix of
 * finished records.
 *
 * @since 0.1.0
 * @category services
 */
export class ConcurrentConsumer extends Context.Service<ConcurrentConsumer, ConcurrentConsumerShape>()(
  "@concurrent-kafka/core/ConcurrentConsumer"
) {
  /** Brings none of its parts: needs its own session and committer from outside. */
  static readonly layerNoDeps = (
    options?: ConsumerOptions
  ): Layer.Layer<ConcurrentConsumer, InvalidOptions, ConsumerSession | BatchCommitter> =>
    Layer.effect(ConcurrentConsumer, make(options ?? {}))

  /** A consumer with session and committer inside. Nothing is joined before `run`. */
  static readonly layer = (
    options: GroupOptions & { readonly topics: ReadonlyArray<string> }
  ): Layer.Layer<ConcurrentConsumer, InvalidOptions | KafkaClientError, KafkaClient> =>
    consumerLayer(ConcurrentConsumer, options)

  /** A consumer that handles from the moment the layer is built until it closes. */
  static readonly layerHandler = <E, R, RP = never>(
    handler: Handler<E, R>,
    options: HandlerOptions & OnFailure<E, RP>
  ): Layer.Layer<never, InvalidOptions | KafkaClientError, KafkaClient | R | RP> =>
    Layer.effectDiscard(Effect.void).pipe(Layer.provide(handlerLayer(ConcurrentConsumer, handler, options)))

  /**
   * As `layerHandler`, with each option a value or a `Config`. No variable has a fixed name here: several groups of one app must not
   * read the same one. A `concurrency` of 0 read from a `Config` means unbounded.
   */
  static readonly layerHandlerConfig = <E, R, RP = never>(
    handler: Handler<E, R>,
    options: OrConfig<HandlerOptions> & OnFailure<E, RP>
  ): Layer.Layer<never, InvalidOptions | KafkaClientError | Config.ConfigError, KafkaClient | R | RP> =>
    Layer.unwrap(
      Effect.map(
        resolved<HandlerOptions & OnFailure<E, RP>>(options as OrConfig<HandlerOptions & OnFailure<E, RP>>),
        (plain) => ConcurrentConsumer.layerHandler(handler, plain)
      )
    )

  /**
   * `Layer.launch` that fails, after an orderly close of everything, when one of the consumers inside ends by failure (unless its
   * `onEnd` is `"report"`). `Layer.launch` alone would go on and consume nothing.
   */
  static readonly launch = <E, R>(
    layer: Layer.Layer<never, E, R>
  ): Effect.Effect<never, E | ConsumerError | CommitterDied, R> =>
    Effect.flatMap(ConsumerRegistry, (outer) => {
      const registry = makeRegistry(outer)
      return Effect.raceFirst(Layer.launch(layer), registry.failure).pipe(
        Effect.provideService(ConsumerRegistry, registry)
      )
    })

  /** A consumer with an identity of its own, for an app that wants several as services. */
  static readonly Tag =
    <Self>() =>
    <const Id extends string>(
      id: Id
    ): Context.ServiceClass<Self, Id, ConcurrentConsumerShape> & {
      readonly layer: (
        options: GroupOptions & { readonly topics: ReadonlyArray<string> }
      ) => Layer.Layer<Self, InvalidOptions | KafkaClientError, KafkaClient>
      readonly layerHandler: <E, R, RP = never>(
        handler: Handler<E, R>,
        options: HandlerOptions & OnFailure<E, RP>
      ) => Layer.Layer<Self, InvalidOptions | KafkaClientError, KafkaClient | R | RP>
    } => {
      const tag = Context.Service<Self, ConcurrentConsumerShape>()(id)
      return Object.assign(tag, {
        layer: (options: GroupOptions & { readonly topics: ReadonlyArray<string> }) => consumerLayer(tag, options),
        layerHandler: <E, R, RP = never>(handler: Handler<E, R>, options: HandlerOptions & OnFailure<E, RP>) =>
          handlerLayer(tag, handler, options)
      })
    }
}
