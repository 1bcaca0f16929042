/**
 * One run of a consumer, from join to leave: the parts wired together, and its end.
 *
 * The end, in this order, against one deadline (`shutdownTimeout`), the same whether the run is interrupted, the layer closes, or
 * the consumer fails:
 * 1. intake stops: no record starts any more;
 * 2. drain, or interrupt at once, by `shutdown`; interrupted handlers have `interruptGrace`;
 * 3. flush the done prefix, while the membership still stands;
 * 4. answer every rebalance that still waits;
 * 5. leave the group;
 * 6. end the inbox's fiber, which has served rebalances up to here.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { BatchCommitter } from "../BatchCommitter.ts"
import type { CommitterDied } from "../CommitterDied.ts"
import { ConsumerError } from "../ConsumerError.ts"
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { Session } from "../ConsumerSession.ts"
import type { Diagnostics } from "../Diagnostics.ts"
import { Directive } from "../Directive.ts"
import type { FailurePolicy } from "../FailurePolicy.ts"
import type { Handler } from "../Handler.ts"
import { KafkaClientError } from "../KafkaClient.ts"
import type { OffsetMap } from "../OffsetMap.ts"
import type { Traces } from "../Traces.ts"
import { Backpressure } from "./backpressure.ts"
import { Commits } from "./commits.ts"
import { describe } from "./describe.ts"
import { Pause } from "./epoch.ts"
import { Intake } from "./intake.ts"
import type { Lanes } from "./lanes.ts"
import type { LateLooks } from "./lateLooks.ts"
import type { Permits } from "./permits.ts"
import { Pump } from "./pump.ts"
import { Rebalance } from "./rebalance.ts"
import { bounded } from "./shutdown.ts"
import type { Slot } from "./slot.ts"
import { type ConsumerSettings, type Counters, RunState } from "./state.ts"
import type { Suspects } from "./suspects.ts"
import { Sweeper } from "./sweeper.ts"
import { Timetable } from "./timetable.ts"

/** backstop for what comes after the deadline: answering, leaving */
const backstopMillis = 1_000

export interface RunOptions {
  readonly session: Session
  readonly committer: BatchCommitter["Service"]
  readonly settings: ConsumerSettings
  readonly counters: Counters
  readonly permits: Permits
  readonly lanes: Map<string, Lanes>
  readonly zombies: Set<Slot>
  readonly suspects: Suspects
  readonly lateLooks: LateLooks | undefined
  readonly warned: Set<string>
  readonly diagnostics: Diagnostics | undefined
  readonly zstd: OffsetMap.Zstd | undefined
  readonly clock: Clock.Clock
  readonly traces: Traces | undefined
  readonly userPaused: () => boolean
  readonly handler: Handler<unknown, never>
  readonly policy: FailurePolicy<unknown, never> | undefined
  /** a zombie of this run has ended; another run may wait for its permit or its lane */
  readonly freed: (p: TopicPartition) => void
  /** the run begins to end by failure; called once at most, maybe in the middle of the pump */
  readonly failing: () => void
  /** of whoever called `run`: what the handler needs, loggers, tracer */
  readonly context: Context.Context<never>
  /** forks into the consumer's FiberSet */
  readonly fork: (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>
}

export type RunFailure = ConsumerError | CommitterDied

export class ConsumerRun {
  readonly state: RunState
  readonly held: Backpressure
  readonly commits: Commits
  readonly intake: Intake
  readonly pump: Pump
  /** ends with success when the run was closed, with failure when it failed; after the shutdown */
  readonly done = Deferred.makeUnsafe<void, RunFailure>()
  closingSince: number | undefined = undefined
  private readonly options: RunOptions
  private readonly rebalance: Rebalance
  private readonly quiet = Deferred.makeUnsafe<void>()
  private readonly failures: Array<RunFailure> = []
  /** the committer's attachment */
  private readonly scope = Scope.makeUnsafe()
  /** the inbox's fiber, timers, flushes */
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  private over = false
  private shuttingDown: Fiber.Fiber<unknown, unknown> | undefined = undefined

