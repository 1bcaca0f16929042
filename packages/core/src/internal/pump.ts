/**
 * Starts handlers and settles what became of them. The only place that forks records, and together with `failures.ts` the only one
 * that changes a record's state after intake.
 *
 * One attempt: take the next record of the partition in turn, one permit, fork the handler in the partition's epoch -> its exit ->
 * close its Scope -> done, or what `failures.ts` decides.
 *
 * Invariants, with their tests:
 * - no more fibers than permits, zombies included (I5: test/permits.test.ts);
 * - a lane never has two holders, over epochs too (I4: test/ordering.test.ts);
 * - an interrupted record is never done (I7: test/interruption.test.ts);
 * - what is held falls to zero when every record has ended (test/backpressure.test.ts and the simulator).
 *
 * Everything here is synchronous, and yields to the event loop after each turn (`turn.ts`).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { BatchCommitter } from "../BatchCommitter.ts"
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { FailurePolicy } from "../FailurePolicy.ts"
import { type Handler, HandlerTimeout } from "../Handler.ts"
import { KafkaProducer } from "../KafkaProducer.ts"
import type { Outcome } from "../Snapshot.ts"
import type { Traces } from "../Traces.ts"
import { AttemptSpans } from "./attemptSpans.ts"
import type { Backpressure } from "./backpressure.ts"
import { type AnyFiber, Pause, type PartitionEpoch, sizeOf } from "./epoch.ts"
import { Failures, newPast } from "./failures.ts"
import type { Lane } from "./lanes.ts"
import { RecordEvent, RecordState } from "./recordMachine.ts"
import { Slot } from "./slot.ts"
import { tracerFails } from "./spans.ts"
import { keyOf, type RunState } from "./state.ts"
import type { Begins } from "./suspects.ts"
import type { Sweeper } from "./sweeper.ts"
import type { Timetable } from "./timetable.ts"
import { Turn } from "./turn.ts"

/** What the pump tells the rest of the run. */
export interface PumpEvents {
  /** a fiber has ended, or was left behind, in an epoch in which nothing starts any more */
  readonly fewer: (epoch: PartitionEpoch) => void
  /** the policy, or the want of one, says stop */
  readonly stop: (slot: Slot, cause: Cause.Cause<unknown>) => void
  readonly skipped: (slot: Slot, cause: Cause.Cause<unknown>) => void
  readonly warn: (slot: Slot, message: string) => void
  /** a zombie has ended: its permit and its lane are free, maybe for another run than this one */
  readonly freed: (slot: Slot) => void
  /** its fiber ignores the interruption */
  readonly leftBehind: (slot: Slot) => void
  /** something of ours threw */
  readonly defect: (cause: unknown) => void
}

/**
 * So many of one partition before the next one has its turn, where more than so many partitions want to start something and permits are there
 * (test in test/rotation.test.ts): with a thousand partitions a record cost 2.4 times as much as with one, and 1.5 times with this.
 */
const mostInRow = 16
const manyPartitions = 32

export class Pump {
  private readonly run: RunState
  private readonly held: Backpressure
  private readonly committer: BatchCommitter["Service"]
  private readonly handler: Handler<unknown, never>
  private readonly sweeper: Sweeper
  private readonly failures: Failures
  /** undefined while traces are off */
  private readonly spans: AttemptSpans | undefined
  readonly turn: Turn
  private readonly events: PumpEvents
  private readonly context: Context.Context<never>
  private readonly fork: (
    effect: Effect.Effect<unknown, unknown>,
    options?: Effect.RunOptions
  ) => Fiber.Fiber<unknown, unknown>

  private rotation: Array<PartitionEpoch | undefined> = []
  private head = 0
  /** starts of the first of the rotation, one after another */
  private inRow = 0
  private pumping = false
  private stopped = false
  /** since when permits have been free while records waited for their lanes */
  laneBoundSince: number | undefined = undefined

