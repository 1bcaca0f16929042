/**
 * One attempt to handle one record: what the handler is given, and what the engine keeps of it. One object, because there is one
 * per record.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ConsumerRecord, Delivery, Headers } from "../ConsumerRecord.ts"
import type { AnyFiber, PartitionEpoch } from "./epoch.ts"
import { RecordState } from "./recordMachine.ts"

/** Why the library interrupted the fiber. */
export type Cut = "none" | "epoch" | "timeout"

export class Slot implements Delivery {
  readonly record: ConsumerRecord
  readonly at: PartitionEpoch
  readonly seq: number
  readonly groupId: string
  readonly generation: number
  readonly attempt: number
  readonly startedAt: number
  readonly receivedAt: number
  private readonly acknowledge: (slot: Slot) => void

  state: RecordState = RecordState.buffered
  cut: Cut = "none"
  acked = false
  /** has a permit, and its lane if there is one */
  holds = false
  /** the policy is being asked */
  deciding = false
  /** place among the epoch's live slots; -1 without one */
  index = -1
  /** the handler's, its finalizers', or the policy's */
  fiber: AnyFiber | undefined = undefined
  scope: Scope.Closeable | undefined = undefined

  constructor(
    record: ConsumerRecord,
    at: PartitionEpoch,
    seq: number,
    groupId: string,
    generation: number,
    receivedAt: number,
    startedAt: number,
    acknowledge: (slot: Slot) => void
  ) {
    this.record = record
    this.at = at
    this.seq = seq
    this.groupId = groupId
    this.generation = generation
    this.attempt = 1
    this.receivedAt = receivedAt
    this.startedAt = startedAt
    this.acknowledge = acknowledge
  }

  get topic(): string {
    return this.record.topic
  }
  get partition(): number {
    return this.record.partition
  }
  get offset(): bigint {
    return this.record.offset
  }
  get timestamp(): bigint {
    return this.record.timestamp
  }
  get key(): Uint8Array | null {
    return this.record.key
  }
  get value(): Uint8Array | null {
    return this.record.value
  }
  get headers(): Headers {
    return this.record.headers
  }
  get epoch(): number {
    return this.at.epoch
  }
  get ack(): Effect.Effect<void> {
    return Effect.sync(() => this.acknowledge(this))
  }

  /** What is printed of a delivery: where it is, nothing of its content. */
  toJSON(): unknown {
    return {
      topic: this.topic,
      partition: this.partition,
      offset: String(this.offset),
      attempt: this.attempt,
      epoch: this.epoch
    }
  }
  [Symbol.for("nodejs.util.inspect.custom")](): unknown {
    return this.toJSON()
  }
}
