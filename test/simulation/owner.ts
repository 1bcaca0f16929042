/**
 * A process, its epochs and its handlers, as the checker sees them.
 */
import type { EpochPartition, Revoking } from "@concurrent-kafka/core/ConsumerSession"
import type { MapTruth } from "./maps.ts"
import type { Order } from "./plan.ts"
import type { LogTruth, Rec } from "./truth.ts"
import type { Realm } from "@concurrent-kafka/testing/World"

/** One attempt to handle a record, as the handler itself sees it. */
export interface Attempt {
  readonly owner: Owner
  readonly rec: Rec
  readonly epoch: EpochTruth | undefined
  readonly startedAt: number
  readonly frozenBefore: number
  /** it does not end when it is interrupted */
  stubborn: boolean
  acked: boolean
  /** its outcome counts later than its end */
  deferred: boolean
  /** interrupted itself */
  self: boolean
  ended: boolean
  /** ends it when its fiber has: the engine may hear of that first, of a handler that began a turn later */
  look: () => void
}

export interface EpochTruth extends EpochPartition {
  readonly owner: Owner
  readonly key: string
  /** the log that it reads, as far as anybody can know */
  log: LogTruth
  state: "given" | "open" | "revoking" | "suspended" | "ended"
  exact: boolean
  /** what the assignment said; nothing for an epoch that was reopened */
  committed: bigint | undefined
  readonly topicCommitted: boolean
  readonly reopened: boolean
  begunAt: bigint | undefined
  /** since when its start is to be found, and how long the process had stood still by then */
  givenAt: number
  frozenBefore: number
  position: bigint
  sent: bigint | undefined
  /** since when its commits are put off, because its group is between two generations */
  putOffSince: number | undefined
  /** and last */
  putOffAt: number
  stored: bigint | undefined
  /** what lies beside it */
  storedMap: MapTruth | undefined
  /** what the assignment said beside the committed offset; not believed yet */
  found: MapTruth | undefined
  /** the end of the log, as it was heard of while the epoch was suspended: it is looked at when that goes on */
  keptEnd: bigint | undefined
  /** the same, once it is believed */
  claims: MapTruth | undefined
  readonly delivered: Array<Rec>
  readonly indexOf: Map<Rec, number>
  /** all of `delivered` before this index are done */
  checked: number
  /** done beyond doubt, and when: the engine must know it too */
  readonly certain: Map<Rec, number>
  /** all of `delivered` before this index are done beyond doubt */
  prefix: number
  /** all of `delivered` before this index are done, maybe */
  doneFrom: number
  /** all of `delivered` before this index are done beyond doubt, since whenever */
  surelyFrom: number
  /** the user paused it */
  paused: boolean
  /** what is in each lane, in the order of offsets, and how many of these have been started, or need not be */
  readonly lanes: Map<string, { readonly recs: Array<Rec>; next: number }>
  /** how often each was started */
  readonly started: Map<Rec, number>
  /** those that may start again, and not before this time */
  readonly again: Map<Rec, number>
  /** those whose handler has decided itself: nobody else is asked */
  readonly directed: Set<Rec>
  /** so many of it may be parked, by what the policy has said so far */
  parkLimit: number
  /** those that may be parked, and when their time is over */
  readonly parkedUntil: Map<Rec, number>
  /** those whose dead letter is to be sent */
  readonly sending: Set<Rec>
  endedAt: number
  /** where the user moves it */
  soughtTo: bigint | undefined
  /** somebody has moved the partition, to an offset or to an end of its log */
  sought: boolean
  /** it may end by itself, without a signal */
  mayEnd: string | undefined
}

/** A revoke that was not answered yet. */
export interface Outstanding {
  readonly signal: Revoking
  readonly seenAt: number
  readonly frozenBefore: number
  /** something runs that is worth waiting for, or anything at all */
  readonly waitedFor: boolean
  readonly running: boolean
  /** when, in a close, the commits that it waits for were put off last, and how long the process had stood still by then */
  putOff: { readonly at: number; readonly frozenBefore: number } | undefined
  /** those that were open then: it is their first revoke */
  readonly fresh: ReadonlySet<EpochTruth>
}

/** What the members of one process have in common: how they end, and that they are paused. */
export class Life {
  /** why it may interrupt everything and end */
  closing: string | undefined = undefined
  paused = false
  /** when the policy said stop */
  stoppedAt: number | undefined = undefined
  /** since when somebody ends it from outside, and how long it had stood still by then */
  endedFrom: { readonly at: number; readonly frozenBefore: number } | undefined = undefined
  /** the client has given up for good */
  sessionEnded = false
  /** nothing has been done to it since this time that could keep its commits from going through */
  calmSince = 0
}

