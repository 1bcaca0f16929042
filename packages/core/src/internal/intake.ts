/**
 * What comes out of the session's inbox, in its order: assignments open and end epochs, chunks are registered and buffered. It takes
 * everything at once and never waits: drains, flushes and the establishing of starts (`openings.ts`) are fibers of their own, so that
 * other partitions' chunks go on (I11) and every revoke is answered.
 */
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { BatchCommitter } from "../BatchCommitter.ts"
import { ConsumerError } from "../ConsumerError.ts"
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type {
  Assigned,
  AssignedPartition,
  Chunk,
  Connection,
  EpochPartition,
  Gone,
  Lost,
  OutOfRange,
  Signal
} from "../ConsumerSession.ts"
import type { KafkaClientError } from "../KafkaClient.ts"
import type { Backpressure } from "./backpressure.ts"
import type { Commits } from "./commits.ts"
import { Pause, type PartitionEpoch, sizeOf } from "./epoch.ts"
import { GoneTopics } from "./goneTopics.ts"
import { Openings } from "./openings.ts"
import type { PartitionEvent } from "./partitionMachine.ts"
import type { Pump } from "./pump.ts"
import type { Rebalance } from "./rebalance.ts"
import { keyOf, type RunState } from "./state.ts"

export interface IntakeEvents {
  readonly fork: (effect: Effect.Effect<unknown>) => void
  readonly after: (millis: number, then: () => void) => void
  readonly guarded: (then: () => void) => void
  readonly fail: (error: ConsumerError) => void
  readonly logError: (message: string) => void
  readonly logWarning: (message: string) => void
  readonly logDebug: (message: string) => void
  /** an epoch is over, and so may be the whole */
  readonly settled: () => void
}

/** Trouble of the session that it tries to get over by itself. */
export interface Trouble {
  readonly since: number
  readonly error: KafkaClientError | undefined
}

export class Intake {
  trouble: Trouble | undefined = undefined
  everAssigned = false
  /** partitions that are not there any more, until they are assigned again */
  readonly gone: GoneTopics
  readonly openings: Openings
  /** epochs that were ended here, on an answer of the broker, while the client holds them on */
  private readonly givenUp = new Set<number>()
  private readonly run: RunState
  private readonly held: Backpressure
  private readonly pump: Pump
  private readonly rebalance: Rebalance
  private readonly commits: Commits
  private readonly events: IntakeEvents

  constructor(
    run: RunState,
    held: Backpressure,
    pump: Pump,
    rebalance: Rebalance,
    commits: Commits,
    committer: BatchCommitter["Service"],
    userPaused: () => boolean,
    events: IntakeEvents
  ) {
    this.run = run
    this.held = held
    this.pump = pump
    this.rebalance = rebalance
    this.commits = commits
    this.events = events
    this.gone = new GoneTopics(run, events.fork)
    this.openings = new Openings(run, held, committer, this.gone, userPaused, events)
  }

  take(signals: ReadonlyArray<Signal>): void {
    for (const signal of signals) {
      switch (signal._tag) {
        case "Chunk":
          this.chunk(signal)
          break
        case "Assigned":
          this.assigned(signal)
          break
        case "Revoking":
          this.rebalance.revoking(signal)
          break
        case "Lost":
          this.lost(signal)
          break
        case "OutOfRange":
          this.outOfRange(signal, signal)
          break
        case "Gone":
          this.isGone(signal)
          break
        case "Connection":
          this.connection(signal)
          break
      }
    }
    this.pump.pump()
  }

  /** Signals of a membership that is over: they mean nothing any more, but a revoke is answered all the same. */
  discard(signals: ReadonlyArray<Signal>): void {
    for (const signal of signals) {
      if (signal._tag === "Chunk") this.fence(signal)
      else if (signal._tag === "Revoking") {
        for (const p of signal.partitions) this.run.row("partition", "P29", p)
        signal.acknowledgeUnsafe()
      }
    }
  }

  private fence(chunk: Chunk): void {
    this.run.row("partition", "P28", chunk)
    this.run.counters.fenced += Math.max(1, chunk.records.length)
  }

  // ------------------------------------------------------------------ records

