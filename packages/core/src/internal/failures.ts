/**
 * What becomes of a record whose attempt has failed.
 *
 * The handler has decided itself (a `Directive`), or the policy is asked; then the decision is carried out:
 * - retry: the record waits for its time without permit, fiber or timer of its own, and keeps its lane;
 * - skip: it is done;
 * - dead letter: it is sent without a permit, again and again while the broker may still take it, and is done when the broker has it;
 *   refused for good, the policy's next decision is taken; a producer that is closed or dies has refused nothing, and ends the consumer;
 * - park: it rests with its lane until the epoch ends or a limit is reached, and then the policy's next decision is taken (`parking.ts`);
 * - stop: the consumer ends.
 *
 * Invariants, with their tests in `test/retry.test.ts`, `test/deadLetters.test.ts` and `test/parking.test.ts`:
 * - a record that waits, is being sent or is parked has no permit (I5), keeps its lane (I4) and counts as held (I6);
 * - it is in exactly one of `waiting`, `sending` and `parked` of its epoch, and in none of them when the epoch is over;
 * - nothing is done before the broker has the dead letter (I3), and no record is done twice (I10).
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { DeadLetter } from "../DeadLetter.ts"
import { Directive } from "../Directive.ts"
import type { Decision, Failure, FailurePolicy } from "../FailurePolicy.ts"
import { InvalidOptions } from "../InvalidOptions.ts"
import { type Producer, PublishError } from "../KafkaProducer.ts"
import type { Outcome } from "../Snapshot.ts"
import type { AttemptOutcome } from "./attemptSpans.ts"
import { messageOf } from "./describe.ts"
import type { AnyFiber, PartitionEpoch } from "./epoch.ts"
import { finiteMillis } from "./options.ts"
import { Parking } from "./parking.ts"
import { readableHeaders } from "./recordHeaders.ts"
import { RecordEvent, recordEventNames, RecordState, recordStateNames, recordStep } from "./recordMachine.ts"
import type { Past, Slot } from "./slot.ts"
import type { RunState } from "./state.ts"
import type { Timetable } from "./timetable.ts"

/** between two tries to send a dead letter */
const firstResendMillis = 100
const longestResendMillis = 5_000

/** What the pump does for it. */
export interface FailureHooks {
  readonly fork: (effect: Effect.Effect<unknown, unknown>) => AnyFiber
  /** the slot waits for this fiber, which counts as its attempt's */
  readonly runs: (slot: Slot, fiber: AnyFiber, then: (exit: Exit.Exit<unknown, unknown>) => void) => void
  /** a fiber that is no attempt's */
  readonly observe: (fiber: AnyFiber, then: (exit: Exit.Exit<unknown, unknown>) => void) => void
  /** the epoch took the record away while the policy was being asked */
  readonly judge: (slot: Slot, exit: Exit.Exit<unknown, unknown>) => void
  readonly done: (slot: Slot, event: RecordEvent, outcome: Outcome) => void
  /** not done: what it held is given back, and it will be delivered again */
  readonly release: (slot: Slot) => void
  /** the attempt is over, and its record is not: the permit is free, the lane is not */
  readonly rest: (slot: Slot) => void
  /** what comes of an attempt that has a span */
  readonly decided: (slot: Slot, outcome: AttemptOutcome, cause: Cause.Cause<unknown>) => void
  readonly offer: (epoch: PartitionEpoch) => void
  /** the consumer is to end */
  readonly stop: (slot: Slot, cause: Cause.Cause<unknown>) => void
  readonly skipped: (slot: Slot, cause: Cause.Cause<unknown>) => void
  readonly warn: (slot: Slot, message: string) => void
}

export class Failures {
  private readonly run: RunState
  private readonly policy: FailurePolicy<unknown, never> | undefined
  private readonly producer: Producer | undefined
  private readonly timetable: Timetable
  private readonly random: () => number
  private readonly hooks: FailureHooks
  readonly parking: Parking

