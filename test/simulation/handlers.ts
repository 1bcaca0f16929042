/**
 * Handlers that do everything a handler can do to an engine, and policies that answer everything a policy can answer.
 */
import type { Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import { Directive } from "@concurrent-kafka/core/Directive"
import { type Decision, type Failure, FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Checker } from "./checker.ts"
import type { Attempt, Life, Owner } from "./owner.ts"
import type { PolicyKind } from "./memberPlan.ts"
import type { Behaviour, Plan } from "./plan.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { keyOf, type Rec } from "./truth.ts"

export interface Handling {
  readonly plan: Plan
  readonly checker: Checker
  readonly life: Life
  /** the member that has this epoch */
  readonly ownerOf: (epoch: number) => Owner
  readonly timeout: number | undefined
  readonly chance: Prng
  readonly policy: PolicyKind
  /** there is an offset map, so that records can be parked */
  readonly mapped: boolean
  /** everybody behaves, so that the history comes to an end */
  readonly healed: () => boolean
  /** the event loop of its process stands still from now on, for so long */
  readonly block: (millis: number) => void
  readonly sessionTimeout: number
  readonly count: (what: string) => void
}

export const deadLetterTopic = "dead"

type Body = Effect.Effect<void, unknown, Scope.Scope>

/** Works for an attempt beside its handler: a policy that takes its time, or a finalizer. */
const busy = <A, E, R>(owner: Owner, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    owner.busy++
    return Effect.ensuring(
      effect,
      Effect.sync(() => {
        owner.busy--
      })
    )
  })

const behave = (h: Handling, behaviour: Behaviour, attempt: Attempt, delivery: Delivery): Body => {
  const { chance, checker, plan } = h
  const { world } = checker
  const sleep = (ms: number): Effect.Effect<void> => Effect.sleep(ms)
  const moment = () => chance.skewed(1, plan.slow)
  const ack = Effect.andThen(
    Effect.sync(() => {
      checker.attempts.acknowledges(attempt)
    }),
    delivery.ack
  )
  switch (behaviour) {
    case "instant":
      return Effect.void
    case "short":
      return sleep(chance.int(1, 30))
    case "sleep":
      return sleep(moment())
    case "long":
      return sleep(chance.int(plan.slow, plan.slow * 2))
    case "yield":
      return Effect.repeat(Effect.yieldNow, { times: chance.int(1, 4) })
    case "promise":
      return Effect.promise(async () => {
        world.resolved()
        for (let i = chance.int(1, 3); i > 0; i--) await Promise.resolve()
      })
    case "timer": {
      // a promise that somebody resolves later, and that ends at once when it is interrupted, or goes on
      const ms = moment()
      return Effect.promise(
        (signal) =>
          new Promise<void>((resolve) => {
            const end = () => {
              world.resolved()
              resolve()
            }
            const cancel = world.after(attempt.owner.realm, ms, end)
            signal.addEventListener("abort", () => {
              cancel()
              end()
            })
          })
      )
    }
    case "fail":
      return Effect.andThen(sleep(moment()), Effect.fail("typed"))
    case "die":
      return Effect.andThen(sleep(moment()), Effect.die(new Error("defect")))
    case "throw":
      throw new Error("thrown")
    case "self":
      attempt.self = true
      return Effect.andThen(sleep(moment()), Effect.interrupt)
    case "stubborn":
      attempt.stubborn = true
      return Effect.uninterruptible(sleep(moment() + chance.int(200, plan.stubborn)))
    case "stubbornAck":
      attempt.stubborn = true
      return Effect.uninterruptible(Effect.andThen(sleep(moment() + chance.int(200, plan.stubborn)), ack))
    case "ackStubborn":
      attempt.stubborn = true
      return Effect.uninterruptible(Effect.andThen(ack, sleep(moment() + chance.int(200, plan.stubborn))))
    case "ack":
      return Effect.andThen(Effect.andThen(ack, ack), sleep(moment()))
    case "ackFail":
      return Effect.andThen(ack, Effect.fail("after ack"))
    case "finalizer":
    case "finalizerDies":
      // its outcome counts when the finalizer has ended
      attempt.deferred = true
      return Effect.andThen(
        Effect.addFinalizer((exit) =>
          busy(
            attempt.owner,
            Effect.andThen(
              sleep(chance.int(1, 100)),
              behaviour === "finalizerDies"
                ? Effect.die("finalizer")
                : Effect.sync(() => {
                    if (Exit.isSuccess(exit)) checker.attempts.done(attempt)
                  })
            )
          )
        ),
        sleep(moment())
      )
    case "again": {
      const after = moment()
      checker.attempts.retries(attempt.owner, attempt.rec, delivery.epoch, after)
      return Directive.retryAfter(after)
    }
    case "giveUp":
      return Effect.andThen(sleep(chance.int(0, 5)), Directive.skip("it said so"))
    case "bury":
      checker.attempts.sends(attempt.owner, attempt.rec, delivery.epoch)
      // refused for good, there is no next decision
      attempt.owner.buried.add(attempt.rec)
      return Directive.deadLetter(deadLetterTopic, "it said so")
    case "block": {
      const ms = Math.ceil(h.sessionTimeout * (1.05 + chance.next()))
      return Effect.andThen(
        Effect.sync(() => h.block(ms)),
        sleep(chance.chance(0.5) ? 1 : moment())
      )
    }
    case "cleanup": {
      // longer than it is waited for, sometimes
      const ms = chance.int(1, 1500)
      attempt.stubborn = true
      return Effect.onInterrupt(sleep(moment()), () => sleep(ms))
    }
  }
}