  constructor(options: {
    readonly run: RunState
    readonly held: Backpressure
    readonly committer: BatchCommitter["Service"]
    readonly handler: Handler<unknown, never>
    readonly policy: FailurePolicy<unknown, never> | undefined
    readonly sweeper: Sweeper
    readonly timetable: Timetable
    readonly random: () => number
    readonly traces: Traces | undefined
    readonly context: Context.Context<never>
    readonly events: PumpEvents
  }) {
    this.run = options.run
    this.held = options.held
    this.committer = options.committer
    this.handler = options.handler
    this.sweeper = options.sweeper
    this.turn = new Turn(options.run)
    // as a root: each record adds its Scope to it, and on a chain of eight additions that copies the whole of it
    this.context = Context.makeUnsafe(options.context.mapUnsafe)
    this.events = options.events
    this.fork = Effect.runForkWith(options.context)
    this.spans =
      options.traces === undefined
        ? undefined
        : new AttemptSpans(options.traces, options.run.settings.revealRecords, options.context, (cause) =>
            options.run.warnOnce("tracer", () => tracerFails(cause))
          )
    this.failures = new Failures({
      run: options.run,
      policy: options.policy,
      producer: Context.getOrUndefined(options.context, KafkaProducer),
      timetable: options.timetable,
      random: options.random,
      hooks: {
        fork: (effect) => this.fork(effect),
        runs: (slot, fiber, then) => this.runs(slot, fiber, then),
        observe: (fiber, then) => this.observe(fiber, then),
        judge: (slot, exit) => this.judge(slot, exit),
        done: (slot, event, outcome) => this.done(slot, event, outcome),
        release: (slot) => {
          this.released(slot)
          this.letGo(slot)
        },
        rest: (slot) => this.rest(slot),
        decided: (slot, outcome, cause) => this.spans!.end(slot, outcome, Exit.failCause(cause)),
        offer: (epoch) => this.offer(epoch),
        stop: (slot, cause) => this.events.stop(slot, cause),
        skipped: (slot, cause) => this.events.skipped(slot, cause),
        warn: (slot, message) => this.events.warn(slot, message)
      }
    })
  }

  /** The partition may have something to start now. */
  offer(epoch: PartitionEpoch): void {
    if (epoch.parked.size > 0) this.failures.parking.check(epoch)
    if (epoch.queued || !epoch.runnable) return
    epoch.queued = true
    this.rotation.push(epoch)
  }

  /** A zombie has ended, maybe one of an earlier run. */
  freed(p: TopicPartition): void {
    const epoch = this.run.epochs.get(keyOf(p))
    if (epoch !== undefined) this.offer(epoch)
    this.pump()
  }

  /** Starts what can be started. */
  pump(): void {
    if (this.pumping || this.stopped) return
    this.pumping = true
    try {
      this.turn.enters()
      while (!this.stopped) {
        const epoch = this.next()
        if (epoch === undefined) {
          this.run.permits.rest()
          this.nothingLeft()
          break
        }
        if (!this.run.permits.acquire()) {
          this.laneBoundSince = undefined
          this.endRow(epoch)
          break
        }
        if (this.turn.isOver()) {
          this.run.permits.release()
          this.goOnLater()
          return
        }
        // where many want to start, some of one partition after another: its memory is at hand then
        const goesOn = ++this.inRow < mostInRow && this.rotation.length - this.head > manyPartitions
        // out of the rotation before it starts: a synchronous handler offers it again
        if (!goesOn) this.takeOut(epoch)
        if (this.take(epoch)) {
          this.start(epoch)
          if (!goesOn) this.offer(epoch)
        } else {
          this.run.permits.release()
          if (goesOn) this.takeOut(epoch)
        }
      }
    } catch (defect) {
      this.events.defect(defect)
    }
    this.pumping = false
  }

  /**
   * Starts nothing before all of this is done. A signal that takes several partitions away ends one epoch after the other: an
   * interrupted handler of the first would else make room for a record of the next, which is as lost as the first.
   */
  afterwards(then: () => void): void {
    const { pumping } = this
    this.pumping = true
    try {
      then()
    } finally {
      this.pumping = pumping
    }
    this.pump()
  }

  /** Nothing starts any more. */
  stop(): void {
    this.stopped = true
    this.turn.forget()
    this.laneBoundSince = undefined
  }

  /** The epoch is over: interrupts what runs, and gives up the dead letters that are on their way. */
  interrupt(epoch: PartitionEpoch): void {
    // interruption may end a fiber at once, and changes `live` under us
    for (const slot of epoch.live.slice()) {
      if (slot.state === RecordState.running || slot.state === RecordState.stopping) {
        if (slot.cut !== "epoch") {
          this.run.record(slot, RecordEvent.interrupt)
          if (slot.cut === "none") this.run.counters.interrupted++
          slot.cut = "epoch"
        }
      }
      slot.fiber?.interruptUnsafe()
    }
    this.failures.abandon(epoch)
  }