  constructor(options: {
    readonly run: RunState
    readonly policy: FailurePolicy<unknown, never> | undefined
    readonly producer: Producer | undefined
    readonly timetable: Timetable
    /** from 0 to 1 */
    readonly random: () => number
    readonly hooks: FailureHooks
  }) {
    this.run = options.run
    this.policy = options.policy
    this.producer = options.producer
    this.timetable = options.timetable
    this.random = options.random
    this.hooks = options.hooks
    this.parking = new Parking(options.run, options.timetable, {
      carryOut: (slot, decision) => this.carryOut(slot, decision),
      can: (slot, event) => this.can(slot, event),
      decided: (slot) => this.ends(slot, "park"),
      broken: (slot, defect) => this.broken(slot, defect),
      rest: options.hooks.rest
    })
  }

  /** The attempt has failed, died, or was interrupted by somebody else; the slot's state is `running`. */
  failed(slot: Slot, cause: Cause.Cause<unknown>): void {
    const byOther = Cause.hasInterruptsOnly(cause)
    const error = byOther ? Option.none<unknown>() : Cause.findErrorOption(cause)
    const past = this.remember(slot, cause)
    if (Option.isSome(error) && Directive.isDirective(error.value)) return this.directed(slot, error.value)
    this.ask(slot, {
      cause,
      kind: byOther ? "interrupted" : Option.isSome(error) ? "error" : "defect",
      error,
      attempt: slot.attempt,
      record: slot,
      firstFailedAt: past.firstFailedAt,
      memory: past.memory
    })
  }

  private remember(slot: Slot, cause: Cause.Cause<unknown>): Past {
    const now = this.run.now()
    const past = (slot.past ??= newPast(now, cause))
    past.attempts = slot.attempt
    past.lastFailedAt = now
    past.cause = cause
    return past
  }

  private directed(slot: Slot, directive: Directive.Any): void {
    switch (directive.kind) {
      case "Retry":
        return this.carryOut(slot, { _tag: "Retry", after: directive.after })
      case "Skip":
        return this.carryOut(slot, { _tag: "Skip" })
      case "DeadLetter":
        return this.carryOut(slot, { _tag: "DeadLetter", topic: directive.topic, reason: directive.reason })
    }
  }

  private ask(slot: Slot, failure: Failure<unknown>): void {
    if (this.policy === undefined) return this.stop(slot, failure.cause)
    slot.deciding = true
    let decision: Effect.Effect<Decision>
    try {
      decision = this.policy.decide(failure)
    } catch (defect) {
      decision = Effect.die(defect)
    }
    const fiber = this.hooks.fork(decision) as Fiber.Fiber<Decision, never>
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.decided(slot, exit)
    this.hooks.runs(slot, fiber, (exit) => this.decided(slot, exit as Exit.Exit<Decision>))
  }

  private decided(slot: Slot, exit: Exit.Exit<Decision>): void {
    slot.deciding = false
    const { cause } = slot.past!
    if (slot.state !== RecordState.running)
      return this.hooks.judge(slot, Exit.isSuccess(exit) ? Exit.failCause(cause) : exit)
    if (Exit.isFailure(exit)) return this.stop(slot, both("the failure policy has died", exit.cause, cause))
    this.carryOut(slot, exit.value)
  }

  private carryOut(slot: Slot, decision: Decision): void {
    const { cause } = slot.past!
    // a policy that is not typed may say anything
    switch (decision?._tag) {
      case "Retry":
        return this.retry(slot, decision.after)
      case "DeadLetter":
        return this.send(slot, decision)
      case "Park":
        return this.parking.park(slot, decision)
      case "Skip":
        this.ends(slot, "skip")
        this.hooks.skipped(slot, cause)
        return this.hooks.done(slot, RecordEvent.skip, "skipped")
      case "Stop":
        return this.stop(slot, cause)
      default:
        return this.broken(
          slot,
          new InvalidOptions({
            option: "Decision",
            value: decision,
            accepted: "Retry, Skip, DeadLetter, Park or Stop, by its _tag"
          })
        )
    }
  }

