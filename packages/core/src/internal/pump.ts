/**
 * Starts handlers and settles what became of them. The only place that forks records, and the only one that changes a record's
 * state after intake.
 *
 * One attempt: take the next record of the partition in turn, one permit, fork the handler in the partition's epoch -> its exit ->
 * close its Scope -> ask the policy where it failed -> settle: done, released, or stop.
 *
 * Invariants, with their tests:
 * - no more fibers than permits, zombies included (I5: test/permits.test.ts);
 * - a lane never has two holders, over epochs too (I4: test/ordering.test.ts);
 * - an interrupted record is never done (I7: test/interruption.test.ts);
 * - what is held falls to zero when every record has ended (test/backpressure.test.ts and the simulator).
 *
 * Everything here is synchronous. It yields to the event loop after 100 starts or 2 ms, counted over all calls: each completion is
 * a microtask that starts the next record, and handlers whose promises are already resolved would starve timers, heartbeats
 * and signals for ever.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { BatchCommitter } from "../BatchCommitter.ts"
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { Decision, Failure, FailurePolicy } from "../FailurePolicy.ts"
import { type Handler, HandlerTimeout } from "../Handler.ts"
import type { Outcome } from "../Snapshot.ts"
import type { Backpressure } from "./backpressure.ts"
import { type AnyFiber, Pause, type PartitionEpoch, sizeOf } from "./epoch.ts"
import { RecordEvent, RecordState } from "./recordMachine.ts"
import { Slot } from "./slot.ts"
import { keyOf, type RunState } from "./state.ts"
import type { Sweeper } from "./sweeper.ts"

const startsPerTurn = 100
const millisPerTurn = 2

/** What the pump tells the rest of the run. */
export interface PumpEvents {
  /** a fiber has ended, or was left behind, in an epoch in which nothing starts any more */
  readonly fewer: (epoch: PartitionEpoch) => void
  /** the policy, or the want of one, says stop */
  readonly stop: (slot: Slot, cause: Cause.Cause<unknown>) => void
  readonly skipped: (slot: Slot, cause: Cause.Cause<unknown>) => void
  /** a zombie has ended: its permit and its lane are free, maybe for another run than this one */
  readonly freed: (slot: Slot) => void
  /** its fiber ignores the interruption */
  readonly leftBehind: (slot: Slot) => void
  /** something of ours threw */
  readonly defect: (cause: unknown) => void
}

export class Pump {
  private readonly run: RunState
  private readonly held: Backpressure
  private readonly committer: BatchCommitter["Service"]
  private readonly handler: Handler<unknown, never>
  private readonly policy: FailurePolicy<unknown, never> | undefined
  private readonly sweeper: Sweeper
  private readonly events: PumpEvents
  private readonly context: Context.Context<never>
  private readonly fork: (
    effect: Effect.Effect<unknown, unknown>,
    options?: Effect.RunOptions
  ) => Fiber.Fiber<unknown, unknown>

  private rotation: Array<PartitionEpoch> = []
  private head = 0
  private pumping = false
  private stopped = false
  private startsThisTurn = 0
  private turnBegan = 0
  /** the clock as of this turn's last look */
  private time = 0

  constructor(options: {
    readonly run: RunState
    readonly held: Backpressure
    readonly committer: BatchCommitter["Service"]
    readonly handler: Handler<unknown, never>
    readonly policy: FailurePolicy<unknown, never> | undefined
    readonly sweeper: Sweeper
    readonly context: Context.Context<never>
    readonly events: PumpEvents
  }) {
    this.run = options.run
    this.held = options.held
    this.committer = options.committer
    this.handler = options.handler
    this.policy = options.policy
    this.sweeper = options.sweeper
    this.context = options.context
    this.events = options.events
    this.fork = Effect.runForkWith(options.context)
  }

  /** The partition may have something to start now. */
  offer(epoch: PartitionEpoch): void {
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
      this.time = this.run.now()
      while (!this.stopped) {
        const epoch = this.next()
        if (epoch === undefined || !this.run.permits.acquire()) {
          if (epoch === undefined) this.run.permits.rest()
          break
        }
        if (this.turnIsOver()) {
          this.run.permits.release()
          this.turn()
          return
        }
        // out of the rotation before it starts: a synchronous handler offers it again
        this.rotation[this.head++] = undefined as unknown as PartitionEpoch
        epoch.queued = false
        this.start(epoch)
        this.offer(epoch)
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
  }

  /** The epoch is over: interrupts what runs. */
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
  }

  /** `interruptGrace` is over: what still runs is left behind. */
  abandon(epoch: PartitionEpoch): void {
    for (const slot of epoch.live.slice()) this.leaveBehind(slot)
  }