  /** `interruptGrace` is over: what still runs is left behind. */
  abandon(epoch: PartitionEpoch): void {
    for (const slot of epoch.live.slice()) this.leaveBehind(slot)
  }

  /** Gives up what waits to be started, or started again, and what is parked. */
  drop(epoch: PartitionEpoch): void {
    const { counters } = this.run
    epoch.backlog.drop(
      (record) => {
        this.run.row("record", "R17", epoch)
        counters.released++
        this.held.remove(epoch, sizeOf(record))
      },
      (lane) => this.freeLane(epoch, lane)
    )
    this.failures.drop(epoch)
  }

  /** Handlers that wait give back one permit after another: each is for the partition whose turn it is. */
  private endRow(epoch: PartitionEpoch): void {
    if (this.inRow === 0) return
    this.takeOut(epoch)
    this.offer(epoch)
  }

  /** The first of the rotation waits no more in it. */
  private takeOut(epoch: PartitionEpoch): void {
    epoch.queued = false
    this.rotation[this.head++] = undefined
    this.inRow = 0
  }

  private next(): PartitionEpoch | undefined {
    while (this.head < this.rotation.length) {
      const epoch = this.rotation[this.head]!
      if (epoch.runnable) return epoch
      this.takeOut(epoch)
    }
    this.rotation = []
    this.head = 0
    return undefined
  }

  /** The next record of this partition into `taken`, if there is one that may start. */
  private take(epoch: PartitionEpoch): boolean {
    const { backlog, tracker } = epoch
    const uncommitted = tracker.base + this.run.settings.maxUncommitted
    const below = (epoch.pauses & Pause.map) === 0 ? uncommitted : Math.min(uncommitted, tracker.highestDone)
    const taken = backlog.take(below)
    if (backlog.behindParked > 0) this.failures.parking.check(epoch)
    if (taken === true) return true
    if (taken === "beyond" && below === uncommitted && (epoch.pauses & Pause.uncommitted) === 0) {
      this.held.pause(epoch, Pause.uncommitted)
      // it may be a parked record that all of it waits for
      this.failures.parking.check(epoch)
    }
    return false
  }

  /** Nothing can start. Is it for want of records, or do they wait for one another? */
  private nothingLeft(): void {
    const { permits, settings } = this.run
    if (settings.ordering !== "key" && settings.ordering !== "function") return
    const free = permits.limit === "unbounded" || permits.used < permits.limit
    if (!free || !this.recordsWaitInLanes()) this.laneBoundSince = undefined
    else this.laneBoundSince ??= this.turn.time
  }

  private recordsWaitInLanes(): boolean {
    for (const epoch of this.run.epochs.values()) {
      if (epoch.starts && epoch.backlog.lanes !== undefined && epoch.backlog.lanes.waiting > 0) return true
    }
    return false
  }