  /** Takes the step, which only a decision that comes after another can be without: a policy that is not typed may nest anything. */
  private can(slot: Slot, event: RecordEvent): boolean {
    if (recordStep(slot.state, event) !== undefined) return this.run.record(slot, event)
    this.broken(
      slot,
      new InvalidOptions({
        option: "Decision.then",
        value: recordEventNames[event],
        accepted: `what can follow for a record that is ${recordStateNames[slot.state]}`
      })
    )
    return false
  }

  /** What comes of an attempt, once it is being done: its span, where it has one, ends with it. */
  private ends(slot: Slot, outcome: AttemptOutcome): void {
    if (slot.trace !== undefined) this.hooks.decided(slot, outcome, slot.past!.cause)
  }

  /** A policy has answered with what cannot be carried out. */
  private broken(slot: Slot, defect: unknown): void {
    this.stop(slot, both("what the failure policy says cannot be done", Cause.die(defect), slot.past!.cause))
  }

  private stop(slot: Slot, cause: Cause.Cause<unknown>): void {
    this.run.record(slot, RecordEvent.stop)
    this.hooks.release(slot)
    this.hooks.stop(slot, cause)
    this.ends(slot, "stop")
  }

  // ------------------------------------------------------------------ retry

  private retry(slot: Slot, after: Duration.Input): void {
    const epoch = slot.at
    const millis = finiteMillis(after)
    if (millis === undefined || millis < 0) {
      return this.broken(
        slot,
        new InvalidOptions({ option: "Retry.after", value: after, accepted: "a finite duration" })
      )
    }
    // it could not be run again before the partition is gone
    if (epoch.exact || epoch.closing) {
      this.ends(slot, "released")
      this.run.record(slot, RecordEvent.retryEnding)
      return this.hooks.release(slot)
    }
    if (!this.can(slot, RecordEvent.retry)) return
    this.ends(slot, "retry")
    epoch.waiting.add(slot)
    this.hooks.rest(slot)
    if (millis === 0) return this.due(slot)
    slot.appointment = this.timetable.at(this.run.ticks() + millis, () => this.due(slot))
  }

  private due(slot: Slot): void {
    slot.appointment = undefined
    if (slot.state !== RecordState.waiting) return
    const past = slot.past!
    // an attempt of it that ignored its interruption still runs
    if (past.zombies > 0) {
      past.due = slot
      return
    }
    slot.at.backlog.due(slot)
    this.hooks.offer(slot.at)
  }

  /** A fiber of the record that had ignored its interruption has ended. */
  zombieEnded(past: Past): void {
    past.zombies--
    const { due } = past
    if (past.zombies > 0 || due === undefined) return
    past.due = undefined
    this.due(due)
  }

  // ------------------------------------------------------------------ dead letters

  private send(slot: Slot, decision: Decision.DeadLetter): void {
    const next = decision.then ?? { _tag: "Stop" as const }
    if (this.producer === undefined)
      return this.broken(
        slot,
        new Error(
          "a dead letter needs a KafkaProducer: provide the layer of your Kafka client, which brings one, where run is called"
        )
      )
    // a record that is its own dead letter comes back, fails, and comes back
    const circle = this.run.session.settings.topics.includes(decision.topic)
    if (circle || DeadLetter.hopsOf(slot) >= DeadLetter.maxHops) {
      this.hooks.warn(
        slot,
        circle
          ? `the dead-letter topic ${decision.topic} is one that this consumer reads: the record is not sent`
          : `the record was dead-lettered ${DeadLetter.maxHops} times already: it is not sent again`
      )
      return this.carryOut(slot, next)
    }
    if (!this.can(slot, RecordEvent.send)) return
    if (readableHeaders(slot) === undefined)
      this.hooks.warn(slot, "the headers of the record cannot be read: its dead letter is sent without them")
    this.ends(slot, "dead_letter")
    const past = slot.past!
    slot.letter = {
      then: next,
      record: DeadLetter.make({
        topic: decision.topic,
        record: slot.record,
        groupId: slot.groupId,
        attempts: slot.attempt,
        cause: past.cause,
        reason: decision.reason,
        firstFailedAt: past.firstFailedAt,
        lastFailedAt: past.lastFailedAt
      })
    }
    slot.at.sending.add(slot)
    this.hooks.rest(slot)
    this.transmit(slot, this.producer)
  }