/** What is done with a record depends on nothing but the record, and how often something was done with it. */
const chanceOf = ({ plan }: Handling, rec: Rec): Prng => new Prng(plan.seed, `${rec.source} ${++rec.chances}`)

const directives: ReadonlySet<Behaviour> = new Set(["again", "giveUp", "bury"])
const failing: ReadonlySet<Behaviour> = new Set(["fail", "die", "throw", "self", "finalizerDies"])

/** It does so each time, as it computes the same. */
const blocks = ({ plan }: Handling, rec: Rec): boolean =>
  plan.blocking && new Prng(plan.seed, `blocks ${rec.source}`).chance(0.08)

const choose = (h: Handling, rec: Rec): Behaviour => {
  const { chance, healed, plan, policy } = h
  if (healed()) return chance.chance(0.5) ? "instant" : "short"
  if (blocks(h, rec)) return "block"
  const behaviour = chance.weighted(plan.behaviours)
  // where one failure ends the consumer there are few
  const rare = (policy === "none" || policy === "stop") && failing.has(behaviour)
  return rare && !chance.chance(0.03) ? "instant" : behaviour
}

export const makeHandler = (h: Handling): Handler<never, never> => {
  const { checker, plan, timeout } = h
  const topics = plan.topics.map((topic) => topic.name) as [string, ...Array<string>]
  const handle = (delivery: Delivery): Body => {
    const rec = checker.recordOf(delivery)
    const owner = h.ownerOf(delivery.epoch)
    const attempt = checker.attempts.starts(owner, rec, delivery.epoch, delivery.attempt)
    const its: Handling = { ...h, chance: chanceOf(h, rec) }
    const behaviour = choose(its, rec)
    h.count(`behaviour ${behaviour}`)
    checker.trace.log(owner.name, `starts ${keyOf(rec)}@${rec.offset}#${delivery.epoch} ${behaviour}`)
    const ended = (how: "success" | "failure" | "interrupted") => {
      if (attempt.ended) return
      checker.trace.log(owner.name, `ends ${keyOf(rec)}@${rec.offset}#${delivery.epoch} ${how}`)
      checker.attempts.ends(attempt, how)
    }
    let body: Body
    try {
      body = behave(its, behaviour, attempt, delivery)
    } catch (defect) {
      mayStop(h, "defect")
      ended("failure")
      throw defect
    }
    return Effect.withFiber((fiber) => {
      const over = (exit: Exit.Exit<unknown, unknown>) => {
        if (attempt.ended) return
        const how = Exit.isSuccess(exit) ? "success" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failure"
        const fails = how === "failure" || (how === "interrupted" && attempt.self) || behaviour === "finalizerDies"
        if (how === "failure" && directives.has(behaviour)) checker.attempts.directs(attempt)
        if (fails && !attempt.acked && !directives.has(behaviour)) mayStop(h, "defect")
        ended(how)
      }
      attempt.look = () => {
        const exit = fiber.pollUnsafe()
        if (exit !== undefined) over(exit)
      }
      fiber.addObserver(over)
      return body
    })
  }
  const handler = Handler.make(topics, handle as (delivery: Delivery) => Effect.Effect<void, never, Scope.Scope>)
  return timeout === undefined ? handler : (Handler.timeout(timeout)(handler) as unknown as Handler<never, never>)
}

