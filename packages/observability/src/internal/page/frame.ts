/**
 * What the page is told: plain data, made of snapshots. Every list in it has a bound, so that a frame has one too, whatever the number of
 * consumers, partitions and records.
 */
import type { HealthCode } from "@concurrent-kafka/core/Health"
import type {
  HotLane,
  OldestRecord,
  Outcome,
  PartitionSnapshot,
  RebalanceSnapshot
} from "@concurrent-kafka/core/Snapshot"

/** Consumers that are named at all. */
export const consumersShown = 32
/** Partitions with a strip of their own. */
export const rowsShown = 40
/** Partitions that have a cell. */
export const cellsShown = 4_000
/** Topics whose partitions have cells. */
export const topicsShown = 40
/** Parts that what is done behind a gap is cut into: a strip has no room for more. */
export const partsShown = 128
export const oldestShown = 6
export const rebalancesShown = 20
export const membersShown = 16
/** Names of members beside a reason. */
export const namesShown = 4
/** Characters of a sentence or a name: health has texts of errors in it. */
export const longestText = 240

/** Milliseconds since 1970, and everything else of the second that the charts show. Counters are sums since the consumer's start. */
export interface Point {
  readonly seq: number
  readonly at: number
  readonly done: number
  readonly failed: number
  readonly retries: number
  /** milliseconds */
  readonly p50: number
  readonly p99: number
  readonly wait: number
  /** of what is known of it; null: nothing is */
  readonly lag: number | null
}

export interface Place {
  readonly topic: string
  readonly partition: number
}

export interface Reason {
  readonly code: HealthCode
  readonly message: string
  readonly since: number
  readonly count: number
  readonly at?: Place & { readonly offset?: string }
  readonly members?: ReadonlyArray<string>
}

export interface Totals {
  readonly partitions: number
  /** of the partitions whose end is known */
  readonly lag: number
  /** partitions whose end is not known, so that there is more lag than that */
  readonly unknown: number
  /** of the lag, what was not fetched yet */
  readonly ahead: number
  readonly gaps: number
  readonly running: number
  readonly buffered: number
  readonly waiting: number
  readonly sending: number
  readonly parked: number
  readonly zombies: number
}

/** Of each consumer. */
export interface Summary {
  readonly name: string
  readonly group: string
  readonly status: "ok" | "degraded" | "down"
  readonly live: boolean
  readonly ready: boolean
  readonly codes: ReadonlyArray<HealthCode>
  readonly permits: { readonly limit: number | "unbounded"; readonly used: number; readonly byZombies: number }
  readonly totals: Totals
  /** finished since the start, by whatever outcome */
  readonly done: number
}

/** 0 quiet, 1 working, 2 slow or held up, 3 in trouble */
export type Level = 0 | 1 | 2 | 3

/** How long a record has been there. `since` and `attempt` are of its state, which is another one with each attempt. */
export interface Waited extends Pick<OldestRecord, "state" | "attempt" | "since" | "receivedAt"> {
  /** left out where no attempt has failed */
  readonly firstFailedAt?: number
}

/** A partition with its strip. Offsets but the first are counted from `from`; what is left out is 0, nothing or false. */
export interface Row extends Place {
  readonly level: Level
  /** what is committed, or the start */
  readonly from: string
  /** up to here everything is done */
  readonly prefix?: number
  /** records that are done and not committed yet, also behind a gap */
  readonly done?: number
  /** nothing behind this one is done */
  readonly behind?: number
  /** up to here it is known which are done; left out where that is all up to `behind` */
  readonly known?: number
  /** what lies between `prefix` and `known`, in equal parts: four to a hexadecimal digit, 1 where something is not done */
  readonly holes?: string
  readonly parts?: number
  readonly delivered: number
  readonly lag?: number
  /** records that are not done while a later one is */
  readonly gaps?: number
  readonly running?: number
  readonly buffered?: number
  readonly waiting?: number
  readonly sending?: number
  readonly parked?: number
  readonly zombies?: number
  readonly held?: number
  readonly bytes?: number
  readonly state?: Exclude<PartitionSnapshot["state"], "open">
  readonly paused?: PartitionSnapshot["paused"]
  readonly oldest?: Waited & { readonly offset: number }
}

/** All partitions of a topic, a character each: level and magnitude of the lag. */
export interface Cells {
  readonly topic: string
  /** the first partition's number, and each next one's distance */
  readonly partitions: ReadonlyArray<number>
  readonly levels: string
}

export interface Oldest extends Place, Waited {
  readonly offset: string
}

/** Of the consumer that is looked at. */
export interface Detail {
  readonly name: string
  readonly startedAt: number
  readonly generation: number
  readonly reasons: ReadonlyArray<Reason>
  readonly paused: boolean
  readonly held: {
    readonly records: number
    readonly bytes: number
    readonly maxRecords: number
    readonly maxBytes: number
  }
  readonly outcomes: Readonly<Record<Outcome, number>>
  readonly attempts: number
  readonly retries: number
  readonly interrupted: number
  readonly fenced: number
  readonly released: number
  readonly lostToRetention: number
  readonly unexpected: number
  readonly handlerTime: { readonly p50: number; readonly p99: number }
  readonly waitTime: { readonly p50: number; readonly p99: number }
  readonly commits: {
    readonly ok: number
    readonly failed: number
    readonly lastAt?: number
    readonly lastMillis?: number
  }
  readonly rebalances: ReadonlyArray<RebalanceSnapshot>
  readonly rebalanceCounts: Readonly<Record<RebalanceSnapshot["kind"], number>>
  readonly hotLanes: ReadonlyArray<HotLane>
  /** of the group in this process, each with a concurrency of its own */
  readonly sessions: number
  readonly members: ReadonlyArray<{ readonly name: string; readonly status: string; readonly partitions: number }>
  readonly oldest: ReadonlyArray<Oldest>
  readonly cells: ReadonlyArray<Cells>
  /** partitions without a cell */
  readonly withoutCell: number
  readonly rows: ReadonlyArray<Row>
  /** partitions that what was looked for is true of */
  readonly found: number
}

export interface Frame {
  readonly consumers: ReadonlyArray<Summary>
  /** consumers that are not named */
  readonly more: number
  readonly detail: Detail | undefined
  /** milliseconds that the event loop stood still, of the last half to whole minute */
  readonly loop: { readonly p50: number; readonly p99: number; readonly max: number } | undefined
}

/** Of names and sentences, which can be anybody's: cut. */
export const shown = (text: string): string => (text.length > longestText ? `${text.slice(0, longestText)}...` : text)