/** A member of a process, as the checker sees it. Most processes have one. */
export class Owner {
  readonly name: string
  readonly clientId: string
  readonly realm: Realm
  readonly life: Life
  readonly order: Order
  /** it reads and writes offset maps */
  readonly mapped: boolean
  readonly filters: boolean
  readonly startsLatest: boolean
  /** its group has rebalances in rounds */
  readonly cooperative: boolean
  readonly timeout: number | undefined
  readonly maxUncommitted: number
  /** a partition holds fewer records than this */
  readonly mostHeld: number
  /** how long a revoke without a hold may take */
  readonly flushTime: number
  readonly interruptGrace: number
  readonly revokeDrain: number
  readonly shutdownTimeout: number
  readonly flushReserve: number
  /** its policy may take time */
  readonly decidesLate: boolean
  /** what fails ends it, unless its handler has said what then */
  readonly failsHard: boolean
  limit: number
  /** the highest that it ever was */
  mostLimit: number
  readonly epochs = new Map<number, EpochTruth>()
  /** what the newest assignment said of each partition */
  readonly committed = new Map<string, { readonly offset: bigint; readonly map: MapTruth | undefined } | undefined>()
  readonly running = new Set<Attempt>()
  /** those that have never been committed: where they start is to be found and committed first */
  readonly opening = new Set<EpochTruth>()
  /** policies that take their time, and finalizers: they keep the permits of their attempts */
  busy = 0
  /** since when each record could have been started, in milliseconds of its own time */
  idle = new Map<Rec, number>()
  /** the same for permits that nobody uses, for a turn that nobody has, and for each partition that stands still behind what is parked */
  unused: number | undefined = undefined
  turnless: number | undefined = undefined
  standing = new Map<EpochTruth, number>()
  /** and for each that has more parked than may be */
  overdue = new Map<EpochTruth, number>()
  /** dead letters on their way, and in which epoch */
  readonly letters = new Map<Rec, EpochTruth>()
  readonly revoking = new Set<Outstanding>()
  left = true
  /** called when it joins the group */
  joins: () => void = () => {}
  /** its user moves a partition there, just now */
  seeksTo: bigint | undefined = undefined
  /** when an epoch ended, or may have */
  lastEnd = 0
  /** when a commit did not go through */
  refusedAt = 0
  /** a broker has said that its maps are too large */
  cutsMaps = false
  /** how many records it has been given */
  readonly registered = { least: 0, most: 0 }
  /** how many of each outcome the engine must have counted: at least, and at most */
  readonly handled = { least: 0, most: 0 }
  readonly skipped = { least: 0, most: 0 }
  readonly filtered = { least: 0, most: 0 }
  readonly deadLettered = { least: 0, most: 0 }
  readonly alreadyDone = { least: 0, most: 0 }
  /** those that were to be dead-lettered or nothing */
  readonly buried = new Set<Rec>()

  constructor(options: {
    readonly name: string
    readonly clientId: string
    readonly realm: Realm
    readonly life: Life
    readonly order: Order
    readonly mapped: boolean
    readonly filters: boolean
    readonly startsLatest: boolean
    readonly cooperative: boolean
    readonly limit: number
    readonly timeout: number | undefined
    readonly maxUncommitted: number
    readonly mostHeld: number
    readonly flushTime: number
    readonly interruptGrace: number
    readonly revokeDrain: number
    readonly shutdownTimeout: number
    readonly flushReserve: number
    readonly decidesLate: boolean
    readonly failsHard: boolean
  }) {
    this.name = options.name
    this.clientId = options.clientId
    this.realm = options.realm
    this.life = options.life
    this.order = options.order
    this.mapped = options.mapped
    this.filters = options.filters
    this.startsLatest = options.startsLatest
    this.cooperative = options.cooperative
    this.limit = options.limit
    this.mostLimit = options.limit
    this.timeout = options.timeout
    this.maxUncommitted = options.maxUncommitted
    this.mostHeld = options.mostHeld
    this.flushTime = options.flushTime
    this.interruptGrace = options.interruptGrace
    this.revokeDrain = options.revokeDrain
    this.shutdownTimeout = options.shutdownTimeout
    this.flushReserve = options.flushReserve
    this.decidesLate = options.decidesLate
    this.failsHard = options.failsHard
  }

  get closing(): string | undefined {
    return this.life.closing
  }
  set closing(why: string | undefined) {
    this.life.closing = why
  }
  get paused(): boolean {
    return this.life.paused
  }
  set paused(paused: boolean) {
    this.life.paused = paused
  }
}

/** The lane of a record, by the definition of the order. */
export const laneOf = ({ order }: Owner, { key, unorderable }: Rec): string | undefined => {
  switch (order) {
    case "unordered":
      return undefined
    case "partition":
      return "all"
    case "key":
      return key === null ? undefined : key
    case "function":
      return unorderable ? undefined : orderOf(key)
  }
}

/** What the function given as `ordering` answers. */
export const orderOf = (key: string | null): string => (key === null ? "none" : String(Number(key.slice(1)) % 4))
