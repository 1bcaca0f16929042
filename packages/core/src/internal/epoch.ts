/**
 * What is known of one partition in one epoch: its state, its records, what of it is committed.
 */
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { EpochPartition, LogOffsets } from "../ConsumerSession.ts"
import type { CommitState } from "./commitMachine.ts"
import { OffsetTracker } from "./offsetTracker.ts"
import type { EndReason, PartitionState } from "./partitionMachine.ts"
import type { PauseReason } from "../Snapshot.ts"
import type { Slot } from "./slot.ts"

/** Pause is not a state but a set of reasons: bits, because the pump asks for each record. */
export const Pause = { user: 1, full: 2, uncommitted: 4, holding: 8, map: 16 } as const
/** fetching stops when any reason is there; starting goes on while only this one is: it is how a full partition empties */
const startsAnyway = Pause.full

export const pauseNames = (pauses: number): ReadonlyArray<PauseReason> =>
  (Object.keys(Pause) as Array<PauseReason>).filter((name) => (pauses & Pause[name]) !== 0)

/** Records that must run one after another. Outlives epochs, because a zombie keeps its lane (I4). */
export interface Lane {
  /** fibers that hold it */
  holders: number
}

/** A chunk whose records wait to be started. */
interface Buffered {
  readonly records: ReadonlyArray<ConsumerRecord>
  /** seq of the first record */
  readonly seq: number
  readonly at: number
  index: number
}

/** What a record waits for: its handler, the closing of its Scope, or the policy. */
export type AnyFiber = Fiber.Fiber<unknown, unknown>

export class PartitionEpoch implements EpochPartition {
  readonly topic: string
  readonly partition: number
  readonly epoch: number
  state: PartitionState = "opening"
  ended: EndReason | undefined = undefined
  readonly openedAt: number

  /** undefined while the start is not known */
  start: bigint | undefined = undefined
  /** the start has to be committed before anything is fetched */
  commitStart = false
  tracker: OffsetTracker = new OffsetTracker(0n, 1)
  /** the establishing of the start failed at least once */
  startFailedOnce = false
  unstarted = true
  /** it was sought or reset, and begins there, whatever the group has committed */
  movedTo: ((log: LogOffsets) => bigint) | undefined = undefined
  /** which attempt establishes the start */
  opening: object | undefined = undefined

  readonly lane: Lane | undefined
  /** attempts with a fiber, zombies aside; the place in it is the slot's `index` */
  readonly live: Array<Slot> = []
  zombies = 0

  /** the drain that it is part of */
  drain: object | undefined = undefined
  exact = false
  closing = false
  /** out of range while nothing could be done about it */
  keptRange: { readonly position: bigint; readonly start: bigint; readonly end: bigint } | undefined = undefined

  pauses = 0
  /** the client was told to fetch no more */
  fetchPaused = false
  /** its own share of the held limits is used up */
  full = false
  /** what it holds counts against the limits of all: not while it cannot go on, or stuck partitions would stop the others */
  counted = true
  /** is in the pump's rotation */
  queued = false

  heldRecords = 0
  heldBytes = 0
  buffered = 0
  /** seq of the newest started record + 1 */
  startedSeq = 0

  commitState: CommitState = "clean"
  /** what the broker has, as far as we know */
  committed: bigint | undefined = undefined
  /** `committed` was to be sent once more, over a late request, and did not get through yet */
  unsure = false
  /** offset of the request under way */
  request: bigint | undefined = undefined
  /** the end that a reader can see */
  end: bigint | undefined = undefined

  /** records whose filter died: their attempt fails with it */
  filterDefects: Map<number, unknown> | undefined = undefined

  private chunks: Array<Buffered> = []
  private head = 0
  private again: Array<{ readonly record: ConsumerRecord; readonly seq: number; readonly at: number }> = []

  constructor(at: EpochPartition, lane: Lane | undefined, now: number) {
    this.topic = at.topic
    this.partition = at.partition
    this.epoch = at.epoch
    this.lane = lane
    this.openedAt = now
  }