  /** `pumping` stays set: until the loop has turned completions only settle. */
  private goOnLater(): void {
    this.fork(
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => {
          this.turn.begins()
          this.pumping = false
          this.pump()
        })
      )
    )
    if (this.head > 1024) {
      this.rotation = this.rotation.slice(this.head)
      this.head = 0
    }
  }

  private start(epoch: PartitionEpoch): void {
    const { counters, session } = this.run
    const { at, before, lane, record, seq } = epoch.backlog.taken
    if (seq >= epoch.startedSeq) epoch.startedSeq = seq + 1
    const slot = new Slot(
      record,
      epoch,
      seq,
      before?.past,
      session.settings.groupId,
      session.generationUnsafe(),
      at,
      this.turn.time,
      this.ack
    )
    slot.ticks = this.turn.ticks
    if (before === undefined) counters.waitTime.add(this.turn.time - at, this.turn.time)
    else {
      slot.state = RecordState.waiting
      epoch.waiting.delete(before)
      before.lane = undefined
      counters.retries++
    }
    this.run.record(slot, RecordEvent.start)
    slot.holds = true
    slot.lane = lane
    counters.attempts++
    const scope = Scope.makeUnsafe()
    slot.scope = scope
    // before it runs: a handler that seeks its own partition ends its epoch here and now, and is interrupted with the others of it
    epoch.addLive(slot)
    const fiber = Effect.runForkWith(Context.add(this.context, Scope.Scope, scope))(this.attempt(slot))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.ended(slot, exit)
    this.runs(slot, fiber, (exit) => this.ended(slot, exit))
    if (slot.state === RecordState.stopping) {
      fiber.interruptUnsafe()
      return
    }
    const limit = this.handler.timeoutMillis(record.topic)
    if (limit !== undefined && !slot.waitsForTurn) this.sweeper.watch(slot, limit)
  }

  /** It is the turn of a record that may block the event loop. */
  private readonly turnComes = (slot: Slot): Begins => {
    const { state } = slot.at
    if (state === "ended") return "never"
    // also where it is paused: the record has been in flight since before, and to keep its permit meanwhile would hold up all others
    if (state !== "open") return "later"
    // the time of its handler begins, with the attempt when it did not have to wait
    slot.startedAt = this.run.now()
    slot.ticks = this.run.ticks()
    const limit = this.handler.timeoutMillis(slot.topic)
    if (slot.fiber !== undefined && limit !== undefined) this.sweeper.watch(slot, limit)
    return "now"
  }

  private attempt(slot: Slot): Effect.Effect<unknown, unknown, Scope.Scope> {
    const { defects } = slot.at.backlog
    if (defects !== undefined && defects.has(slot.seq)) return this.dead(slot, defects.get(slot.seq))
    const { suspects } = this.run
    if (!suspects.some) return this.handled(slot)
    // not before its turn comes, if it does: what blocks may be the handler's function, before it has given back an effect
    return suspects.guard(
      slot,
      Effect.suspend(() => this.handled(slot)),
      this.turnComes,
      (defect) => this.dead(slot, defect)
    )
  }

  /** The attempt of a record whose handler is not called. */
  private dead(slot: Slot, defect: unknown): Effect.Effect<unknown> {
    const dies = Effect.die(defect)
    return this.spans === undefined ? dies : this.spans.around(slot, () => dies)
  }

  private handled(slot: Slot): Effect.Effect<unknown, unknown, Scope.Scope> {
    return this.spans === undefined ? this.called(slot) : this.spans.around(slot, () => this.called(slot))
  }

  private called(slot: Slot): Effect.Effect<unknown, unknown, Scope.Scope> {
    const { wrap } = this.run.settings
    try {
      const effect = this.handler.handle(slot) as Effect.Effect<void, unknown, Scope.Scope>
      return wrap === undefined ? effect : wrap(effect, slot)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  /** The record waits for this fiber. */
  private runs(slot: Slot, fiber: AnyFiber, then: (exit: Exit.Exit<unknown, unknown>) => void): void {
    slot.fiber = fiber
    if (slot.index < 0 && slot.state !== RecordState.zombie) slot.at.addLive(slot)
    this.observe(fiber, then)
  }

  private observe(fiber: AnyFiber, then: (exit: Exit.Exit<unknown, unknown>) => void): void {
    fiber.addObserver((exit) => {
      try {
        then(exit)
        this.pump()
      } catch (defect) {
        this.events.defect(defect)
      }
    })
  }

  /** The handler has ended; its Scope is closed before its outcome counts. */
  private ended(slot: Slot, exit: Exit.Exit<unknown, unknown>): void {
    const scope = slot.scope!
    slot.scope = undefined
    if (!this.stopped) this.turn.ended(slot)
    const closing = Scope.closeUnsafe(scope, exit)
    if (closing === undefined) return this.judge(slot, exit)
    // the epoch may end meanwhile: what a handler has opened is closed all the same
    const fiber = this.fork(closing, { uninterruptible: true })
    const closed = fiber.pollUnsafe()
    if (closed !== undefined) return this.judge(slot, Exit.isSuccess(exit) ? closed : exit)
    this.runs(slot, fiber, (closed) => this.judge(slot, Exit.isSuccess(exit) ? closed : exit))
  }

  private judge(slot: Slot, exit: Exit.Exit<unknown, unknown>): void {
    switch (slot.state) {
      case RecordState.running:
        if (Exit.isSuccess(exit)) return this.done(slot, RecordEvent.succeeded, "handled")
        return this.failed(slot, exit.cause)
      case RecordState.stopping:
        if (Exit.isSuccess(exit)) {
          if (slot.at.state !== "ended") return this.done(slot, RecordEvent.succeeded, "handled")
          this.run.partition(slot.at, "outcome")
          this.run.counters.fenced++
        } else if (slot.cut === "timeout") return this.timedOut(slot)
        if (slot.trace !== undefined) this.spans!.release(slot, false)
        return this.interrupted(slot)
      case RecordState.zombie:
        this.run.record(slot, RecordEvent.ended)
        this.run.counters.fenced++
        this.run.zombies.delete(slot)
        if (slot.holds) this.run.permits.byZombies--
        this.letGo(slot)
        if (slot.succeeded) this.failures.zombieEnded(slot.past!)
        return this.events.freed(slot)
      default:
        // acknowledged before
        this.run.record(slot, RecordEvent.ended)
        if (slot.trace !== undefined) this.spans!.end(slot, "handled", exit)
        return this.letGo(slot)
    }
  }

  private failed(slot: Slot, cause: Cause.Cause<unknown>): void {
    const byOther = Cause.hasInterruptsOnly(cause)
    this.run.record(slot, byOther ? RecordEvent.interruptedByOther : RecordEvent.failed)
    this.run.counters.failedTime.add(this.timeNow(slot) - slot.startedAt)
    if (slot.trace !== undefined) this.spans!.failed(slot.trace)
    this.failures.failed(slot, cause)
  }

  private timedOut(slot: Slot): void {
    this.run.record(slot, RecordEvent.decide)
    this.run.counters.failedTime.add(this.run.now() - slot.startedAt)
    slot.cut = "none"
    if (slot.trace !== undefined) this.spans!.failed(slot.trace)
    this.failures.failed(slot, this.lateness(slot))
  }

  private lateness(slot: Slot): Cause.Cause<unknown> {
    return Cause.fail(new HandlerTimeout({ afterMillis: this.handler.timeoutMillis(slot.topic)! }))
  }

  private interrupted(slot: Slot): void {
    const epoch = slot.at
    if (epoch.state === "ended" || epoch.exact || epoch.closing) {
      this.run.record(slot, RecordEvent.endedEnding)
      this.released(slot)
    } else {
      // the tracker that it belongs to goes on, so nobody else would ever run it again
      this.run.record(slot, RecordEvent.endedLiving)
      epoch.backlog.putBack(slot)
    }
    this.letGo(slot)
  }

  private readonly ack = (slot: Slot): void => {
    if (slot.acked) return
    slot.acked = true
    const { state } = slot
    if (slot.at.state !== "ended" && (state === RecordState.running || state === RecordState.stopping)) {
      this.finish(slot, RecordEvent.acknowledged, "handled")
    } else if (state !== RecordState.done) {
      // too late: its epoch is over, or it was decided about
      if (slot.at.state === "ended") this.run.partition(slot.at, "outcome")
      this.run.counters.fenced++
    }
  }

  /** A synchronous handler took no time worth a look at the clock. */
  private timeNow(slot: Slot): number {
    return slot.fiber === undefined ? this.turn.time : this.run.now()
  }

  private done(slot: Slot, event: RecordEvent, outcome: Outcome): void {
    // that of an attempt that has failed has ended when it was decided what comes of it
    if (slot.trace !== undefined) this.spans!.end(slot, "handled", Exit.void)
    this.finish(slot, event, outcome)
    this.letGo(slot)
  }

  /** The outcome is final: the tracker, the counters, the committer. */
  private finish(slot: Slot, event: RecordEvent, outcome: Outcome): void {
    if (!this.run.record(slot, event)) return
    const epoch = slot.at
    const { counters } = this.run
    counters[outcome]++
    if (outcome === "handled") {
      const now = this.timeNow(slot)
      counters.handlerTime.add(now - slot.startedAt, now)
    }
    epoch.backlog.defects?.delete(slot.seq)
    this.held.remove(epoch, sizeOf(slot.record))
    if (epoch.state !== "open") this.run.partition(epoch, "outcome")
    this.moved(epoch, epoch.tracker.settle(slot.seq))
  }

  /** The done prefix of a partition grew by so many records, or its position moved (0), or so many are done behind a gap. */
  advanced(epoch: PartitionEpoch, records: number, behindGap = 0): void {
    if (epoch.tracker.behindGap > 0 || (epoch.pauses & Pause.map) !== 0) this.weigh(epoch)
    if (epoch.state === "suspended" || epoch.state === "ended") return
    if (epoch.commitState === "clean") this.run.commit(epoch, "moved")
    this.committer.advancedUnsafe(records, behindGap)
    if (
      (epoch.pauses & Pause.uncommitted) !== 0 &&
      epoch.startedSeq - epoch.tracker.base < this.run.settings.maxUncommitted
    ) {
      this.held.resume(epoch, Pause.uncommitted)
      this.offer(epoch)
    }
  }

  private moved(epoch: PartitionEpoch, records: number): void {
    if (records > 0) this.advanced(epoch, records)
    else if (this.run.mapped) this.advanced(epoch, 0, 1)
  }

  /** Where the offset map is almost all that the broker takes, nothing starts that would make it longer. */
  private weigh(epoch: PartitionEpoch): void {
    if (!this.run.mapped) return
    const wasFull = (epoch.pauses & Pause.map) !== 0
    const isFull = epoch.map.isFull(epoch, this.run.mapLimit, wasFull)
    if (isFull && !wasFull) this.held.pause(epoch, Pause.map)
    // what is parked keeps the map as long as it is, as long as it is parked
    if (isFull && epoch.parked.size > 0) this.failures.parking.check(epoch)
    if (isFull || !wasFull) return
    this.held.resume(epoch, Pause.map)
    this.offer(epoch)
  }

  private released(slot: Slot): void {
    this.run.counters.released++
    this.held.remove(slot.at, sizeOf(slot.record))
  }

  /** The fiber has ended, and the record is not over: its permit is free, its lane is not. */
  private rest(slot: Slot): void {
    const epoch = slot.at
    epoch.removeLive(slot)
    slot.fiber = undefined
    slot.since = this.run.now()
    if (slot.holds) {
      slot.holds = false
      this.run.permits.release()
    }
    this.offer(epoch)
    if (epoch.state !== "open") this.events.fewer(epoch)
  }

  /** The fiber has ended: its permit and its lane are free. */
  private letGo(slot: Slot): void {
    const epoch = slot.at
    epoch.removeLive(slot)
    slot.fiber = undefined
    if (slot.holds) {
      slot.holds = false
      this.run.permits.release()
    }
    const { lane } = slot
    if (lane !== undefined) {
      slot.lane = undefined
      this.freeLane(epoch, lane)
    }
    this.offer(epoch)
    if (epoch.state !== "open") this.events.fewer(epoch)
  }

  /**
   * One holder of a lane less. Who waits in it belongs to the epoch of now, which is none of this run where a zombie has outlived its
   * own: `freed` offers it there.
   */
  private freeLane(epoch: PartitionEpoch, lane: Lane): void {
    const lanes = epoch.backlog.lanes!
    const next = lanes.release(lane)
    if (next !== undefined) lanes.owner!.proceed(next, lane)
    else if (lane.holders > 0) return
    // its own record is offered by whoever lets go
    if (epoch.state !== "ended") return
    const owner = this.run.epochs.get(keyOf(epoch))
    if (owner !== undefined && owner !== epoch) this.offer(owner)
  }

  /**
   * The grace is over and the fiber runs on. Its epoch is over: nothing is left to decide. Or its time is over: the record is decided
   * about now, in a slot without permit. The fiber keeps permit and lane (I4, I5); the record keeps the lane too, because nothing of it
   * may pass the record, whatever comes first.
   */
  leaveBehind(slot: Slot): void {
    const epoch = slot.at
    const decide = slot.cut === "timeout" && slot.state === RecordState.stopping
    const held = slot.state !== RecordState.done
    if (!this.run.record(slot, RecordEvent.graceOver)) return
    epoch.removeLive(slot)
    this.fork(this.run.suspects.giveBack(slot))
    if (slot.holds) this.run.permits.byZombies++
    this.run.zombies.add(slot)
    this.events.leftBehind(slot)
    if (!decide && slot.trace !== undefined) this.spans!.release(slot, !held)
    if (decide) {
      const past = (slot.past ??= newPast(this.run.now(), this.lateness(slot)))
      past.zombies++
      slot.succeeded = true
      const heir = new Slot(
        slot.record,
        epoch,
        slot.seq,
        past,
        slot.groupId,
        slot.generation,
        slot.receivedAt,
        slot.startedAt,
        this.ack
      )
      heir.ticks = slot.ticks
      heir.state = RecordState.stopping
      heir.cut = "timeout"
      heir.trace = slot.trace
      slot.trace = undefined
      heir.lane = slot.lane
      if (heir.lane !== undefined) heir.lane.holders++
      this.timedOut(heir)
    } else if (held) this.released(slot)
    if (epoch.state !== "open") this.events.fewer(epoch)
  }
}
