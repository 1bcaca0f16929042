/**
 * Taking partitions away in an orderly way: at a revoke, and when the consumer closes.
 *
 * Outline of a drain, over the partitions of one revoke, or of the close:
 * 1. hold: nothing of them starts any more; under an exact revoke or a close what is buffered, waits for a retry or is parked is
 *    given up, under an eager one it is kept, because the partition may be retained;
 * 2. wait until nothing of them runs and no dead letter is on its way, at most until the drain clock, and not for records that had
 *    already run longer than `revokeDrain` when the revoke came: all partitions are listed under an eager protocol, and one hung
 *    record would cost each rebalance the whole of it;
 * 3. exact or closing: interrupt what still runs, give up dead letters that the broker does not have, and wait `interruptGrace`; who
 *    still runs then is a zombie. Eager: interrupt nothing, handlers go on over the rejoin;
 * 4. flush exactly these partitions, at most `flushReserve`. The fence comes after the drain, not before it. A close that meets the group
 *    between two generations waits for the next one, as long as the close may take;
 * 5. exact or closing: the epochs end. Eager: they are suspended until the next assignment says whose they are;
 * 6. answer the client. An answer is given in every path: also when an epoch ends for another reason meanwhile.
 *
 * Closing joins drains that are under way: their clocks become the earlier of both. All clocks here are the one that only rises: the
 * time of day may be set while something is waited for.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { BatchCommitter } from "../BatchCommitter.ts"
import type { Revoking } from "../ConsumerSession.ts"
import type { Backpressure } from "./backpressure.ts"
import { Pause, type PartitionEpoch } from "./epoch.ts"
import type { PartitionEvent } from "./partitionMachine.ts"
import type { Pump } from "./pump.ts"
import { bounded } from "./shutdown.ts"
import type { Slot } from "./slot.ts"
import type { RunState } from "./state.ts"

/** between two tries of a flush that the broker puts off */
const flushRetryMillis = 50

interface Drain {
  readonly epochs: Set<PartitionEpoch>
  /** records that are not waited for */
  readonly longRunning: ReadonlySet<Slot>
  exact: boolean
  closing: boolean
  /** the client cannot wait: no grace either */
  readonly hurried: boolean
  deadline: number
  phase: "waiting" | "interrupting" | "flushing" | "over"
}

interface Reply {
  readonly epochs: Set<PartitionEpoch>
  readonly at: number
  readonly partitions: number
  readonly inFlight: number
  readonly acknowledge: () => void
}

export interface RebalanceEvents {
  /** the epoch has a step to `ended` behind it */
  readonly ended: (epoch: PartitionEpoch) => void
  readonly fork: (effect: Effect.Effect<unknown>) => void
  readonly after: (millis: number, then: () => void) => void
  readonly guarded: (then: () => void) => void
}

export class Rebalance {
  private readonly run: RunState
  private readonly held: Backpressure
  private readonly pump: Pump
  private readonly committer: BatchCommitter["Service"]
  private readonly events: RebalanceEvents
  private readonly drains = new Set<Drain>()
  private readonly replies = new Set<Reply>()
  /** of the close, once there is one: its drain clock, and when its flushes begin at the latest */
  private closeDeadline = Number.POSITIVE_INFINITY
  private flushBy = Number.POSITIVE_INFINITY

  constructor(
    run: RunState,
    held: Backpressure,
    pump: Pump,
    committer: BatchCommitter["Service"],
    events: RebalanceEvents
  ) {
    this.run = run
    this.held = held
    this.pump = pump
    this.committer = committer
    this.events = events
  }

  revoking(signal: Revoking): void {
    const { run } = this
    const { flushReserve, interruptGrace, revokeDrain } = run.settings
    const now = run.ticks()
    const clock = now + Math.max(0, Math.min(revokeDrain, signal.hold - interruptGrace - flushReserve))
    const waiting = new Set<PartitionEpoch>()
    const fresh: Array<PartitionEpoch> = []
    const endedHere: Array<PartitionEpoch> = []
    let inFlight = 0
    for (const p of signal.partitions) {
      const epoch = run.find(p)
      if (epoch === undefined) {
        run.row("partition", "P29", p)
        continue
      }
      inFlight += epoch.inFlight
      const before = epoch.state
      const step = run.partition(epoch, signal.exact ? "revokeExact" : "revokeEager")
      if (step === undefined) continue
      epoch.leavingSince ??= run.now()
      if (step.to === "ended") endedHere.push(epoch)
      else if (before === "open") {
        epoch.exact = signal.exact
        fresh.push(epoch)
        waiting.add(epoch)
      } else if (epoch.closing && before !== "suspended") {
        const drain = epoch.drain as Drain | undefined
        if (drain !== undefined) this.bringForward(drain, clock)
        waiting.add(epoch)
      }
      // else: the client's hold is over, or nothing can be done: answered at once
    }
    const reply: Reply = {
      epochs: waiting,
      at: now,
      partitions: signal.partitions.length,
      inFlight,
      acknowledge: signal.acknowledgeUnsafe
    }
    this.replies.add(reply)
    if (fresh.length > 0) {
      const longRunning = new Set<Slot>()
      for (const epoch of fresh)
        for (const slot of epoch.live) if (now - slot.ticks > revokeDrain) longRunning.add(slot)
      this.begin(fresh, {
        exact: signal.exact,
        closing: false,
        deadline: clock,
        longRunning,
        hurried: signal.hold <= 0
      })
    }
    for (const epoch of endedHere) this.events.ended(epoch)
    this.answer(reply)
  }

