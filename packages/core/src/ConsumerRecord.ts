/**
 * What a Kafka record is to this library, and what a handler is given of one.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"

/**
 * Record headers in wire order; a name may occur more than once and a value may be `null`.
 *
 * @since 0.1.0
 * @category models
 */
export type Headers = ReadonlyArray<readonly [name: string, value: Uint8Array | null]>

/**
 * One partition of one topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/**
 * One Kafka message as the broker stored it.
 *
 * **Units**: `timestamp` is milliseconds since 1970 on the producer's or the broker's clock, or `-1`; it is only shown, never
 * computed with.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerRecord extends TopicPartition {
  readonly offset: bigint
  readonly timestamp: bigint
  readonly key: Uint8Array | null
  /** `null` is a tombstone. */
  readonly value: Uint8Array | null
  readonly headers: Headers
}

/**
 * A record together with what is known of this attempt to handle it. This is what a handler gets.
 *
 * @since 0.1.0
 * @category models
 */
export interface Delivery extends ConsumerRecord {
  /** `1` for the first attempt. */
  readonly attempt: number
  readonly groupId: string
  /** Changes each time the partition is newly given to this session. */
  readonly epoch: number
  /**
   * The generation (or member epoch) of the group when the attempt began: a fencing token for what the handler writes
   * elsewhere, so that a process that was paused for long can be refused.
   */
  readonly generation: number
  /**
   * From here on the record is done, whatever the handler's exit says. The last step inside a handler's own
   * `Effect.uninterruptible` region: uninterruptible work that finished after an interruption still ends as interrupted,
   * and would run again without it. Idempotent.
   */
  readonly ack: Effect.Effect<void>
}
