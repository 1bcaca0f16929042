/**
 * Random histories of a consumer group around one's own handler: members come and go, are killed in the middle of a handler, stand
 * still, lose commits and connections; and at the end, when everything has healed and all is handled, one's own check looks at what
 * the handler has done to the world. This finds handlers that are not idempotent, and handlers that need an order that they do not
 * have.
 *
 * A history plays in virtual time: `Effect.sleep`, timeouts, schedules and the Clock cost nothing, and the same seed gives the same
 * history. Not virtual is what does not go through Effect: `Date.now`, `Math.random`, `setTimeout`, and real input and output. A
 * promise that resolves by itself, in microtasks, is fine; a history that waits for a socket or a file is not repeatable, and goes
 * on without it.
 *
 * @since 0.1.0
 */
import type { EncodeError } from "@concurrent-kafka/core/Codec"
import { ConcurrentConsumer, type HandlerOptions, type OnFailure } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Handler } from "@concurrent-kafka/core/Handler"
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type { Topic } from "@concurrent-kafka/core/Topic"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { RandomSource } from "./Faults.ts"
import { type Found, makeChance, search } from "./internal/search.ts"
import { deadLetterTopics } from "./internal/letters.ts"
import type { MemoryKafka, NewRecord, Written } from "./MemoryKafka.ts"
import type { SimulationFailed } from "./SimulationFailed.ts"
import type { RecordStatus } from "./TestKit.ts"

/**
 * A record that a history produces, as `Chance.record` makes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulatedRecord<out V> {
  readonly topic: string
  readonly value: V
  readonly encode: Effect.Effect<NewRecord, EncodeError>
}

/**
 * Chance that belongs to a seed, and what makes records of it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Chance extends RandomSource {
  /** From `low` to `high`, both included. */
  readonly int: (low: number, high: number) => number
  readonly pick: <A>(from: ReadonlyArray<A>) => A
  /** True with this probability. */
  readonly chance: (probability: number) => boolean
  /** From `least` to `most` of what the function makes. */
  readonly list: <A>(least: number, most: number, make: (index: number) => A) => ReadonlyArray<A>
  /** A record, typed by its topic, or undecoded by the topic's name: then its value is what was given. */
  readonly record: {
    <K, V, H, RD>(
      topic: Topic<K, V, H, RD>,
      value: V,
      options?: {
        readonly key?: K | undefined
        readonly headers?: H | undefined
        readonly partition?: number | undefined
      }
    ): SimulatedRecord<V>
    (topic: string, record: NewRecord): SimulatedRecord<NewRecord["value"]>
  }
}

/**
 * A record of a history that is over: what was produced, and what became of it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Produced<out V> extends Written {
  readonly value: V
  /** `handled`, `skipped`, `deadLettered` or `filtered`. */
  readonly status: RecordStatus
  /** How often its handler succeeded. */
  readonly times: number
}

/**
 * What the histories were, so that one sees that something happened in them.
 *
 * @since 0.1.0
 * @category models
 */
export interface SimulationReport {
  readonly histories: number
  readonly records: number
  /** Runs of handlers. */
  readonly runs: number
  /** Records that were handled more than once. */
  readonly repeated: number
  readonly crashes: number
  /** Of these, those between two instructions of a handler. */
  readonly crashesInHandlers: number
  readonly virtualMillis: number
}

type Provided = KafkaClient | KafkaProducer | MemoryKafka

/**
 * @since 0.1.0
 * @category options
 */
