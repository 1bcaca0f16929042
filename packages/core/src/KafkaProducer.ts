/**
 * Sending records.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Headers } from "./ConsumerRecord.ts"

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
 * - `retriable`: the broker did not take it in time (`requestTimeout`, tried again meanwhile). It may have been stored.
 * - `refused`: the broker will never take it as it is: too large, not authorised, no such topic.
 * - `unconfirmed`: the broker's answer does not name every partition that was asked for.
 * - `closed`: the producer was closed before.
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
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `${this.detail} (${this.code})`
  }
  /** Whether sending again may succeed without anybody changing anything. */
  get isRetryable(): boolean {
    return this.reason === "retriable" || this.reason === "unconfirmed"
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
   * Answers `true` when the broker has all of them, `false` when Kafka is switched off (`KAFKA_ENABLED=false`). Records of one
   * partition keep their order. When it fails some of them may have been stored.
   */
  readonly send: (records: ReadonlyArray<ProducerRecord>) => Effect.Effect<boolean, PublishError>
}

/**
 * Sends records. Comes with the driver's layer, connects on the first send, and sends what is under way before it closes.
 *
 * @since 0.1.0
 * @category services
 */
export class KafkaProducer extends Context.Service<KafkaProducer, Producer>()("@concurrent-kafka/core/KafkaProducer") {}