/** Without a policy a handler that fails ends its consumer. */
const mayStop = (h: Handling, why: string): void => {
  if (h.policy === "none" || h.policy === "stop") h.life.closing ??= why
}

export const makePolicy = (h: Handling): FailurePolicy<unknown, never> | undefined => {
  const { chance, checker } = h
  const skip = (record: Delivery): Decision.Skip => {
    const rec = checker.recordOf(record)
    const owner = h.ownerOf(record.epoch)
    checker.attempts.skips(owner, rec, record.epoch)
    checker.trace.log(owner.name, `skips ${keyOf(rec)}@${rec.offset}#${record.epoch}`)
    return { _tag: "Skip" }
  }
  const stop = ({ epoch }: Delivery): Decision.Stop => {
    checker.happened("stop")
    h.life.closing ??= "the policy says stop"
    h.life.stoppedAt ??= checker.world.now
    checker.trace.log(h.ownerOf(epoch).name, "the policy says stop")
    return { _tag: "Stop" }
  }
  switch (h.policy) {
    case "none":
      return undefined
    case "skip":
      return {
        ...FailurePolicy.skip,
        decide: ({ attempt, record }) => {
          checker.attempts.asks(h.ownerOf(record.epoch), checker.recordOf(record), record.epoch, attempt)
          return Effect.sync(() => skip(record))
        }
      }
    case "stop":
      return { ...FailurePolicy.stop, decide: ({ record }) => Effect.sync(() => stop(record)) }
    case "decide":
      return FailurePolicy.make((failure: Failure<unknown>) => {
        const { record } = failure
        const rec = checker.recordOf(record)
        const owner = h.ownerOf(record.epoch)
        checker.attempts.asks(owner, rec, record.epoch, failure.attempt)
        if (h.healed()) return skip(record)
        const chance = chanceOf(h, rec)
        const what = chance.weighted({
          skip: 3,
          retry: 10,
          letter: 4,
          park: h.mapped ? (h.plan.parksLong ? 10 : 4) : 0,
          later: 1
        })
        const decide = (): Decision => {
          const retry = (): Decision.Retry => {
            const after = chance.chance(0.2) ? 0 : chance.skewed(1, 4000)
            checker.attempts.retries(owner, rec, record.epoch, after)
            return { _tag: "Retry", after }
          }
          const letter = (): Decision.DeadLetter => {
            checker.attempts.sends(owner, rec, record.epoch)
            if (chance.chance(0.5)) return { _tag: "DeadLetter", topic: deadLetterTopic, then: { _tag: "Skip" } }
            checker.attempts.retries(owner, rec, record.epoch, 0)
            return { _tag: "DeadLetter", topic: deadLetterTopic, then: { _tag: "Retry", after: chance.int(0, 1000) } }
          }
          switch (what) {
            case "skip":
              return skip(record)
            case "letter":
              return letter()
            case "park": {
              const then = chance.weighted({ skip: 1, retry: 2, letter: 2 })
              const atMost = h.plan.parksLong ? 1_000 : chance.pick([1, 3, 50])
              const atMostFor = h.plan.parksLong ? 3_600_000 : chance.skewed(100, 15_000)
              checker.attempts.parks(owner, rec, record.epoch, atMost, atMostFor)
              if (h.plan.parksLong) checker.happened("parked for long")
              return {
                _tag: "Park",
                limits: { atMost, atMostFor },
                then: then === "skip" ? { _tag: "Skip" } : then === "retry" ? retryLater() : letter()
              }
            }
            default:
              return retry()
          }
        }
        const retryLater = (): Decision.Retry => {
          checker.attempts.retries(owner, rec, record.epoch, 0)
          return { _tag: "Retry", after: chance.int(0, 2000) }
        }
        return what === "later"
          ? busy(owner, Effect.andThen(Effect.sleep(chance.skewed(1, 500)), Effect.sync(decide)))
          : Effect.succeed(decide())
      }) as FailurePolicy<unknown, never>
    case "steps": {
      const tries = FailurePolicy.retry(Schedule.exponential(chance.int(1, 300)).pipe(Schedule.upTo({ times: 3 })))
      const limits = h.plan.parksLong ? { atMost: 1_000, atMostFor: 3_600_000 } : { atMost: 5, atMostFor: 8_000 }
      const step = h.mapped && chance.chance(0.5) ? tries.pipe(FailurePolicy.orPark(limits)) : tries
      const policy = chance.chance(0.7)
        ? step.pipe(FailurePolicy.orDeadLetter(deadLetterTopic, { refused: "skip" }))
        : step.pipe(FailurePolicy.orSkip)
      const tell = (decision: Decision, record: Delivery, rec: Rec): void => {
        const owner = h.ownerOf(record.epoch)
        if (decision._tag === "Retry") {
          const after = Duration.toMillis(Duration.fromInputUnsafe(decision.after))
          checker.attempts.retries(owner, rec, record.epoch, after)
        } else if (decision._tag === "Skip") skip(record)
        else if (decision._tag === "DeadLetter") checker.attempts.sends(owner, rec, record.epoch)
        else if (decision._tag === "Park") {
          checker.attempts.parks(owner, rec, record.epoch, limits.atMost, limits.atMostFor)
          if (h.plan.parksLong) checker.happened("parked for long")
          if (decision.then._tag !== "Skip") tell(decision.then, record, rec)
        }
      }
      return {
        ...(policy as FailurePolicy<unknown, never>),
        decide: (failure) => {
          const { record } = failure
          const rec = checker.recordOf(record)
          checker.attempts.asks(h.ownerOf(record.epoch), rec, record.epoch, failure.attempt)
          if (h.healed()) return Effect.sync(() => skip(record))
          return Effect.map((policy as FailurePolicy<unknown, never>).decide(failure), (decision) => {
            tell(decision, record, rec)
            return decision
          })
        }
      }
    }
    case "make":
      return FailurePolicy.make(({ attempt, record }) => {
        const rec = checker.recordOf(record)
        const owner = h.ownerOf(record.epoch)
        checker.attempts.asks(owner, rec, record.epoch, attempt)
        const chance = chanceOf(h, rec)
        const what = h.healed() ? "skip" : chance.weighted({ skip: 10, later: 6, stop: 0.3, die: 0.2, stopLater: 0.2 })
        switch (what) {
          case "skip":
            return skip(record)
          case "later":
            return busy(
              owner,
              Effect.andThen(
                Effect.sleep(chance.skewed(1, 2000)),
                Effect.sync(() => skip(record))
              )
            )
          case "stop":
            return stop(record)
          case "stopLater":
            return busy(
              owner,
              Effect.andThen(
                Effect.sleep(chance.skewed(1, 2000)),
                Effect.sync(() => stop(record))
              )
            )
          case "die":
            stop(record)
            return Effect.die("the policy dies")
        }
      })
  }
}
