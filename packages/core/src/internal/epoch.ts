/**
 * What is known of one partition in one epoch: its state, its records, what of it is committed.
 */
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { EpochPartition, LogOffsets } from "../ConsumerSession.ts"
import { Backlog } from "./backlog.ts"
import type { CommitState } from "./commitMachine.ts"
import type { Lanes } from "./lanes.ts"
import { OffsetTracker } from "./offsetTracker.ts"
import { PartitionMap } from "./partitionMap.ts"
import type { EndReason, PartitionState } from "./partitionMachine.ts"
import { readableHeaders } from "./recordHeaders.ts"
import type { PauseReason } from "../Snapshot.ts"
import type { Slot } from "./slot.ts"

/** Pause is not a state but a set of reasons: bits, because the pump asks for each record. */
export const Pause = { user: 1, full: 2, uncommitted: 4, holding: 8, map: 16 } as const
/**
 * Fetching stops when any reason is there. Starting goes on while only these are: it is how a full partition empties, and the other two
 * are about records beyond a limit, while those below it, retries above all, are what takes the reason away.
 */
const startsAnyway = Pause.full | Pause.uncommitted | Pause.map

export const pauseNames = (pauses: number): ReadonlyArray<PauseReason> =>
  (Object.keys(Pause) as Array<PauseReason>).filter((name) => (pauses & Pause[name]) !== 0)

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

  /** what waits to be started */
  readonly backlog: Backlog
  /** attempts with a fiber, zombies aside; the place in it is the slot's `index` */
  readonly live: Array<Slot> = []
  /** failed, and waiting for the time of their retry, or for their turn after it */
  readonly waiting = new Set<Slot>()
  /** dead letters on their way */
  readonly sending = new Set<Slot>()
  /** the longest parked first */
  readonly parked = new Set<Slot>()
  /** of these, those whose time is over */
  readonly overdue = new Set<Slot>()
  /** of these, the first in offset order; undefined when it has to be looked for */
  lowestParked: Slot | undefined = undefined
  /** seq of the record that left the parked ones to make the offset map shorter; -1: none, or it is parked again */
  relieving = -1
  /** parked records are being taken away */
  checkingParked = false

  /** the drain that it is part of */
  drain: object | undefined = undefined
  exact = false
  closing = false
  /** when its user paused it, alone or with the whole consumer */
  userPausedAt: number | undefined = undefined
  /** when it was announced that it is taken away */
  leavingSince: number | undefined = undefined
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
  /** seq of the newest started record + 1 */
  startedSeq = 0

  commitState: CommitState = "clean"
  /** what the broker has, as far as we know */
  committed: bigint | undefined = undefined
  /** `committed` was to be sent once more, over a late request, and did not get through yet */
  unsure = false
  /** what the request under way says, and the tracker's version that it was taken from */
  request: { readonly offset: bigint; readonly metadata: string; readonly version: number } | undefined = undefined
  readonly map = new PartitionMap()
  /** the end that a reader can see */
  end: bigint | undefined = undefined

  constructor(at: EpochPartition, lanes: Lanes | undefined, now: number) {
    this.topic = at.topic
    this.partition = at.partition
    this.epoch = at.epoch
    this.backlog = new Backlog(lanes)
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

  /** Handlers and dead letters: what a drain waits for. */
  get inFlight(): number {
    return this.live.length + this.sending.size
  }

  /** Whether records may start now, if there are some. */
  get starts(): boolean {
    return this.state === "open" && (this.pauses & ~startsAnyway) === 0
  }

  /** Whether a record may start now, as far as can be said without looking for it, permits aside. */
  get runnable(): boolean {
    return this.starts && this.backlog.some
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

/** Bytes of key, value and headers, as far as these can be read: what is wrong with them is found by who looks for something in them. */
export const sizeOf = (record: ConsumerRecord): number => {
  let bytes = (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0)
  const headers = readableHeaders(record)
  if (headers === undefined) return bytes
  for (let i = 0; i < headers.length; i++) bytes += headers[i]![0].length + (headers[i]![1]?.byteLength ?? 0)
  return bytes
}