export interface SimulateOptions<E, R, RP, V, W, EW, RW, P, EP, RI, EC, RC> {
  /** Several are one by `Handler.merge`. */
  readonly handler: Handler<E, R>
  /** Of the consumer, as for `ConcurrentConsumer.layerHandler`: those of production. */
  readonly options: HandlerOptions & OnFailure<E, RP>
  /** What is produced in one history. */
  readonly records: (chance: Chance) => ReadonlyArray<SimulatedRecord<V>>
  /**
   * Looks at the world when all is handled and committed. It fails, or dies, when the world is not as it has to be.
   */
  readonly check: (produced: ReadonlyArray<Produced<V>>) => Effect.Effect<unknown, EC, RC>
  /**
   * The outside world, a new one for each history: the database, the service that is called. It survives the crashes of the
   * consumer's processes. What no crash may cut in two there has to be one instruction: one `Effect.sync`.
   */
  readonly layer?: Layer.Layer<W, EW, RW> | undefined
  /**
   * What each process has for itself, built when it starts and gone when it is killed: caches, pools. A killed process runs no
   * finalizer.
   */
  readonly process?: Layer.Layer<P, EP, RI> | undefined
  /** Topics and their numbers of partitions. Default: the handler's with three, those of the policy's dead letters with one. */
  readonly topics?: { readonly [topic: string]: number } | undefined
  /** How many histories. Default 100. */
  readonly seeds?: number | undefined
  /** The first one. Default 1. */
  readonly seed?: number | undefined
  /** Virtual time after everything has healed in which all has to be handled. Default 30 minutes: more than its retries take. */
  readonly within?: Duration.Input | undefined
}

/**
 * Plays histories until one fails, or all have gone well. Services of the handler and of the check that no layer here provides
 * come from the caller; all histories share them.
 *
 * Members of a history: two or three, each a process of its own with these options. What happens to them: joins, leaves, restarts
 * one by one and rolling; kill -9, at any moment and between any two instructions of a handler; processes that stand still and go
 * on, also there; rebalances, evictions, connections that break, a broker that is away; commits that are refused, lost, not
 * answered; requests and dead letters that fail. Handlers get random pauses, and are interleaved.
 *
 * **Errors**: `SimulationFailed` with the first history that fails, made as short as it can be: troubles and records are left out
 * while it still fails. Its `message` shows what happened in it. What `layer` cannot be built with.
 *
 * **Cost**: some ten milliseconds a history. It runs in real time too, under whatever clock the caller has.
 *
 * @since 0.1.0
 * @category tests
 */
export const simulate = <
  E,
  R,
  V,
  RP = never,
  W = never,
  EW = never,
  RW = never,
  P = never,
  EP = never,
  RI = never,
  EC = never,
  RC = never
>(
  options: SimulateOptions<E, R, RP, V, W, EW, RW, P, EP, RI, EC, RC>
): Effect.Effect<
  SimulationReport,
  SimulationFailed | EW,
  RW | Exclude<RI, W | Provided> | Exclude<R | RP, W | P | Provided> | Exclude<RC, W>
> => {
  type Caller = RW | Exclude<RI, W | Provided> | Exclude<R | RP, W | P | Provided> | Exclude<RC, W>
  const { handler, options: consumer } = options
  const topics = {
    ...Object.fromEntries(deadLetterTopics(consumer.onFailure).map((topic) => [topic, 1])),
    ...Object.fromEntries(handler.topics.map((topic) => [topic, 3])),
    ...options.topics
  }
  // what is provided, by whom, is said in the types above: the compiler cannot follow it through the unions
  type Program = Layer.Layer<never, unknown, W | Caller | Provided>
  type World = Layer.Layer<W, EW, Caller>
  type Inside = Layer.Layer<P, EP, W | Caller | Provided>
  const world = (options.layer ?? Layer.empty) as World
  const inside = (options.process ?? Layer.empty) as Inside
  return Effect.flatMap(Effect.context<Caller>(), (caller) =>
    search<W, Caller, EW, V>({
      caller: caller as Context.Context<Caller>,
      world,
      programOf: (member, recorder, wrap) =>
        Layer.provide(
          ConcurrentConsumer.layerHandler(recorder.handler(member, wrap(handler)), {
            ...consumer,
            ...(consumer.onFailure === undefined ? {} : { onFailure: recorder.policy(member, consumer.onFailure) })
          }),
          inside
        ) as Program,
      groupId: consumer.groupId,
      topics,
      reads: handler.topics,
      records: (seed) => options.records(makeChance(seed)),
      check: (produced) => options.check(produced) as Effect.Effect<unknown, EC, W | Caller>,
      limit: Duration.toMillis(options.within ?? "30 minutes"),
      seeds: options.seeds ?? 100,
      first: options.seed ?? 1
    } satisfies Found<W, Caller, EW, V>)
  )
}
