/**
 * Sending records.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { EncodeError } from "./Codec.ts"
import type { Headers } from "./ConsumerRecord.ts"
import { murmur2 } from "./internal/murmur2.ts"
import { tracedSend } from "./internal/sendSpans.ts"
import { KafkaClient, type KafkaClientError } from "./KafkaClient.ts"
import { Topic } from "./Topic.ts"

/**
 * A record to be sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProducerRecord {
  readonly topic: string
  /** Default: by the key's murmur2 hash, as Java's producer does; without a key in turn. */
  readonly partition?: number | undefined
  readonly key?: Uint8Array | null | undefined
  /** `null` is a tombstone. */
  readonly value: Uint8Array | null
  readonly headers?: Headers | undefined
  /** Milliseconds since 1970. Default: now. */
  readonly timestamp?: bigint | undefined
}

/**
 * A record was not sent, or nobody knows whether it was.
 *
 * - `retriable`: the broker did not take it in time (tried again meanwhile). It may have been stored.
 * - `refused`: the broker will never take it as it is: too large, not authorised, no such topic. It was not stored.
 * - `unconfirmed`: the broker's answer does not say what became of it. It may have been stored.
 * - `closed`: the producer was closed before the broker had confirmed it. It may have been stored, unless it was sent after.
 *
 * @since 0.1.0
 * @category errors
 */
export class PublishError extends Schema.TaggedError<PublishError>()("PublishError", {
  reason: Schema.Literals(["retriable", "refused", "unconfirmed", "closed"]),
  /** Kafka's name of the error, where it has one. */
  code: Schema.String,
  /** What was tried, without data of any record. */
  detail: Schema.String,
  /** Which records of the send are not confirmed, by their index; the broker has the others. All of them where it is left out. */
  unconfirmed: Schema.optionalKey(Schema.Array(Schema.Int)),
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `${this.detail} (${this.code})`
  }
  /** Whether sending again may succeed without anybody changing anything. */
  get isRetryable(): boolean {
    return this.reason === "retriable" || this.reason === "unconfirmed"
  }
  /** The failure of a send some of whose records have failed: the worst of theirs, and which records they are. For drivers. */
  static readonly combine = (
    failed: ReadonlyArray<{ readonly index: number; readonly error: PublishError }>
  ): PublishError => {
    const worst = failed.reduce((a, b) => (severity[a.error.reason] < severity[b.error.reason] ? b : a)).error
    return new PublishError({
      reason: worst.reason,
      code: worst.code,
      detail: worst.detail,
      unconfirmed: failed.map(({ index }) => index).sort((a, b) => a - b),
      ...(worst.cause === undefined ? {} : { cause: worst.cause })
    })
  }
}

/**
 * What a driver implements.
 *
 * @since 0.1.0
 * @category models
 */
export interface Producer {
  /**
   * Answers `true` when the broker has all of them, `false` when Kafka is switched off (`KAFKA_ENABLED=false`). When it fails
   * some of them may have been stored. An interrupted send takes back what is not under way to the broker yet.
   *
   * **Order**: records of one partition are stored in the order in which they were sent, over all sends of this producer.
   *
   * **Cost**: nothing bounds how many records wait to be sent but the concurrency of who sends.
   */
  readonly send: (records: ReadonlyArray<ProducerRecord>) => Effect.Effect<boolean, PublishError>
}

/**
 * The partition of a key, as producers of Java and of kafkajs choose it. For drivers.
 *
 * **Source**: murmur2, Java's default partitioner.
 *
 * @since 0.1.0
 * @category partitioning
 */
export const partitionOfKey = (key: Uint8Array, partitions: number): number => (murmur2(key) & 0x7fffffff) % partitions

/** sending all of it again helps the less, the higher */
const severity = { retriable: 0, unconfirmed: 1, closed: 2, refused: 3 } as const

const notOpened = (error: KafkaClientError): PublishError =>
  new PublishError({
    reason: error.reason === "Closed" ? "closed" : error.isRetryable ? "retriable" : "refused",
    code: error.reason,
    detail: "no producer could be opened",
    cause: error
  })

const closed = new PublishError({ reason: "closed", code: "CLOSED", detail: "the producer was closed" })