  private chunk(chunk: Chunk): void {
    const { counters } = this.run
    const epoch = this.run.find(chunk)
    if (epoch === undefined) return this.fence(chunk)
    if (this.run.partition(epoch, "chunk") === undefined) return
    epoch.end = chunk.end
    if (epoch.exact || epoch.closing) {
      // its buffered records were given up: what comes now is given up as well, unregistered
      counters.released += chunk.records.length
      return
    }
    if (epoch.map.found !== undefined) this.believe(epoch, chunk.end, chunk.records[0]?.offset)
    const { tracker } = epoch
    const records = this.unseen(chunk, tracker.delivered)
    const first = tracker.next
    const { claiming } = tracker
    let claimed: Set<number> | undefined
    let bytes = 0
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      if (claiming && tracker.isClaimed(record.offset)) (claimed ??= new Set()).add(i)
      tracker.deliver(record.offset)
      bytes += sizeOf(record)
    }
    const emptied = tracker.chunkEnds(chunk.nextOffset)
    if (records.length > 0) {
      const { headerFilter } = this.run.settings
      this.held.add(epoch, records.length, bytes)
      if (headerFilter === undefined && claimed === undefined) {
        if (this.run.diagnostics !== undefined) for (const _ of records) this.run.row("record", "R3", epoch)
        epoch.backlog.add(records, first, this.run.now())
      } else this.sift(epoch, records, first, headerFilter, claimed)
      this.held.check(epoch)
      this.pump.offer(epoch)
    } else if (emptied) this.pump.advanced(epoch, 0)
  }

  /** A client that goes back gives records twice: what was delivered before is not delivered again. */
  private unseen(chunk: Chunk, delivered: bigint): ReadonlyArray<ConsumerRecord> {
    const { records } = chunk
    if (records.length === 0 || records[0]!.offset >= delivered) return records
    const fresh = records.filter((record) => record.offset >= delivered)
    this.run.counters.fenced += records.length - fresh.length
    return fresh
  }

  /** Records that a former owner has finished, and those that are not for this group, are done at once, without lane or permit. */
  private sift(
    epoch: PartitionEpoch,
    records: ReadonlyArray<ConsumerRecord>,
    first: number,
    wanted: ((record: ConsumerRecord) => boolean) | undefined,
    claimed: ReadonlySet<number> | undefined
  ): void {
    const { counters, mapped, settings } = this.run
    const { backlog, tracker } = epoch
    const now = this.run.now()
    let from = 0
    let advanced = 0
    let behindGap = 0
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      const seq = first + i
      const alreadyDone = claimed?.has(i) === true
      if (alreadyDone) {
        this.run.row("record", "R1", epoch)
        counters.alreadyDone++
      } else {
        this.run.row("record", "R3", epoch)
        if (wanted === undefined || this.isWanted(epoch, wanted, record, seq)) continue
        this.run.row("record", "R2", epoch)
        counters.filtered++
      }
      if (i > from) backlog.add(records.slice(from, i), first + from, now)
      from = i + 1
      if (seq >= epoch.startedSeq) epoch.startedSeq = seq + 1
      this.held.remove(epoch, sizeOf(record))
      const grown = tracker.settle(seq)
      advanced += grown
      // what the map said already need not be said again
      if (grown === 0 && !alreadyDone) behindGap++
    }
    if (from < records.length) backlog.add(from === 0 ? records : records.slice(from), first + from, now)
    if (advanced > 0 || (mapped && behindGap > 0)) this.pump.advanced(epoch, advanced, mapped ? behindGap : 0)
    // what lies behind the oldest unfinished record is kept record by record, whoever has done it
    if (epoch.startedSeq - tracker.base >= settings.maxUncommitted) {
      this.held.pause(epoch, Pause.uncommitted)
    }
  }

  private isWanted(
    epoch: PartitionEpoch,
    wanted: (record: ConsumerRecord) => boolean,
    record: ConsumerRecord,
    seq: number
  ): boolean {
    try {
      return wanted(record)
    } catch (defect) {
      epoch.backlog.defective(seq, defect)
      return true
    }
  }

  // ------------------------------------------------------------------ offset maps

  private believe(epoch: PartitionEpoch, end: bigint, first: bigint | undefined): void {
    const why = epoch.map.believe(epoch, end, first)
    if (why !== undefined) this.openings.notUsed(why, 1, epoch)
  }

  // ------------------------------------------------------------------ assignments

  private assigned(signal: Assigned): void {
    const { run } = this
    this.everAssigned = true
    run.counters.rebalanced({
      at: run.now(),
      kind: "assigned",
      partitions: signal.all.length,
      millis: 0,
      inFlight: run.permits.used
    })
    const mine = new Set<string>()
    const fresh: Array<AssignedPartition> = []
    for (const p of signal.all) {
      const key = keyOf(p)
      mine.add(key)
      const epoch = run.epochs.get(key)
      if (epoch === undefined) {
        if (run.closing) continue
        const next = p.retained ? this.anew(p) : p
        if (next !== undefined) fresh.push(next)
      } else if (epoch.epoch === p.epoch) this.retained(epoch, p)
      // sent before it was opened anew here: what the client has is the epoch of now
      else if (epoch.epoch < p.epoch) {
        this.transition(epoch, "reassigned")
        fresh.push(p)
      }
    }
    for (const [key, epoch] of [...run.epochs]) if (!mine.has(key)) this.transition(epoch, "reassigned")
    this.givenUp.clear()
    // a topic that was deleted and created again may come back in part: the other partitions are another member's now
    this.gone.seen(new Set(signal.all.map(({ topic }) => topic)))
    // a consumer that is closing opens nothing
    if (!run.closing) this.openings.open(fresh)
    else this.events.settled()
  }

  /**
   * Retained, and its epoch is over here. A commit was answered with UNKNOWN_MEMBER_ID, or the topic was not there, and that ended
   * it; then the coordinator moved before it had written the eviction down, and the member is a member again, with what it had.
   * Its records were given up, so it begins at what is committed, in an epoch of its own. `undefined`: the client has lost it since,
   * and will say so.
   */
  private anew(p: AssignedPartition): AssignedPartition | undefined {
    if (!this.givenUp.delete(p.epoch)) this.run.unexpected("partition", "none", "retained", p)
    const next = this.run.session.reopenUnsafe(p)
    return next === undefined ? undefined : { ...p, ...next, retained: false }
  }

  /** The broker has answered a commit with it, before the client knows. */
  evicted(epoch: PartitionEpoch): void {
    this.givenUp.add(epoch.epoch)
    this.loses(epoch)
    this.holdsOn(epoch)
  }

  /**
   * The client learns of an eviction from its next heartbeat, and says so. Where it has not by then, the member is one after all (see
   * `anew`), nothing would ever be heard of the partition again, and it is opened anew where we know the group to be. Its start is
   * committed first, as always, so that one that has moved on meanwhile is not begun.
   */
  private holdsOn(epoch: PartitionEpoch): void {
    this.events.after(2 * this.run.session.settings.heartbeatInterval, () => {
      if (!this.givenUp.delete(epoch.epoch) || this.run.closing || this.run.epochs.has(keyOf(epoch))) return
      const { committed, map, start } = epoch
      const next = this.openings.reopen(epoch, (log) => log.start, committed ?? start)
      // its start is committed again, with the map that lies there
      if (next !== undefined && committed !== undefined)
        this.openings.read(next, { offset: committed, metadata: map.stored })
    })
  }

  private retained(epoch: PartitionEpoch, p: AssignedPartition): void {
    const before = epoch.state
    const step = this.run.partition(epoch, "retained")
    if (step === undefined) return
    if (step.to === before) return this.commits.again(epoch)
    epoch.leavingSince = undefined
    if (step.to === "ended") return this.ended(epoch)
    // suspended before it was open. One that was moved does not begin where the group has committed: that is the place it left
    if (step.to === "opening")
      return epoch.movedTo === undefined ? this.openings.start([epoch], [p]) : this.openings.move(epoch, epoch.movedTo)
    this.rebalance.left(epoch)
    this.commits.retained(epoch, p.committed)
    if (step.to === "draining") {
      if (epoch.commitState === "clean") this.run.commit(epoch, "moved")
      return this.rebalance.drainForClose([epoch])
    }
    this.held.resume(epoch, Pause.holding)
    this.commits.catchUp(epoch)
    this.pump.advanced(epoch, 0)
    this.pump.offer(epoch)
    this.run.suspects.cameBack()
    const { keptRange } = epoch
    epoch.keptRange = undefined
    if (keptRange !== undefined) this.outOfRange(epoch, keptRange)
  }

  // ------------------------------------------------------------------ ends

  private transition(epoch: PartitionEpoch, event: PartitionEvent): boolean {
    if (this.run.partition(epoch, event)?.to !== "ended") return false
    this.ended(epoch)
    return true
  }

  /** The epoch is over: nothing of it settles or commits any more, its fibers are interrupted. */
  readonly ended = (epoch: PartitionEpoch): void => {
    const { run } = this
    const key = keyOf(epoch)
    if (run.epochs.get(key) === epoch) run.epochs.delete(key)
    this.commits.ended(epoch)
    epoch.pauses |= Pause.holding
    epoch.backlog.defects = undefined
    this.pump.drop(epoch)
    run.ending.add(epoch)
    // first: an interruption may end the last fiber at once, which is not the end of a drain that this epoch was part of
    this.rebalance.left(epoch)
    this.pump.interrupt(epoch)
    if (epoch.live.length === 0) this.over(epoch)
    else {
      this.events.after(run.settings.interruptGrace, () => {
        this.pump.abandon(epoch)
        this.over(epoch)
      })
    }
    // a partition less: the others' share of the held limits is larger
    for (const other of run.epochs.values()) if (other.full) this.held.check(other)
    this.events.settled()
    epoch.tell(false)
  }

  /** Its last fiber has ended, or is left behind. */
  over(epoch: PartitionEpoch): void {
    if (this.run.ending.delete(epoch)) this.events.settled()
  }

  private loses(epoch: PartitionEpoch): void {
    const { standstill, suspects } = this.run
    // who has ended since the last look may be the one
    this.pump.turn.look()
    if (standstill.happened) suspects.add(standstill.during(epoch))
    this.transition(epoch, "lost")
  }

  private lost(signal: Lost): void {
    let inFlight = 0
    for (const p of signal.partitions) {
      const epoch = this.run.find(p)
      this.givenUp.delete(p.epoch)
      if (epoch === undefined) this.run.row("partition", "P28", p)
      else {
        inFlight += epoch.inFlight
        this.loses(epoch)
      }
    }
    this.run.counters.rebalanced({
      at: this.run.now(),
      kind: "lost",
      partitions: signal.partitions.length,
      millis: 0,
      inFlight
    })
  }

  /** The client says so, or the broker that refuses a commit. */
  isGone(signal: Gone): void {
    const epoch = this.run.find(signal)
    this.givenUp.delete(signal.epoch)
    if (epoch === undefined) return this.run.row("partition", "P28", signal)
    this.gone.add(signal)
    this.events.logError(
      signal.why === "deleted"
        ? `${signal.topic}/${signal.partition} is not there any more; what was not committed of it is lost`
        : `${signal.topic} was deleted and created again; ${signal.topic}/${signal.partition} begins anew`
    )
    this.givenUp.add(epoch.epoch)
    this.transition(epoch, "gone")
  }

  private outOfRange(p: EpochPartition, range: Pick<OutOfRange, "position" | "start" | "end">): void {
    const { run } = this
    const epoch = run.find(p)
    if (epoch === undefined) {
      run.row("partition", "P28", p)
      return
    }
    const below = range.position < range.start
    const step = run.partition(epoch, below ? "belowStart" : "beyondEnd")
    if (step === undefined) return
    if (step.row === "P30") epoch.keptRange = { position: range.position, start: range.start, end: range.end }
    else if (below) this.cutBelow(epoch, range)
    else this.reset(epoch)
  }

  /** Retention has deleted what was not read yet. The client goes on at the log's start by itself. */
  private cutBelow(epoch: PartitionEpoch, range: Pick<OutOfRange, "position" | "start" | "end">): void {
    const { counters } = this.run
    const missing = range.start - range.position
    counters.lostToRetention += missing
    counters.lostToRetentionAt = { at: this.run.now(), where: { topic: epoch.topic, partition: epoch.partition } }
    this.events.logError(
      `${missing} offsets of ${epoch.topic}/${epoch.partition} were deleted by retention before they were read (from ${range.position}, the log now begins at ${range.start})`
    )
    // above the log's start the map is as good as it was
    if (epoch.map.found !== undefined) this.believe(epoch, range.end, undefined)
    if (epoch.tracker.chunkEnds(range.start)) this.pump.advanced(epoch, 0)
  }

  /** The log ends below our position: it is not the log that we read. */
  private reset(epoch: PartitionEpoch): void {
    const { onOutOfRange } = this.run.settings
    this.events.logError(
      `the position of ${epoch.topic}/${epoch.partition} lies behind the end of its log (truncated, or deleted and created again); onOutOfRange is "${onOutOfRange}"`
    )
    this.ended(epoch)
    if (onOutOfRange === "fail") return this.noStart(epoch, "outOfRange")
    this.openings.reopen(epoch, (log) => (onOutOfRange === "latest" ? log.end : log.start))
  }

  private noStart(p: EpochPartition, why: "outOfRange"): void {
    this.events.fail(new ConsumerError({ reason: { _tag: "NoStart", topic: p.topic, partition: p.partition, why } }))
  }

  /** Moves an open partition; `undefined` when it is not ours to move now. */
  seek(epoch: PartitionEpoch, to: bigint | "start" | "end"): PartitionEpoch | undefined {
    if (this.run.partition(epoch, "seek")?.to !== "ended") return undefined
    this.ended(epoch)
    return this.openings.reopen(
      epoch,
      (log) => (to === "start" ? log.start : log.end),
      typeof to === "bigint" ? to : undefined
    )
  }

  private connection(signal: Connection): void {
    const error = Option.getOrUndefined(signal.cause)
    // the client has seen the topics again; their partitions may be other members' now
    if (this.trouble?.error?.reason === "TopicMissing" && error?.reason !== "TopicMissing") this.gone.clear()
    this.trouble = signal.state === "up" ? undefined : { since: this.trouble?.since ?? this.run.now(), error }
  }
}