  /** The consumer closes: nothing starts any more, what runs may finish until `drainUntil`; all is over at `endsAt`. In ticks. */
  close(drainUntil: number, endsAt: number): void {
    const { run } = this
    const event: PartitionEvent = run.settings.shutdown === "drain" ? "closeDrain" : "closeInterrupt"
    this.closeDeadline = drainUntil
    this.flushBy = endsAt - run.settings.flushReserve
    run.closing = true
    const fresh: Array<PartitionEpoch> = []
    for (const epoch of [...run.epochs.values()]) {
      const before = epoch.state
      const step = run.partition(epoch, event)
      if (step === undefined) continue
      epoch.closing = true
      if (step.to === "ended") this.events.ended(epoch)
      else if (before === "open") fresh.push(epoch)
      else if (before === "suspended") this.awaitOwner(epoch)
    }
    if (fresh.length > 0) this.drainForClose(fresh)
    for (const drain of [...this.drains]) {
      if (drain.closing) continue
      drain.closing = true
      this.bringForward(drain, drainUntil)
      this.check(drain)
    }
  }

  /** A suspended epoch came back while the consumer closes. */
  drainForClose(epochs: ReadonlyArray<PartitionEpoch>): void {
    this.begin(epochs, {
      exact: false,
      closing: true,
      deadline: this.closeDeadline,
      longRunning: new Set(),
      hurried: false
    })
  }

  /** One fiber of the epoch less: the last one, or the last one that is waited for. */
  fewer(epoch: PartitionEpoch): void {
    const drain = epoch.drain as Drain | undefined
    if (drain === undefined) return
    if (epoch.inFlight === 0 || drain.longRunning.size > 0 || this.run.suspects.some) this.check(drain)
  }

  /** The epoch left its drain: it ended, or came back retained. */
  left(epoch: PartitionEpoch): void {
    const drain = epoch.drain as Drain | undefined
    epoch.drain = undefined
    if (drain !== undefined) {
      drain.epochs.delete(epoch)
      if (drain.epochs.size === 0) this.over(drain)
      else this.check(drain)
    }
    for (const reply of [...this.replies]) this.answer(reply)
  }

  /** Nothing more will happen: whoever still waits is answered. */
  abandon(): void {
    for (const reply of [...this.replies]) {
      reply.epochs.clear()
      this.answer(reply)
    }
  }

  private begin(
    epochs: ReadonlyArray<PartitionEpoch>,
    options: Pick<Drain, "exact" | "closing" | "deadline" | "longRunning" | "hurried">
  ): void {
    const drain: Drain = { epochs: new Set(epochs), phase: "waiting", ...options }
    this.drains.add(drain)
    for (const epoch of epochs) {
      epoch.drain = drain
      this.held.pause(epoch, Pause.holding)
      if (drain.exact || drain.closing) this.pump.drop(epoch)
    }
    if (drain.deadline > this.run.ticks()) this.arm(drain)
    this.check(drain)
  }

  private arm(drain: Drain): void {
    const { deadline } = drain
    this.events.after(Math.max(0, deadline - this.run.ticks()), () => {
      if (drain.deadline !== deadline) return
      // Node's timers run from the beginning of a turn of the event loop: by the clock this one may come a moment early, and there
      // is no other one to come
      drain.deadline = Number.NEGATIVE_INFINITY
      this.check(drain)
    })
  }

  private bringForward(drain: Drain, deadline: number): void {
    if (deadline >= drain.deadline) return
    drain.deadline = deadline
    if (drain.phase === "waiting" && deadline > this.run.ticks()) this.arm(drain)
    this.check(drain)
  }

  private check(drain: Drain): void {
    if (drain.phase === "waiting") {
      let running = false
      let waitedFor = false
      for (const epoch of drain.epochs) {
        running ||= epoch.inFlight > 0
        waitedFor ||=
          epoch.sending.size > 0 ||
          // who waits for its turn does not get it before this is over
          epoch.live.some((slot) => !slot.waitsForTurn && (drain.closing || !drain.longRunning.has(slot)))
      }
      if (!running) this.flush(drain, "drained")
      else if (!waitedFor || drain.deadline <= this.run.ticks()) this.clock(drain)
    } else if (drain.phase === "interrupting") {
      for (const epoch of drain.epochs) if (epoch.inFlight > 0) return
      this.flush(drain, "drainClock")
    }
  }