  private readonly whetherOpened = Deferred.makeUnsafe<boolean>()

  /** Whether it came to be open; false when it ended first. */
  get started(): Effect.Effect<boolean> {
    return Deferred.await(this.whetherOpened)
  }

  /** Tells whoever waits for its start, which may go on at once: to be called when everything else is done. */
  tell(opened: boolean): void {
    Deferred.doneUnsafe(this.whetherOpened, Exit.succeed(opened))
  }

  opened(start: bigint): void {
    this.start = start
    this.tracker = new OffsetTracker(start, 256)
    this.unstarted = false
  }

  /** Whether its next record may start, permits aside. */
  get runnable(): boolean {
    return (
      this.buffered > 0 &&
      this.state === "open" &&
      (this.pauses & ~startsAnyway) === 0 &&
      (this.lane === undefined || this.lane.holders === 0)
    )
  }

  /** Registered records that wait to be started, in offset order. */
  buffer(records: ReadonlyArray<ConsumerRecord>, seq: number, at: number): void {
    this.buffered += records.length
    this.chunks.push({ records, seq, at, index: 0 })
  }

  /** An interrupted record of an epoch that goes on: next in turn. */
  putBack(record: ConsumerRecord, seq: number, at: number): void {
    this.buffered++
    this.again.push({ record, seq, at })
  }

  /** seq of the record that `take` gives next */
  get nextSeq(): number {
    const again = this.again[0]
    if (again !== undefined) return again.seq
    const chunk = this.chunks[this.head]
    return chunk === undefined ? this.tracker.next : chunk.seq + chunk.index
  }

  taken = { record: undefined as unknown as ConsumerRecord, seq: 0, at: 0 }

  /** The next record, into `taken`: no allocation. Call it only while `buffered > 0`. */
  take(): void {
    this.buffered--
    const { taken } = this
    const again = this.again.shift()
    if (again !== undefined) {
      taken.record = again.record
      taken.seq = again.seq
      taken.at = again.at
      return
    }
    const chunk = this.chunks[this.head]!
    taken.record = chunk.records[chunk.index]!
    taken.seq = chunk.seq + chunk.index
    taken.at = chunk.at
    if (++chunk.index === chunk.records.length) {
      this.chunks[this.head] = undefined as unknown as Buffered
      if (++this.head > 64) {
        this.chunks = this.chunks.slice(this.head)
        this.head = 0
      }
    }
  }

  /** Gives up what is buffered. */
  drop(each: (record: ConsumerRecord) => void): void {
    for (const { record } of this.again) each(record)
    for (let i = this.head; i < this.chunks.length; i++) {
      const chunk = this.chunks[i]!
      for (let j = chunk.index; j < chunk.records.length; j++) each(chunk.records[j]!)
    }
    this.again = []
    this.chunks = []
    this.head = 0
    this.buffered = 0
  }

  /** The oldest record that is not started, for health and snapshots. */
  oldestBuffered(): { readonly record: ConsumerRecord; readonly at: number } | undefined {
    const again = this.again[0]
    if (again !== undefined) return again
    const chunk = this.chunks[this.head]
    return chunk === undefined ? undefined : { record: chunk.records[chunk.index]!, at: chunk.at }
  }

  addLive(slot: Slot): void {
    slot.index = this.live.push(slot) - 1
  }

  removeLive(slot: Slot): void {
    if (slot.index < 0) return
    const last = this.live.pop()!
    if (last !== slot) {
      this.live[slot.index] = last
      last.index = slot.index
    }
    slot.index = -1
  }
}

/** Bytes of key, value and headers. */
export const sizeOf = (record: ConsumerRecord): number => {
  let bytes = (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0)
  const { headers } = record
  for (let i = 0; i < headers.length; i++) bytes += headers[i]![0].length + (headers[i]![1]?.byteLength ?? 0)
  return bytes
}
