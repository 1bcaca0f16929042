/**
 * One attempt to handle one record: what the handler is given, and what the engine keeps of it. One object, because there is one
 * per record.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { ConsumerRecord, Delivery, Headers } from "../ConsumerRecord.ts"
import type { Decision } from "../FailurePolicy.ts"
import type { ProducerRecord } from "../KafkaProducer.ts"
import type { AttemptTrace } from "./attemptSpans.ts"
import type { AnyFiber, PartitionEpoch } from "./epoch.ts"
import type { Lane } from "./lanes.ts"
import { printedDelivery } from "./printed.ts"
import { RecordState } from "./recordMachine.ts"
import type { Appointment } from "./timetable.ts"

/** Why the library interrupted the fiber. */
export type Cut = "none" | "epoch" | "timeout"

/** What is known of a record's failed attempts in this epoch. */
export interface Past {
  attempts: number
  readonly firstFailedAt: number
  lastFailedAt: number
  /** of the last of them */
  cause: Cause.Cause<unknown>
  /** what the policy remembers of the record */
  readonly memory: Map<object, unknown>
  /** fibers of the record that ignore their interruption: it is not run again before they have ended */
  zombies: number
  /** waits for that */
  due: Slot | undefined
  /** of the last attempt, where traces are on */
  span: Tracer.Span | undefined
}

export class Slot implements Delivery {
  readonly record: ConsumerRecord
  readonly at: PartitionEpoch
  readonly seq: number
  readonly groupId: string
  readonly generation: number
  readonly attempt: number
  startedAt: number
  readonly receivedAt: number
  private readonly acknowledge: (slot: Slot) => void

  state: RecordState = RecordState.buffered
  /** `startedAt` by the clock that only rises: how long it runs is no business of the time of day */
  ticks = 0
  /** when it began to wait, to be sent, or to be parked */
  since = 0
  cut: Cut = "none"
  acked = false
  /** has a permit */
  holds = false
  /** the lane that it holds */
  lane: Lane | undefined = undefined
  /** undefined until the first failure */
  past: Past | undefined
  /** the retry, the next try of the dead letter, or the end of parking */
  appointment: Appointment | undefined = undefined
  /** its dead letter, and what is done when that is refused for good */
  letter: { readonly record: ProducerRecord; readonly then: Decision } | undefined = undefined
  /** tries to send it that failed */
  sendFailures = 0
  /** the limits under which it is parked, and what is done when one is reached */
  parking: { readonly atMost: number; readonly then: Decision } | undefined = undefined
  /** the fiber was left behind, and another slot goes on with the record */
  succeeded = false
  /** the policy is being asked */
  deciding = false
  /** its handler has not begun: it may block the event loop, and another one that may has the turn */
  waitsForTurn = false
  /** where traces are on, until it is decided what becomes of the attempt */
  trace: AttemptTrace | undefined = undefined
  /** place among the epoch's live slots; -1 without one */
  index = -1
  /** the handler's, its finalizers', or the policy's */
  fiber: AnyFiber | undefined = undefined
  scope: Scope.Closeable | undefined = undefined

  constructor(
    record: ConsumerRecord,
    at: PartitionEpoch,
    seq: number,
    past: Past | undefined,
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
    this.past = past
    this.attempt = past === undefined ? 1 : past.attempts + 1
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

  toJSON(): unknown {
    return printedDelivery(this)
  }
  // what Effect prints of it
  toString(): string {
    return JSON.stringify(this)
  }
  [Symbol.for("nodejs.util.inspect.custom")](): unknown {
    return this.toJSON()
  }
}