  /** The drain clock. */
  private clock(drain: Drain): void {
    if (!drain.exact && !drain.closing) return this.flush(drain, "drainClock")
    drain.phase = "interrupting"
    for (const epoch of [...drain.epochs]) this.pump.interrupt(epoch)
    // interruption may have ended all of them
    if (drain.phase !== "interrupting") return
    if (drain.hurried) return this.flush(drain, "drainClock")
    this.check(drain)
    if (drain.phase !== "interrupting") return
    const { interruptGrace } = this.run.settings
    // a closing consumer may have got the partition back late: what is done goes before the grace of who ignores his interruption
    const grace = drain.closing ? Math.min(interruptGrace, this.flushBy - this.run.ticks()) : interruptGrace
    if (grace < 0) return this.flush(drain, "drainClock")
    this.events.after(grace, () => {
      if (drain.phase !== "interrupting") return
      for (const epoch of [...drain.epochs]) this.pump.abandon(epoch)
      if (drain.phase === "interrupting") this.check(drain)
    })
  }

  private flush(drain: Drain, event: "drained" | "drainClock"): void {
    drain.phase = "flushing"
    for (const epoch of drain.epochs) this.run.partition(epoch, event)
    this.events.fork(
      Effect.andThen(
        Effect.ignore(this.flushed(drain)),
        Effect.sync(() => this.events.guarded(() => this.end(drain)))
      )
    )
  }

  /**
   * Tries until each of these is committed, or can never be, or the flush clock has run out. Of a close that clock stands still while the
   * broker puts the commit off: a cooperative member goes on with records between its two rounds, and other members may drain for seconds
   * before the second one ends. Leaving before it would throw away all that was done since the first.
   */
  private flushed(drain: Drain): Effect.Effect<void, unknown> {
    const { run } = this
    const { flushReserve } = run.settings
    const epochs = [...drain.epochs]
    let until = run.ticks() + flushReserve
    const again: Effect.Effect<void, unknown> = Effect.suspend(() => {
      const living = epochs.filter((epoch) => epoch.state !== "ended")
      const left = until - run.ticks()
      if (living.length === 0 || left <= 0) return Effect.void
      return Effect.flatMap(bounded(this.committer.flush(living), left), (answer) => {
        if (Option.isNone(answer)) return Effect.void
        const ours = answer.value.filter((o) => living.some((e) => e.epoch === o.epoch))
        const deferred = ours.some((o) => o.outcome === "deferred")
        if (!deferred && !ours.some((o) => o.outcome === "retriable")) return Effect.void
        if (deferred && drain.closing) until = Math.max(until, Math.min(run.ticks(), this.flushBy) + flushReserve)
        return Effect.andThen(Effect.sleep(Math.max(0, Math.min(flushRetryMillis, until - run.ticks()))), again)
      })
    })
    return again
  }

  /** The flush is answered, or its clock has run out. */
  private end(drain: Drain): void {
    if (drain.phase === "over") return
    drain.phase = "over"
    this.drains.delete(drain)
    for (const epoch of [...drain.epochs]) {
      drain.epochs.delete(epoch)
      epoch.drain = undefined
      if (epoch.state !== "flushing") continue
      const step = this.run.partition(epoch, "flushed")
      if (step?.to === "ended") this.events.ended(epoch)
      else {
        for (const slot of epoch.live) this.run.suspended(slot)
        for (const slot of epoch.waiting) this.run.suspended(slot)
        for (const slot of epoch.sending) this.run.suspended(slot)
      }
    }
    for (const reply of [...this.replies]) this.answer(reply)
  }

  private over(drain: Drain): void {
    drain.phase = "over"
    this.drains.delete(drain)
  }

  /** Between two generations nothing can be committed: leaving now would throw away what finished since the flush. */
  private awaitOwner(epoch: PartitionEpoch): void {
    const { flushReserve, interruptGrace } = this.run.settings
    const until = Math.max(this.closeDeadline, this.run.ticks()) + interruptGrace + flushReserve
    this.events.after(until - this.run.ticks(), () => {
      if (epoch.state !== "suspended") return
      this.run.partition(epoch, "suspendClock")
      this.events.ended(epoch)
    })
  }

  private answer(reply: Reply): void {
    for (const epoch of reply.epochs) {
      if (epoch.state !== "ended" && epoch.state !== "suspended" && epoch.drain !== undefined) return
    }
    if (!this.replies.delete(reply)) return
    this.run.counters.rebalanced({
      at: this.run.now(),
      kind: "revoked",
      partitions: reply.partitions,
      millis: this.run.ticks() - reply.at,
      inFlight: reply.inFlight
    })
    // a client that throws here keeps neither the epochs from ending nor the others from their answer
    this.events.guarded(reply.acknowledge)
  }
}
