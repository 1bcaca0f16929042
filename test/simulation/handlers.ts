/**
 * Handlers that do everything a handler can do to an engine, and policies that answer everything a policy can answer.
 */
import type { Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import { type Decision, FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Checker } from "./checker.ts"
import type { Attempt, Owner } from "./owner.ts"
import type { Behaviour, Plan, PolicyKind } from "./plan.ts"
import type { Prng } from "./prng.ts"
import { keyOf } from "./truth.ts"

export interface Handling {
  readonly plan: Plan
  readonly checker: Checker
  readonly owner: Owner
  readonly chance: Prng
  readonly policy: PolicyKind
  /** everybody behaves, so that the history comes to an end */
  readonly healed: () => boolean
}

type Body = Effect.Effect<void, string, Scope.Scope>

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
            const cancel = world.after(h.owner.realm, ms, end)
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
      return Effect.uninterruptible(sleep(moment() + 200))
    case "stubbornAck":
      attempt.stubborn = true
      return Effect.uninterruptible(Effect.andThen(sleep(moment() + 200), ack))
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
          Effect.andThen(
            sleep(chance.int(1, 100)),
            behaviour === "finalizerDies"
              ? Effect.die("finalizer")
              : Effect.sync(() => {
                  if (Exit.isSuccess(exit)) checker.attempts.done(attempt)
                })
          )
        ),
        sleep(moment())
      )
    case "cleanup": {
      // longer than it is waited for, sometimes
      const ms = chance.int(1, 1500)
      attempt.stubborn = true
      return Effect.onInterrupt(sleep(moment()), () => sleep(ms))
    }
  }
}

const failing: ReadonlySet<Behaviour> = new Set(["fail", "die", "throw", "self", "finalizerDies"])

const choose = ({ chance, healed, plan, policy }: Handling): Behaviour => {
  if (healed()) return chance.chance(0.5) ? "instant" : "short"
  const behaviour = chance.weighted(plan.behaviours)
  // where one failure ends the consumer there are few
  const rare = (policy === "none" || policy === "stop") && failing.has(behaviour)
  return rare && !chance.chance(0.03) ? "instant" : behaviour
}

export const makeHandler = (h: Handling): Handler<never, never> => {
  const { checker, owner, plan } = h
  const topics = plan.topics.map((topic) => topic.name) as [string, ...Array<string>]
  const handle = (delivery: Delivery): Body => {
    const rec = checker.recordOf(delivery)
    const attempt = checker.attempts.starts(owner, rec, delivery.epoch)
    const behaviour = choose(h)
    checker.trace.log(owner.name, `starts ${keyOf(rec)}@${rec.offset}#${delivery.epoch} ${behaviour}`)
    const ended = (how: "success" | "failure" | "interrupted") => {
      if (attempt.ended) return
      checker.trace.log(owner.name, `ends ${keyOf(rec)}@${rec.offset}#${delivery.epoch} ${how}`)
      checker.attempts.ends(attempt, how)
    }
    let body: Body
    try {
      body = behave(h, behaviour, attempt, delivery)
    } catch (defect) {
      mayStop(h, "defect")
      ended("failure")
      throw defect
    }
    return Effect.withFiber((fiber) => {
      fiber.addObserver((exit) => {
        const how = Exit.isSuccess(exit) ? "success" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failure"
        const fails = how === "failure" || (how === "interrupted" && attempt.self) || behaviour === "finalizerDies"
        if (fails && !attempt.acked) mayStop(h, "defect")
        ended(how)
      })
      return body
    })
  }
  const handler = Handler.make(topics, handle as (delivery: Delivery) => Effect.Effect<void, never, Scope.Scope>)
  return owner.timeout === undefined
    ? handler
    : (Handler.timeout(owner.timeout)(handler) as unknown as Handler<never, never>)
}

/** Without a policy a handler that fails ends its consumer. */
const mayStop = (h: Handling, why: string): void => {
  if (h.policy === "none" || h.policy === "stop") h.owner.closing ??= why
}

export const makePolicy = (h: Handling): FailurePolicy<unknown, never> | undefined => {
  const { chance, checker, owner } = h
  const skip = (record: Delivery): Decision.Skip => {
    const rec = checker.recordOf(record)
    checker.attempts.skips(owner, rec, record.epoch)
    checker.trace.log(owner.name, `skips ${keyOf(rec)}@${rec.offset}#${record.epoch}`)
    return { _tag: "Skip" }
  }
  const stop = (): Decision.Stop => {
    owner.closing ??= "the policy says stop"
    owner.stoppedAt ??= checker.world.now
    checker.trace.log(owner.name, "the policy says stop")
    return { _tag: "Stop" }
  }
  switch (h.policy) {
    case "none":
      return undefined
    case "skip":
      return {
        ...FailurePolicy.skip,
        decide: ({ record }) => {
          checker.attempts.asks(owner, checker.recordOf(record), record.epoch)
          return Effect.sync(() => skip(record))
        }
      }
    case "stop":
      return { ...FailurePolicy.stop, decide: () => Effect.sync(stop) }
    case "make":
      return FailurePolicy.make(({ record }) => {
        checker.attempts.asks(owner, checker.recordOf(record), record.epoch)
        const what = h.healed() ? "skip" : chance.weighted({ skip: 10, later: 6, stop: 0.3, die: 0.2, stopLater: 0.2 })
        switch (what) {
          case "skip":
            return skip(record)
          case "later":
            return Effect.andThen(
              Effect.sleep(chance.skewed(1, 2000)),
              Effect.sync(() => skip(record))
            )
          case "stop":
            return stop()
          case "stopLater":
            return Effect.andThen(Effect.sleep(chance.skewed(1, 2000)), Effect.sync(stop))
          case "die":
            stop()
            return Effect.die("the policy dies")
        }
      })
  }
}