/**
 * Sends records. Comes with the driver's layer, connects on the first send, and waits for what is under way before it closes.
 *
 * @since 0.1.0
 * @category services
 */
export class KafkaProducer extends Context.Service<
  KafkaProducer,
  Producer & {
    /**
     * Sends one record of a typed topic.
     *
     * **Errors**: those of `send`; `EncodeError` when the topic's schemas do not accept what is given, then nothing was sent.
     */
    readonly publish: <K, V, H, RD, RE>(
      topic: Topic<K, V, H, RD, RE>,
      value: V,
      options?: { readonly key?: K | undefined; readonly headers?: H | undefined }
    ) => Effect.Effect<boolean, PublishError | EncodeError, RE>
  }
>()("@concurrent-kafka/core/KafkaProducer") {
  /**
   * The service around what a driver has.
   *
   * Where `Traces` are on for whoever sends, each send makes a span, whose context goes into the `traceparent` header of each record that
   * has none.
   */
  static readonly fromProducer = (producer: Producer): KafkaProducer["Service"] => {
    const send = tracedSend(producer.send)
    return KafkaProducer.of({
      send,
      publish: (topic, value, options) =>
        Effect.flatMap(Topic.encode(topic, value, options), (record) => send([record]))
    })
  }

  /**
   * One producer of the client for all who send, opened by the first send and closed with the scope. An attempt to open that
   * failed fails its send; the next send tries again.
   */
  static readonly make: Effect.Effect<KafkaProducer["Service"], never, KafkaClient | Scope.Scope> = Effect.gen(
    function* () {
      const client = yield* KafkaClient
      const scope = yield* Effect.scope
      const gate = Semaphore.makeUnsafe(1)
      let opened: Producer | undefined
      let isClosed = false
      /** sends that wait for it to be opened */
      let waiting = 0
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          isClosed = true
        })
      )

      // whoever comes while the first one opens waits for it; when that one is interrupted the next one opens
      const open = gate.withPermit(
        Effect.suspend(() => {
          if (opened !== undefined) return Effect.succeed(opened)
          if (isClosed) return Effect.fail(closed)
          const attempt = Scope.forkUnsafe(scope)
          return client.openProducer.pipe(
            Scope.provide(attempt),
            Effect.tap((producer) =>
              Effect.sync(() => {
                opened = producer
              })
            ),
            Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(attempt, exit))),
            Effect.mapError(notOpened)
          )
        })
      )

      return KafkaProducer.fromProducer({
        send: (records) =>
          Effect.suspend(() => {
            if (isClosed) return Effect.fail(closed)
            // who comes while others still wait goes behind them: records keep the order in which they were sent
            if (opened !== undefined && waiting === 0) return opened.send(records)
            waiting++
            return Effect.ensuring(
              open,
              Effect.sync(() => {
                waiting--
              })
            ).pipe(Effect.flatMap((producer) => producer.send(records)))
          })
      })
    }
  )

  /** The client's producer. A driver's own layer brings one, too. */
  static readonly layer: Layer.Layer<KafkaProducer, never, KafkaClient> = Layer.effect(
    KafkaProducer,
    KafkaProducer.make
  )

  /** Sends nothing and keeps what was to be sent, for tests. */
  static readonly layerTest: Layer.Layer<KafkaProducer | PublishedRecords> = Layer.effectContext(
    Effect.sync(() => {
      const all: Array<ProducerRecord> = []
      const send: Producer["send"] = (records) =>
        Effect.sync(() => {
          all.push(...records)
          return true
        })
      return Context.make(KafkaProducer, KafkaProducer.fromProducer({ send })).pipe(
        Context.add(PublishedRecords, { all: Effect.sync(() => [...all]) })
      )
    })
  )
}

/**
 * What was sent through `KafkaProducer.layerTest`, oldest first.
 *
 * @since 0.1.0
 * @category services
 */
export class PublishedRecords extends Context.Service<
  PublishedRecords,
  { readonly all: Effect.Effect<ReadonlyArray<ProducerRecord>> }
>()("@concurrent-kafka/core/KafkaProducer/PublishedRecords") {}
