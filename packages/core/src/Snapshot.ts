/**
 * Everything that can be seen of a consumer, as plain data taken at once.
 *
 * @since 0.1.0
 */
import type { TopicPartition } from "./ConsumerRecord.ts"
import type { CommitOutcome, EpochPartition } from "./ConsumerSession.ts"
import type { Health } from "./Health.ts"

/**
 * Why a partition is paused. `user`: `pause` was called. `full`: its share of the held limits is used up; only fetching stops.
 * `uncommitted`: `maxUncommitted` records lie behind the oldest one that is not done. `map`: the offset map is almost full; only what lies below the
 * newest done record starts. `holding`: it is being taken away.
 *
 * @since 0.1.0
 * @category models
 */
export type PauseReason = "user" | "full" | "uncommitted" | "map" | "holding"

/**
 * How a record can be done. `handled`: by the handler. `skipped`: failed, and the policy said skip. `deadLettered`: failed, and the
 * broker has its dead letter. `filtered`: not for this group. `alreadyDone`: by a former owner of the partition, as its offset map says.
 *
 * @since 0.1.0
 * @category models
 */
export type Outcome = "handled" | "skipped" | "deadLettered" | "filtered" | "alreadyDone"

/**
 * The oldest record of a partition that is not done.
 *
 * @since 0.1.0
 * @category models
 */