  constructor(options: RunOptions) {
    this.options = options
    const after = (millis: number, then: () => void): (() => void) =>
      this.background(
        Effect.andThen(
          Effect.sleep(Math.max(0, millis)),
          Effect.sync(() => this.guarded(then))
        )
      )
    const warn = (message: string): void => this.log(Effect.logWarning(message))
    this.state = new RunState({ ...options, warn })
    this.held = new Backpressure(this.state)
    const sweeper = new Sweeper(this.state, after, (slot) => this.pump.leaveBehind(slot))
    this.pump = new Pump({
      run: this.state,
      held: this.held,
      committer: options.committer,
      handler: options.handler,
      policy: options.policy,
      sweeper,
      timetable: new Timetable(() => this.state.ticks(), after),
      random: () => Effect.runSyncWith(options.context)(Random.next),
      traces: options.traces,
      context: options.context,
      events: {
        fewer: (epoch) => {
          this.rebalance.fewer(epoch)
          if (epoch.state === "ended" && epoch.live.length === 0) this.intake.over(epoch)
        },
        stop: (slot, cause) =>
          this.fail(
            new ConsumerError({
              reason: {
                _tag: "Stopped",
                topic: slot.topic,
                partition: slot.partition,
                offset: slot.offset,
                cause: Cause.squash(cause)
              }
            })
          ),
        skipped: (slot, cause) => {
          const error = Option.getOrUndefined(Cause.findErrorOption(cause))
          const line =
            Directive.isDirective(error) && error.kind === "Skip"
              ? Effect.logInfo(`skipped a record, as its handler says: ${error.reason}`)
              : Effect.logError(`skipped a record whose handling failed: ${describe(cause)}`)
          this.log(Effect.annotateLogs(line, placeOf(slot)))
        },
        warn: (slot, message) => this.log(Effect.logWarning(message).pipe(Effect.annotateLogs(placeOf(slot)))),
        defect: (cause) => this.defect(cause),
        freed: (slot) => options.freed(slot),
        leftBehind: (slot) => this.warnZombie(slot)
      }
    })
    this.rebalance = new Rebalance(this.state, this.held, this.pump, options.committer, {
      ended: (epoch) => this.intake.ended(epoch),
      fork: (effect) => this.background(effect),
      after,
      guarded: (then) => this.guarded(then)
    })
    this.commits = new Commits(this.state, options.committer, {
      fork: (effect) => this.background(effect),
      guarded: (then) => this.guarded(then),
      fail: (error) => this.fail(error),
      started: (epoch) => this.intake.openings.begin([epoch]),
      evicted: (epoch) => this.intake.evicted(epoch),
      gone: ({ epoch, partition, topic }) =>
        this.intake.isGone({ _tag: "Gone", topic, partition, epoch, why: "deleted" })
    })
    this.intake = new Intake(
      this.state,
      this.held,
      this.pump,
      this.rebalance,
      this.commits,
      options.committer,
      options.userPaused,
      {
        fork: (effect) => this.background(effect),
        after,
        guarded: (then) => this.guarded(then),
        fail: (error) => this.fail(error),
        logError: (message) => this.log(Effect.logError(message)),
        logWarning: warn,
        logDebug: (message) => this.log(Effect.logDebug(message)),
        settled: () => this.checkQuiet()
      }
    )
  }

  /** Joins the group and handles; ends when the run was closed or has failed. */
  readonly live: Effect.Effect<void, RunFailure> = Effect.suspend(() => {
    const { committer, session } = this.options
    // what a run before this one left there is of a membership that is over
    const left = Effect.map(Queue.clear(session.inbox), (signals) => this.intake.discard(signals))
    const inbox = Effect.forever(
      Effect.map(Queue.takeAll(session.inbox), (signals) => this.guarded(() => this.intake.take(signals)))
    )
    this.background(
      Effect.catchCause(Effect.andThen(left, inbox), (cause) =>
        Effect.sync(() => {
          if (!Cause.hasInterruptsOnly(cause)) this.fail(inboxFailure(cause))
        })
      )
    )
    this.background(this.state.standstill.watch)
    this.background(Effect.catch(committer.died, (error) => Effect.sync(() => this.died(error))))
    const join = Effect.andThen(
      Scope.provide(committer.attach({ take: this.commits.entries, settled: this.commits.settled }), this.scope),
      session.join
    )
    this.background(
      Effect.catchCause(join, (cause) =>
        Effect.sync(() => {
          if (!Cause.hasInterruptsOnly(cause)) this.fail(inboxFailure(cause))
        })
      )
    )
    return Deferred.await(this.done)
  })

  /** Ends the run in order; whoever asks waits for the same end. Never longer than `shutdownTimeout` + 2 s. */
  readonly shutdown: Effect.Effect<void> = Effect.suspend(() => {
    const { shutdownTimeout } = this.state.settings
    return Effect.asVoid(bounded(Effect.exit(joined(this.startShutdown(false))), shutdownTimeout + 2 * backstopMillis))
  })

  /** The partitions that are open, or are to be opened; for `pause` and `resume` of all. */
  pauseAll(paused: boolean): void {
    for (const epoch of this.state.epochs.values()) {
      if (paused) this.held.pause(epoch, Pause.user)
      else this.held.resume(epoch, Pause.user)
      this.pump.offer(epoch)
    }
    this.pump.pump()
  }

  fail(error: RunFailure): void {
    this.failures.push(error)
    this.startShutdown(false)
  }

  /** A fault of ours: nothing of this run can be trusted any more, so nothing is committed. */
  private defect(cause: unknown): void {
    this.failures.push(new ConsumerError({ reason: { _tag: "Defect", cause } }))
    if (this.shuttingDown === undefined) this.startShutdown(true)
    // not at once: whoever says so may stand in the middle of the pump
    else
      this.background(
        Effect.andThen(
          Effect.yieldNow,
          Effect.sync(() => this.endAll())
        )
      )
  }

  private died(error: CommitterDied): void {
    this.failures.push(error)
    this.startShutdown(true)
  }

