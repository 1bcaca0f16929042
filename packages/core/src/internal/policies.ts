/**
 * Policies and the steps that they are put together from.
 *
 * Invariants, with their tests in `test/failurePolicy.test.ts`:
 * - a step that came to its end for a record stays there ("a schedule that has ended stays ended");
 * - two records never share a schedule's state, nor do two steps ("two records have each their own tries", "two steps over one
 *   schedule count for themselves");
 * - a Park that leaves a policy always says what comes after it, and that is never another Park ("is never followed by another
 *   Park").
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type {
  DeadLetterOptions,
  Decision,
  Failure,
  FailurePolicy,
  FailureStep,
  ParkLimits,
  RetryOptions
} from "../FailurePolicy.ts"
import type { KafkaProducer } from "../KafkaProducer.ts"
import { oneOf, topicNames } from "./options.ts"
import { parkLimits } from "./parkLimits.ts"

export const policy = <E, R>(
  decide: FailurePolicy<E, R>["decide"],
  parks: boolean,
  deadLetterTopics: ReadonlyArray<string>
): FailurePolicy<E, R> => ({
  decide,
  parks,
  deadLetterTopics,
  pipe() {
    return pipeArguments(this, arguments)
  }
})

const step = <E, R>(answer: FailureStep<E, R>["step"], parks: boolean): FailureStep<E, R> => ({
  step: answer,
  parks,
  pipe() {
    return pipeArguments(this, arguments)
  }
})

const always = (decision: Decision): FailurePolicy<unknown, never> => {
  const answer = Effect.succeed(decision)
  return policy(() => answer, false, decision._tag === "DeadLetter" ? [decision.topic] : [])
}

export const skip = always({ _tag: "Skip" })
export const stop = always({ _tag: "Stop" })

export const deadLetter = (topic: string, options?: DeadLetterOptions): FailurePolicy<unknown, KafkaProducer> => {
  topicNames("deadLetter.topic", [topic])
  const refused = oneOf("deadLetter.refused", options?.refused, "stop", ["stop", "skip"])
  return always({ _tag: "DeadLetter", topic, then: { _tag: refused === "skip" ? "Skip" : "Stop" } })
}

type Tries<E, R> = (failure: Failure<E>) => Effect.Effect<Decision.Retry | undefined, never, R>

/** The tries that a schedule gives to one record. */
const tries = <E, R>(
  schedule: Schedule.Schedule<unknown, Failure<E>, never, R>
): Effect.Effect<Tries<E, R>, never, R> =>
  Effect.map(Schedule.toStep(schedule), (next) => {
    // asked again after its end a schedule may go on
    let ended = false
    const end = (): undefined => {
      ended = true
      return undefined
    }
    return (failure) => {
      if (ended) return Effect.succeed(undefined)
      const delay = Effect.clockWith((clock) => next(clock.currentTimeMillisUnsafe(), failure))
      return Pull.catchDone(
        // an endless delay would be a record that is never decided about
        Effect.map(delay, ([, after]) =>
          Number.isFinite(Duration.toMillis(after)) ? { _tag: "Retry", after } : end()
        ),
        () => Effect.sync(end)
      )
    }
  })

/** of a record whose step has ended */
const none = () => Effect.succeed(undefined)

export const isRetryable = ({ error }: Failure<unknown>): boolean => !Option.exists(error, isHopeless)

/** An error of Effect's that nobody could classify says no as well: it does not know. */
const isHopeless = (error: unknown): boolean =>
  Predicate.hasProperty(error, "isRetryable") &&
  error.isRetryable === false &&
  !(Predicate.hasProperty(error, "reason") && Predicate.isTagged(error.reason, "UnknownError"))

export const retry = <E = unknown, R = never>(
  schedule: Schedule.Schedule<unknown, Failure<E>, never, R>,
  options?: RetryOptions<E>
): FailureStep<E, R> => {
  const goesOn = options?.while
  const self: FailureStep<E, R> = step((failure) => {
    if (goesOn !== undefined && !goesOn(failure)) {
      failure.memory.set(self, none)
      return none()
    }
    // only this step writes under this key
    const known = failure.memory.get(self) as Tries<E, R> | undefined
    if (known !== undefined) return known(failure)
    return Effect.flatMap(tries(schedule), (first) => {
      failure.memory.set(self, first)
      return first(failure)
    })
  }, false)
  return self
}

export const park = (limits?: ParkLimits): FailureStep<unknown, never> => {
  const answer = Effect.succeed({ _tag: "Park" as const, limits: parkLimits(limits) })
  return step(() => answer, true)
}

export const orElse =
  <E2, R2>(that: FailurePolicy<E2, R2>) =>
  <E, R>(self: FailureStep<E, R>): FailurePolicy<E & E2, R | R2> =>
    policy(
      (failure) =>
        Effect.flatMap(self.step(failure), (answer): Effect.Effect<Decision, never, R2> => {
          if (answer === undefined) return that.decide(failure)
          if (answer._tag === "Retry") return Effect.succeed(answer)
          return Effect.map(that.decide(failure), (next) => ({
            ...answer,
            then: next._tag === "Park" ? next.then : next
          }))
        }),
      self.parks || that.parks === true,
      that.deadLetterTopics ?? []
    )

export const orPark = (limits?: ParkLimits): (<E, R>(self: FailureStep<E, R>) => FailureStep<E, R>) => {
  const that = park(limits)
  return (self) =>
    step(
      (failure) =>
        Effect.flatMap(self.step(failure), (answer) =>
          answer === undefined ? that.step(failure) : Effect.succeed(answer)
        ),
      true
    )
}

type Answer = Decision | Effect.Effect<Decision, never, unknown>

/** Generic in the answer, so that a function may answer with a decision here and with an effect there. */
export const make = <E, const A extends Answer>(
  f: (failure: Failure<E>) => A
): FailurePolicy<E, FailurePolicy.Services<A>> => {
  const decide = (failure: Failure<E>): Effect.Effect<Decision, never, unknown> => {
    const answer: Answer = f(failure)
    return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
  }
  // what the effects among its answers need
  return policy(decide, false, []) as FailurePolicy<E, FailurePolicy.Services<A>>
}
