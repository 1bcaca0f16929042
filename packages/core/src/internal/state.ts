/**
 * What the parts of a running consumer share: settings, counters, and the partitions' epochs with the one function that changes
 * a partition's state.
 */
import type * as Clock from "effect/Clock"
import type { ConsumerRecord, Delivery, TopicPartition } from "../ConsumerRecord.ts"
import type { EpochPartition, Session } from "../ConsumerSession.ts"
import type { Diagnostics, Machine } from "../Diagnostics.ts"
import type { HealthOptions } from "../Health.ts"
import type { OffsetMap } from "../OffsetMap.ts"
import type { RebalanceSnapshot } from "../Snapshot.ts"
import type * as Effect from "effect/Effect"
import { commitStep, type CommitEvent } from "./commitMachine.ts"
import type { PartitionEpoch } from "./epoch.ts"
import type { LaneOf, Lanes } from "./lanes.ts"
import type { LateLooks } from "./lateLooks.ts"
import { LatencyWindow } from "./latencyWindow.ts"
import { type PartitionEvent, partitionStep, type PartitionStep } from "./partitionMachine.ts"
import { RecordEvent, recordEventNames, recordStateNames, recordStep } from "./recordMachine.ts"
import type { Permits } from "./permits.ts"
import type { Slot } from "./slot.ts"
import { Standstill } from "./standstill.ts"
import type { Suspects } from "./suspects.ts"
import { sizeBounds, Tally, timeBounds } from "./tally.ts"

/** validated, times in milliseconds */
export interface ConsumerSettings {
  readonly name: string | undefined
  readonly concurrency: number | "unbounded"
  readonly ordering: "unordered" | "key" | "partition" | "function"
  /** undefined without an order */
  readonly laneOf: LaneOf | undefined
  readonly startFrom: "earliest" | "latest" | "fail"
  readonly onOutOfRange: "earliest" | "latest" | "fail"
  readonly offsetMap: "own" | "all" | "off"
  readonly maxUncommitted: number
  readonly maxHeldRecords: number
  readonly maxHeldBytes: number
  readonly wrap: (<E, R>(effect: Effect.Effect<void, E, R>, record: Delivery) => Effect.Effect<void, E, R>) | undefined
  readonly headerFilter: ((record: ConsumerRecord) => boolean) | undefined
  readonly shutdown: "interrupt" | "drain"
  readonly shutdownTimeout: number
  readonly flushReserve: number
  readonly revokeDrain: number
  readonly interruptGrace: number
  readonly stuckAfter: number
  readonly health: HealthOptions
  readonly revealRecords: boolean
}

/** Rises from the start of the consumer, over its runs. */
export class Counters {
  handled = 0
  skipped = 0
  deadLettered = 0
  filtered = 0
  alreadyDone = 0
  attempts = 0
  retries = 0
  interrupted = 0
  fenced = 0
  released = 0
  lostToRetention = 0n
  lostToRetentionAt: { readonly at: number; readonly where: TopicPartition } | undefined = undefined
  unexpected = 0
  commitsOk = 0
  commitsFailed = 0
  /** requests in a row that failed */
  commitFailures = 0
  commitFailingSince: number | undefined = undefined
  lastCommitAt: number | undefined = undefined
  lastCommitMillis: number | undefined = undefined
  readonly commitEntries = { committed: 0, retriable: 0, deferred: 0, stale: 0, rejected: 0 }
  readonly commitTime = new Tally(timeBounds)
  readonly commitSize = new Tally(sizeBounds)
  readonly handlerTime = new LatencyWindow()
  readonly failedTime = new Tally(timeBounds)
  readonly waitTime = new LatencyWindow()
  readonly rebalanceCounts = { assigned: 0, revoked: 0, lost: 0 }
  readonly revokeTime = new Tally(timeBounds)
  private readonly rebalanceLog: Array<RebalanceSnapshot> = []

  rebalanced(entry: RebalanceSnapshot): void {
    if (this.rebalanceLog.push(entry) > 100) this.rebalanceLog.shift()
    this.rebalanceCounts[entry.kind]++
    if (entry.kind === "revoked") this.revokeTime.add(entry.millis)
  }
  get rebalances(): ReadonlyArray<RebalanceSnapshot> {
    return this.rebalanceLog.slice()
  }
}

export const keyOf = (p: TopicPartition): string => `${p.topic}/${p.partition}`