  private startShutdown(hard: boolean): Fiber.Fiber<unknown, unknown> {
    if (this.shuttingDown !== undefined) return this.shuttingDown
    const { settings } = this.state
    // the time of day may be set meanwhile
    const began = this.state.ticks()
    this.closingSince = this.state.now()
    this.state.closing = true
    const endsAt = began + settings.shutdownTimeout
    const left = (): number => Math.max(0, endsAt - this.state.ticks())
    this.pump.stop()
    // a fiber of its own: neither the interruption of `run` nor the closing of the layer cuts it
    const run = Effect.runForkWith(this.options.context)
    this.shuttingDown = run(
      Effect.gen({ self: this }, function* () {
        // whoever asked may stand in the middle of the pump
        yield* Effect.yieldNow
        yield* Effect.sync(() => {
          try {
            if (hard) this.endAll()
            else {
              const drain = settings.shutdown === "drain"
              const drainFor = drain ? settings.shutdownTimeout - settings.interruptGrace - settings.flushReserve : 0
              this.rebalance.close(began + drainFor, endsAt)
            }
          } catch (cause) {
            this.failures.push(new ConsumerError({ reason: { _tag: "Defect", cause } }))
            this.endAll()
          }
          this.checkQuiet()
        })
        yield* bounded(Deferred.await(this.quiet), left())
        yield* Effect.sync(() => {
          this.endAll()
          this.rebalance.abandon()
        })
        // in a fiber of its own: a client may not be interruptible in the middle of it
        const leaving = run(Effect.exit(this.options.session.leave))
        yield* bounded(joined(leaving), Math.max(left(), backstopMillis))
        leaving.interruptUnsafe()
        // the timers of their grace end with the run: as zombies they give permit and lane to the next run when they end
        yield* Effect.sync(() => {
          for (const epoch of this.state.ending) this.pump.abandon(epoch)
        })
        // last: it has served rebalances up to here
        this.over = true
        yield* bounded(Fiber.interruptAll([...this.fibers]), backstopMillis)
        yield* Scope.close(this.scope, Exit.void)
        yield* Effect.sync(() => {
          const [first, ...more] = this.failures
          Deferred.doneUnsafe(
            this.done,
            first === undefined
              ? Exit.void
              : Exit.failCause(
                  more.reduce((cause, error) => Cause.combine(cause, Cause.fail(error)), Cause.fail<RunFailure>(first))
                )
          )
        })
      }),
      { uninterruptible: true }
    )
    if (this.failures.length > 0) this.options.failing()
    return this.shuttingDown
  }

  /** What did not end by itself ends now, without a commit. A fault in one keeps neither the others nor the run from ending. */
  private endAll(): void {
    for (const epoch of [...this.state.epochs.values()]) {
      try {
        if (this.state.partition(epoch, "failed")?.to === "ended") this.intake.ended(epoch)
      } catch (cause) {
        this.failures.push(new ConsumerError({ reason: { _tag: "Defect", cause } }))
      }
    }
  }

  private checkQuiet(): void {
    if (this.closingSince !== undefined && this.state.epochs.size === 0 && this.state.ending.size === 0) {
      Deferred.doneUnsafe(this.quiet, Exit.void)
    }
  }

  private guarded(then: () => void): void {
    try {
      this.pump.afterwards(then)
    } catch (cause) {
      this.defect(cause)
    }
  }

  /** In the consumer's FiberSet, ended with the run at the latest. Gives back how it is ended before. */
  private background(effect: Effect.Effect<unknown, unknown>): () => void {
    if (this.over) return () => undefined
    const fiber = this.options.fork(
      Effect.catchCause(effect, (cause) =>
        Effect.sync(() => {
          // nobody waits for it: what it should have done would never happen
          if (!Cause.hasInterruptsOnly(cause)) this.defect(Cause.squash(cause))
        })
      )
    )
    if (fiber.pollUnsafe() === undefined) {
      this.fibers.add(fiber)
      fiber.addObserver(() => this.fibers.delete(fiber))
    }
    return () => fiber.interruptUnsafe()
  }

  private log(effect: Effect.Effect<void>): void {
    this.options.fork(effect)
  }

  private warnZombie(slot: Slot): void {
    const age = this.state.ticks() - slot.ticks
    this.log(
      Effect.logWarning(
        `a handler ignores its interruption; it is left behind after ${age} ms and keeps its permit until it ends`
      ).pipe(Effect.annotateLogs(placeOf(slot)))
    )
  }
}

const joined = (fiber: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    fiber.addObserver(() => resume(Effect.void))
  })

const inboxFailure = (cause: Cause.Cause<KafkaClientError | Cause.Done>): ConsumerError => {
  const error = Cause.squash(cause)
  return error instanceof KafkaClientError
    ? new ConsumerError({ reason: { _tag: "Client", error } })
    : Cause.isDone(error)
      ? new ConsumerError({
          reason: {
            _tag: "Client",
            error: new KafkaClientError({
              reason: "Closed",
              detail: "the session was closed while the consumer ran on it"
            })
          }
        })
      : new ConsumerError({ reason: { _tag: "Defect", cause: error } })
}

const placeOf = (slot: Slot): Record<string, unknown> => ({
  topic: slot.topic,
  partition: slot.partition,
  offset: String(slot.offset),
  attempt: slot.attempt
})