  private transmit(slot: Slot, producer: Producer): void {
    slot.appointment = undefined
    let sending: Effect.Effect<boolean, unknown>
    try {
      sending = producer.send([slot.letter!.record])
    } catch (defect) {
      sending = Effect.die(defect)
    }
    const { span } = slot.past!
    if (span !== undefined) sending = Effect.provideService(sending, Tracer.ParentSpan, span)
    const fiber = this.hooks.fork(sending)
    slot.fiber = fiber
    this.hooks.observe(fiber, (exit) => {
      if (slot.fiber === fiber) slot.fiber = undefined
      // the epoch is over: if the broker has it, it will be there twice
      if (slot.state === RecordState.sending) this.answered(slot, producer, exit)
    })
  }

  private answered(slot: Slot, producer: Producer, exit: Exit.Exit<unknown, unknown>): void {
    if (Exit.isSuccess(exit) && exit.value === true) {
      slot.at.sending.delete(slot)
      slot.letter = undefined
      return this.hooks.done(slot, RecordEvent.sent, "deadLettered")
    }
    const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
    if (error instanceof PublishError && error.isRetryable) {
      this.run.record(slot, RecordEvent.sendAgain)
      if (slot.sendFailures++ === 0)
        this.hooks.warn(slot, `a dead letter was not taken and is sent again: ${error.message}`)
      const delay = Math.min(longestResendMillis, firstResendMillis * 2 ** Math.min(slot.sendFailures - 1, 16))
      const jitter = 0.8 + 0.4 * this.random()
      slot.appointment = this.timetable.at(this.run.ticks() + Math.ceil(delay * jitter), () =>
        this.transmit(slot, producer)
      )
      return
    }
    slot.at.sending.delete(slot)
    const next = slot.letter!.then
    slot.letter = undefined
    const past = slot.past!
    const cause = Exit.isFailure(exit) ? exit.cause : Cause.die(new Error("its producer is switched off"))
    // nobody has refused it: a policy that says skip then does not mean every record of a process whose producer is broken
    if (!(error instanceof PublishError) || error.reason !== "refused") {
      return this.stop(slot, both("a dead letter could not be sent", cause, past.cause))
    }
    this.hooks.warn(slot, `a dead letter was refused for good: ${error.message}`)
    past.cause = Cause.combine(past.cause, cause)
    this.carryOut(slot, next)
  }

  // ------------------------------------------------------------------ the end of an epoch

  /** Gives up what waits for a retry or is parked. */
  drop(epoch: PartitionEpoch): void {
    for (const slot of [...epoch.waiting]) {
      epoch.waiting.delete(slot)
      this.giveUp(slot)
    }
    for (const slot of [...epoch.parked]) {
      this.parking.leaves(slot)
      this.giveUp(slot)
    }
  }

  /** Gives up the dead letters that are on their way. */
  abandon(epoch: PartitionEpoch): void {
    for (const slot of [...epoch.sending]) {
      epoch.sending.delete(slot)
      const { fiber } = slot
      this.giveUp(slot)
      fiber?.interruptUnsafe()
    }
  }

  private giveUp(slot: Slot): void {
    this.cancel(slot)
    this.run.record(slot, RecordEvent.epochEnds)
    this.hooks.release(slot)
  }

  private cancel(slot: Slot): void {
    if (slot.appointment === undefined) return
    this.timetable.cancel(slot.appointment)
    slot.appointment = undefined
  }
}

/** Of two failures the policy's, or the producer's, is why the consumer ends: told first, beside the record's, which alone would tell nothing of it. */
const both = (what: string, others: Cause.Cause<unknown>, records: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  const [why, failure] = [Cause.squash(others), Cause.squash(records)]
  const message = messageOf(why)
  return Cause.die(new AggregateError([why, failure], message === undefined ? what : `${what}: ${message}`))
}

export const newPast = (now: number, cause: Cause.Cause<unknown>): Past => ({
  attempts: 0,
  firstFailedAt: now,
  lastFailedAt: now,
  cause,
  memory: new Map(),
  zombies: 0,
  due: undefined,
  span: undefined
})