/** One run of a consumer: from join to leave. */
export class RunState {
  readonly session: Session
  readonly settings: ConsumerSettings
  readonly counters: Counters
  readonly permits: Permits
  /** by topic and partition; shared with earlier and later runs: a zombie keeps its lane */
  readonly lanes: Map<string, Lanes>
  readonly diagnostics: Diagnostics | undefined
  /** what offset maps are compressed with */
  readonly zstd: OffsetMap.Zstd | undefined
  /** by topic and partition; ended ones are not in it */
  readonly epochs = new Map<string, PartitionEpoch>()
  /** ended, with fibers that still run */
  readonly ending = new Set<PartitionEpoch>()
  /** shared with other runs */
  readonly suspects: Suspects
  /** slots whose epoch is over and whose fiber ignores its interruption; shared with other runs */
  readonly zombies: Set<Slot>
  /** shared with other runs; undefined where nobody measures the event loop's delay */
  readonly lateLooks: LateLooks | undefined
  closing = false
  readonly startedAt: number
  readonly standstill: Standstill
  private readonly clock: Clock.Clock
  private readonly warned: Set<string>
  private readonly warn: (message: string) => void

  constructor(options: {
    readonly session: Session
    readonly settings: ConsumerSettings
    readonly counters: Counters
    readonly permits: Permits
    readonly lanes: Map<string, Lanes>
    readonly zombies: Set<Slot>
    readonly suspects: Suspects
    readonly lateLooks: LateLooks | undefined
    readonly diagnostics: Diagnostics | undefined
    readonly zstd: OffsetMap.Zstd | undefined
    readonly clock: Clock.Clock
    readonly warned: Set<string>
    readonly warn: (message: string) => void
  }) {
    this.session = options.session
    this.settings = options.settings
    this.counters = options.counters
    this.permits = options.permits
    this.lanes = options.lanes
    this.zombies = options.zombies
    this.suspects = options.suspects
    this.lateLooks = options.lateLooks
    this.diagnostics = options.diagnostics
    this.zstd = options.zstd
    this.clock = options.clock
    this.warned = options.warned
    this.warn = options.warn
    this.startedAt = this.now()
    this.standstill = new Standstill(this)
  }

  /** characters of metadata that a broker takes: what it says by default, until one says less */
  mapLimit = 4_096

  /** Whether finished records behind a gap are written into the commit's metadata. */
  get mapped(): boolean {
    return this.settings.offsetMap !== "off" && this.session.capabilities.commitMetadata
  }

  now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  /** Milliseconds that only rise, for limits: the time of day can be set back. */
  ticks(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  /** The living epoch with this number; late signals of an older one find nothing. */
  find(p: EpochPartition): PartitionEpoch | undefined {
    const epoch = this.epochs.get(keyOf(p))
    return epoch?.epoch === p.epoch ? epoch : undefined
  }

  row(machine: Machine, row: string, at: EpochPartition): void {
    this.diagnostics?.transition(machine, row, at)
  }

  /** Takes the table's step, or counts that there is none and changes nothing. */
  partition(epoch: PartitionEpoch, event: PartitionEvent): PartitionStep | undefined {
    const step = partitionStep(epoch.state, event, epoch)
    if (step === undefined) {
      this.unexpected("partition", epoch.state, event, epoch)
      return undefined
    }
    if (step.row !== "") this.diagnostics?.transition("partition", step.row, epoch)
    epoch.state = step.to
    if (step.reason !== undefined) epoch.ended = step.reason
    return step
  }

  record(slot: Slot, event: RecordEvent): boolean {
    const step = recordStep(slot.state, event)
    if (step === undefined) {
      this.unexpected("record", recordStateNames[slot.state], recordEventNames[event]!, slot.at)
      return false
    }
    this.diagnostics?.transition("record", step.row, slot.at)
    slot.state = step.to
    return true
  }

  /** R18: the epoch is suspended and the record goes on. */
  suspended(slot: Slot): void {
    if (recordStep(slot.state, RecordEvent.suspend) !== undefined) this.record(slot, RecordEvent.suspend)
  }

  commit(epoch: PartitionEpoch, event: CommitEvent): boolean {
    const step = commitStep(epoch.commitState, event)
    if (step === undefined) {
      this.unexpected("commit", epoch.commitState, event, epoch)
      return false
    }
    if (step.row !== "") this.diagnostics?.transition("commit", step.row, epoch)
    epoch.commitState = step.to
    return true
  }

  unexpected(machine: Machine, state: string, event: string, at: EpochPartition): void {
    this.counters.unexpected++
    this.diagnostics?.unexpected(machine, state, event, at)
    this.warnOnce(
      `${machine} ${state} ${event}`,
      () =>
        `unexpected event "${event}" in state "${state}" of the ${machine} machine at ${at.topic}/${at.partition}; ignored, please report it`
    )
  }

  /** Once of the consumer, however many runs it has. */
  warnOnce(what: string, message: () => string): void {
    if (this.warned.has(what)) return
    this.warned.add(what)
    this.warn(message())
  }
}