  /** Gives up what waits to be started. */
  drop(epoch: PartitionEpoch): void {
    const { counters } = this.run
    epoch.drop((record) => {
      this.run.row("record", "R17", epoch)
      counters.released++
      this.held.remove(epoch, sizeOf(record))
    })
  }

  private next(): PartitionEpoch | undefined {
    while (this.head < this.rotation.length) {
      const epoch = this.rotation[this.head]!
      if (epoch.runnable && !this.beyondUncommitted(epoch)) return epoch
      epoch.queued = false
      this.rotation[this.head++] = undefined as unknown as PartitionEpoch
    }
    this.rotation = []
    this.head = 0
    return undefined
  }

  private beyondUncommitted(epoch: PartitionEpoch): boolean {
    if (epoch.nextSeq - epoch.tracker.base < this.run.settings.maxUncommitted) return false
    this.held.pause(epoch, Pause.uncommitted)
    return true
  }

  private turnIsOver(): boolean {
    const starts = ++this.startsThisTurn
    if (starts > startsPerTurn) return true
    if (starts === 1) {
      this.turnBegan = this.time
      return false
    }
    if ((starts & 7) !== 0) return false
    this.time = this.run.now()
    return this.time - this.turnBegan >= millisPerTurn
  }

  /** `pumping` stays set: until the loop has turned completions only settle. */
  private turn(): void {
    this.fork(
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => {
          this.startsThisTurn = 0
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
    epoch.take()
    const { at, record, seq } = epoch.taken
    if (seq >= epoch.startedSeq) epoch.startedSeq = seq + 1
    const slot = new Slot(
      record,
      epoch,
      seq,
      session.settings.groupId,
      session.generationUnsafe(),
      at,
      this.time,
      this.ack
    )
    this.run.record(slot, RecordEvent.start)
    slot.holds = true
    if (epoch.lane !== undefined) epoch.lane.holders++
    counters.attempts++
    counters.waitTime.add(this.time - at, this.time)
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
    if (limit !== undefined) this.sweeper.watch(slot, limit)
  }

  private attempt(slot: Slot): Effect.Effect<void, unknown, Scope.Scope> {
    const defects = slot.at.filterDefects
    if (defects !== undefined && defects.has(slot.seq)) {
      const defect = defects.get(slot.seq)
      defects.delete(slot.seq)
      return Effect.die(defect)
    }
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
        return this.interrupted(slot)
      case RecordState.zombie:
        this.run.record(slot, RecordEvent.ended)
        this.run.counters.fenced++
        this.run.zombies.delete(slot)
        slot.at.zombies--
        if (slot.holds) this.run.permits.byZombies--
        this.letGo(slot)
        return this.events.freed(slot)
      default:
        // acknowledged before
        this.run.record(slot, RecordEvent.ended)
        return this.letGo(slot)
    }
  }

  private failed(slot: Slot, cause: Cause.Cause<unknown>): void {
    const byOther = Cause.hasInterruptsOnly(cause)
    this.run.record(slot, byOther ? RecordEvent.interruptedByOther : RecordEvent.failed)
    const error = Cause.findErrorOption(cause)
    this.ask(slot, {
      cause,
      kind: byOther ? "interrupted" : Option.isSome(error) ? "error" : "defect",
      error: byOther ? Option.none() : error,
      attempt: slot.attempt,
      record: slot,
      firstFailedAt: this.run.now(),
      memory: new Map()
    })
  }

  private timedOut(slot: Slot): void {
    this.run.record(slot, RecordEvent.decide)
    slot.cut = "none"
    const error = new HandlerTimeout({ afterMillis: this.handler.timeoutMillis(slot.topic)! })
    this.ask(slot, {
      cause: Cause.fail(error),
      kind: "error",
      error: Option.some(error),
      attempt: slot.attempt,
      record: slot,
      firstFailedAt: this.run.now(),
      memory: new Map()
    })
  }

  private ask(slot: Slot, failure: Failure<unknown>): void {
    if (this.policy === undefined) return this.stops(slot, failure.cause)
    slot.deciding = true
    let decision: Effect.Effect<Decision>
    try {
      decision = this.policy.decide(failure)
    } catch (defect) {
      decision = Effect.die(defect)
    }
    const fiber = this.fork(decision) as Fiber.Fiber<Decision, never>
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.decided(slot, exit, failure.cause)
    this.runs(slot, fiber, (exit) => this.decided(slot, exit as Exit.Exit<Decision>, failure.cause))
  }

  private decided(slot: Slot, exit: Exit.Exit<Decision>, cause: Cause.Cause<unknown>): void {
    slot.deciding = false
    if (slot.state !== RecordState.running) return this.judge(slot, Exit.isSuccess(exit) ? Exit.failCause(cause) : exit)
    if (Exit.isFailure(exit)) return this.stops(slot, Cause.combine(cause, exit.cause))
    if (exit.value._tag !== "Skip") return this.stops(slot, cause)
    this.events.skipped(slot, cause)
    this.done(slot, RecordEvent.skip, "skipped")
  }

  private stops(slot: Slot, cause: Cause.Cause<unknown>): void {
    this.run.record(slot, RecordEvent.stop)
    this.released(slot)
    this.letGo(slot)
    this.events.stop(slot, cause)
  }

  private interrupted(slot: Slot): void {
    const epoch = slot.at
    if (epoch.state === "ended" || epoch.exact || epoch.closing) {
      this.run.record(slot, RecordEvent.endedEnding)
      this.released(slot)
    } else {
      // the tracker that it belongs to goes on, so nobody else would ever run it again
      this.run.record(slot, RecordEvent.endedLiving)
      epoch.putBack(slot.record, slot.seq, slot.receivedAt)
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

  private done(slot: Slot, event: RecordEvent, outcome: Outcome): void {
    this.finish(slot, event, outcome)
    this.letGo(slot)
  }

  /** The outcome is final: the tracker, the counters, the committer. */
  private finish(slot: Slot, event: RecordEvent, outcome: Outcome): void {
    if (!this.run.record(slot, event)) return
    const epoch = slot.at
    const { counters } = this.run
    counters[outcome]++
    // a synchronous handler took no time worth a look at the clock
    const now = slot.fiber === undefined ? this.time : this.run.now()
    counters.handlerTime.add(now - slot.startedAt, now)
    this.held.remove(epoch, sizeOf(slot.record))
    if (epoch.state !== "open") this.run.partition(epoch, "outcome")
    this.moved(epoch, epoch.tracker.settle(slot.seq))
  }

  /** The done prefix of a partition grew by so many records, or its position moved (0). */
  advanced(epoch: PartitionEpoch, records: number): void {
    if (epoch.state === "suspended" || epoch.state === "ended") return
    if (epoch.commitState === "clean") this.run.commit(epoch, "moved")
    this.committer.advancedUnsafe(records)
    if (
      (epoch.pauses & Pause.uncommitted) !== 0 &&
      epoch.nextSeq - epoch.tracker.base < this.run.settings.maxUncommitted
    ) {
      this.held.resume(epoch, Pause.uncommitted)
      this.offer(epoch)
    }
  }

  private moved(epoch: PartitionEpoch, records: number): void {
    if (records > 0) this.advanced(epoch, records)
  }

  private released(slot: Slot): void {
    this.run.counters.released++
    this.held.remove(slot.at, sizeOf(slot.record))
  }

  /** The fiber has ended: its permit and its lane are free. */
  private letGo(slot: Slot): void {
    const epoch = slot.at
    epoch.removeLive(slot)
    slot.fiber = undefined
    if (slot.holds) {
      slot.holds = false
      this.run.permits.release()
      if (epoch.lane !== undefined) {
        epoch.lane.holders--
        const owner = this.run.epochs.get(keyOf(epoch))
        if (owner !== undefined) this.offer(owner)
      }
    }
    this.offer(epoch)
    if (epoch.state !== "open") this.events.fewer(epoch)
  }

  /**
   * The grace is over and the fiber runs on. Its epoch is over: nothing is left to decide. Or its time is over: the record is decided
   * about now, in a slot without permit and lane, which stay with the fiber (I4, I5).
   */
  leaveBehind(slot: Slot): void {
    const epoch = slot.at
    const decide = slot.cut === "timeout" && slot.state === RecordState.stopping
    const held = slot.state !== RecordState.done
    if (!this.run.record(slot, RecordEvent.graceOver)) return
    epoch.removeLive(slot)
    epoch.zombies++
    if (slot.holds) this.run.permits.byZombies++
    this.run.zombies.add(slot)
    this.events.leftBehind(slot)
    if (decide) {
      const heir = new Slot(
        slot.record,
        epoch,
        slot.seq,
        slot.groupId,
        slot.generation,
        slot.receivedAt,
        slot.startedAt,
        this.ack
      )
      heir.state = RecordState.stopping
      heir.cut = "timeout"
      this.timedOut(heir)
    } else if (held) this.released(slot)
    if (epoch.state !== "open") this.events.fewer(epoch)
  }
}