export interface OldestRecord {
  readonly offset: bigint
  readonly state: "buffered" | "running" | "stopping" | "waiting" | "sending" | "parked"
  readonly attempt: number
  /** When this state began, our clock, milliseconds since 1970: anew with each attempt. */
  readonly since: number
  /** When it came, by the same clock. */
  readonly receivedAt: number
  /** When its first attempt of this epoch failed, by the same clock; undefined when none has. */
  readonly firstFailedAt: number | undefined
  /** The record's own timestamp, only to be shown. */
  readonly timestamp: bigint
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PartitionSnapshot extends EpochPartition {
  readonly state: "opening" | "open" | "holding" | "flushing" | "suspended" | "draining"
  readonly paused: ReadonlyArray<PauseReason>
  /** What the broker has, as far as known. */
  readonly committed: bigint | undefined
  /** The next offset after the done prefix. */
  readonly committable: bigint
  /** The next offset to be delivered. */
  readonly delivered: bigint
  /** The end that a reader can see, as of the newest chunk; of a partition that has brought none, as the broker was asked once. */
  readonly end: bigint | undefined
  /** Records that became done in this epoch, by whatever outcome, so that a reader can make a rate of it. */
  readonly done: number
  /** Of these, those behind a gap. */
  readonly behindGap: number
  /** The next offset after the newest done record; `committable` when nothing is done behind a gap. */
  readonly doneUpTo: bigint
  /** Done behind a gap: `[from, to)` in offset order, the first 256 runs. What lies between the last of 256 and `doneUpTo` is not told one by one. */
  readonly doneBehindGap: ReadonlyArray<readonly [from: bigint, to: bigint]>
  /** Records that are not done while a later one of their partition is. */
  readonly gaps: number
  /** Bytes of the offset map as it was made last; 0 when nothing is done behind a gap. */
  readonly mapBytes: number
  readonly buffered: number
  readonly running: number
  /** Failed, and waiting for their retry. */
  readonly waiting: number
  /** Dead letters on their way. */
  readonly sending: number
  readonly parked: number
  /** Handlers of this partition that ignore their interruption, also those of epochs and runs that are over, and of other `members`. */
  readonly zombies: number
  readonly heldRecords: number
  readonly heldBytes: number
  readonly oldest: OldestRecord | undefined
}

/**
 * A lane in which records wait.
 *
 * @since 0.1.0
 * @category models
 */
export interface HotLane extends TopicPartition {
  /** Stands for the key: a hash of it, another one in each process; with `revealRecords` the key itself. */
  readonly lane: string
  /** Records that wait in it. */
  readonly waiting: number
}

/**
 * How many values fell into which bucket since the start of the consumer: what histograms are made of.
 *
 * @since 0.1.0
 * @category models
 */
export interface Distribution {
  /** The greatest value of each bucket, rising. */
  readonly bounds: ReadonlyArray<number>
  /** Values in each bucket, and after them those above the last bound. */
  readonly counts: ReadonlyArray<number>
  readonly sum: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Latency {
  /** Milliseconds, of the last minute, exact to 5 %. */
  readonly p50: number
  readonly p99: number
  /** Milliseconds, of all since the start. */
  readonly all: Distribution
}

/**
 * A rebalance as this consumer saw it.
 *
 * @since 0.1.0
 * @category models
 */
export interface RebalanceSnapshot {
  readonly at: number
  readonly kind: "assigned" | "revoked" | "lost"
  readonly partitions: number
  /** How long the revoke was held for drain and flush; 0 for the other kinds. */
  readonly millis: number
  /** Records in flight when it came. */
  readonly inFlight: number
}

/**
 * Plain data, taken at once. Counters only rise, from the start of the consumer, so that a reader can make rates of them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot {
  readonly name: string
  readonly groupId: string
  /** Milliseconds since 1970. */
  readonly at: number
  readonly startedAt: number
  readonly generation: number
  readonly permits: {
    readonly limit: number | "unbounded"
    readonly used: number
    readonly byZombies: number
    /** By records that may have blocked the event loop for longer than a session lasts: they run one at a time, and these wait for it. */
    readonly waitingForTurn: number
  }
  readonly held: {
    readonly records: number
    readonly bytes: number
    readonly maxRecords: number
    readonly maxBytes: number
  }
  readonly outcomes: Readonly<Record<Outcome, number>>
  readonly attempts: number
  /** Of these, those after the first of their record. */
  readonly retries: number
  /** Attempts that this library interrupted. */
  readonly interrupted: number
  /** Chunks, outcomes and answers that came after their epoch had ended, and were dropped. */
  readonly fenced: number
  /** Records given up when their epoch ended; they will be delivered again. */
  readonly released: number
  /** Offsets that the broker deleted before they were read. */
  readonly lostToRetention: bigint
  /** Events that the engine's state machines do not know: please report them. */
  readonly unexpectedTransitions: number
  /** From the start of an attempt to its outcome, of attempts that succeeded. */
  readonly handlerTime: Latency
  /** The same in milliseconds, of attempts that failed. */
  readonly failedTime: Distribution
  /** From a record's arrival to the start of its first attempt. */
  readonly waitTime: Latency
  readonly commits: {
    /** Requests of which every entry was stored. */
    readonly ok: number
    readonly failed: number
    readonly lastAt: number | undefined
    readonly lastMillis: number | undefined
    /** Partitions in requests, by what became of them. */
    readonly entries: Readonly<Record<CommitOutcome["outcome"], number>>
    /** Milliseconds that requests took, whatever the answer. */
    readonly time: Distribution
    /** Bytes of requests, roughly. */
    readonly size: Distribution
  }
  /** The last 100. */
  readonly rebalances: ReadonlyArray<RebalanceSnapshot>
  /** All since the start. */
  readonly rebalanceCounts: Readonly<Record<RebalanceSnapshot["kind"], number>>
  /** Milliseconds that revokes were held for drain and flush. */
  readonly revokeTime: Distribution
  /** The lanes with the most waiting records, at most five. */
  readonly hotLanes: ReadonlyArray<HotLane>
  readonly partitions: ReadonlyArray<PartitionSnapshot>
  readonly health: Health
  /**
   * Of a consumer with several `members`: each one by itself, called `name/1`, `name/2` and so on; everything above is of all
   * together. While a partition moves from one to another both may show it. Empty with one member.
   */
  readonly members: ReadonlyArray<Snapshot>
}
