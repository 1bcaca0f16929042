/**
 * What is done about a record whose handling failed.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import type * as Schedule from "effect/Schedule"
import type { Delivery } from "./ConsumerRecord.ts"
import * as policies from "./internal/policies.ts"
import type { KafkaProducer } from "./KafkaProducer.ts"

/**
 * A failed attempt, as a policy sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failure<out E> {
  readonly cause: Cause.Cause<E>
  /**
   * `interrupted`: the handler ended interrupted and nobody of this library asked for it. `defect`: it died; or it did not run, because
   * the session was lost three times while this record ran and the event loop stood still.
   */
  readonly kind: "error" | "defect" | "interrupted"
  /** `None` unless `kind` is `"error"`. */
  readonly error: Option.Option<E>
  /** `1` for the first. */
  readonly attempt: number
  readonly record: Delivery
  /** Milliseconds since 1970. */
  readonly firstFailedAt: number
  /** What the steps of a policy remember of this record from one attempt to the next, within one epoch. */
  readonly memory: Map<object, unknown>
}

/**
 * How many records, and for how long, may be parked in one partition. At the limit of records the one that has been parked longest
 * goes to what comes after parking, at the limit of time each when its own is over. What parked records would stop for good makes one
 * go as well: an offset map that is almost full, `maxUncommitted`, or a partition all of whose held records are parked or wait behind
 * that.
 *
 * @since 0.1.0
 * @category models
 */
export interface ParkLimits {
  /** Records, those that wait behind a parked one of their lane included. Default: 1,000, because they stay in memory. */
  readonly atMost?: number | undefined
  /** Default: 1 hour. */
  readonly atMostFor?: Duration.Input | undefined
}

/**
 * What is to be done about a record.
 *
 * - `Retry`: again after a delay; its permit is free meanwhile, its lane waits.
 * - `Skip`: logged as an error with its cause, counted, done.
 * - `DeadLetter`: sent to another topic, with where it came from and the error in headers; done when the broker has it.
 * - `Park`: given up for this epoch, with its lane behind it, while others go on; needs the offset map.
 * - `Stop`: the consumer ends with this failure; the record stays uncommitted, and the next owner of the partition meets it again.
 *
 * @since 0.1.0
 * @category models
 */
export type Decision = Decision.Retry | Decision.Skip | Decision.DeadLetter | Decision.Park | Decision.Stop

/**
 * @since 0.1.0
 */
export declare namespace Decision {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Retry {
    readonly _tag: "Retry"
    readonly after: Duration.Input
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Skip {
    readonly _tag: "Skip"
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Stop {
    readonly _tag: "Stop"
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface DeadLetter {
    readonly _tag: "DeadLetter"
    readonly topic: string
    /** Goes into a header, cut to 1 KiB. No data of the record belongs here. */
    readonly reason?: string | undefined
    /** When the broker refuses it for good. Default: Stop. */
    readonly then?: Retry | Skip | Stop | undefined
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Park {
    readonly _tag: "Park"
    readonly limits?: ParkLimits | undefined
    /** When a limit is reached. */
    readonly then: Retry | Skip | Stop | DeadLetter
  }
  /**
   * What has to be there to carry a decision out: a producer where a DeadLetter is among them.
   *
   * @since 0.1.0
   * @category models
   */
  export type Services<D> = [
    Extract<D | (D extends { readonly then: infer Then } ? Then : never), { readonly _tag: "DeadLetter" }>
  ] extends [never]
    ? never
    : KafkaProducer
}

/**
 * Part of a policy: it may come to its end without an answer, as a Schedule does, or answer Park without saying what comes after.
 * Close it with `orDeadLetter`, `orSkip`, `orStop` or `orElse`: alone it is not accepted as `onFailure`.
 *
 * @since 0.1.0
 * @category models
 */
export interface FailureStep<in E, out R> extends Pipeable {
  /** `undefined`: it came to its end. */
  readonly step: (failure: Failure<E>) => Effect.Effect<FailureStep.Answer, never, R>
  readonly parks: boolean
}

/**
 * @since 0.1.0
 */
export declare namespace FailureStep {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Answer = Decision.Retry | Omit<Decision.Park, "then"> | undefined
}

/**
 * A total policy: it always answers.
 *
 * @since 0.1.0
 * @category models
 */
export interface FailurePolicy<in E, out R> extends Pipeable {
  /** A defect in it counts as `Stop`. */
  readonly decide: (failure: Failure<E>) => Effect.Effect<Decision, never, R>
  /** Has a park step, and so needs the offset map. What a function of `make` may answer is not known. */
  readonly parks?: boolean
  /**
   * The topics that its dead letters go to: a consumer refuses a policy that names one of its own, because a record would come back
   * as its own dead letter for ever. What a function of `make` may answer is not known; there it is seen when it happens.
   */
  readonly deadLetterTopics?: ReadonlyArray<string>
}

/**
 * @since 0.1.0
 */
export declare namespace FailurePolicy {
  /**
   * What a function's answers need: the effects among them, and a producer where a DeadLetter is among the decisions.
   *
   * @since 0.1.0
   * @category models
   */
  export type Services<Answer> =
    | (Answer extends Effect.Effect<unknown, unknown, infer R> ? R : never)
    | Decision.Services<Answer extends Effect.Effect<infer D, unknown, unknown> ? D : Answer>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeadLetterOptions {
  /** What is done when the broker refuses the dead letter for good. Default: `"stop"`, because skipping would lose the record. A producer that was closed or has died refuses nothing: the consumer stops in any case. */
  readonly refused?: "stop" | "skip" | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface RetryOptions<in E> {
  /**
   * Where it says no the step ends, whatever the schedule would say: what comes after it is asked at once. `FailurePolicy.isRetryable`
   * is one. Default: the schedule alone decides, because it is the one that was asked for.
   */
  readonly while?: ((failure: Failure<E>) => boolean) | undefined
}

/**
 * Makes policies, and the steps that they are put together from.
 *
 * @since 0.1.0
 * @category constructors
 */
export const FailurePolicy: {
  /**
   * Tries again when the schedule says so, and ends when it ends or its delay is not finite. The schedule is given the `Failure`;
   * each record has its tries for itself, anew in each epoch.
   *
   * **Cost**: about 1 us a failed attempt with an exponential schedule; no timer, no fiber.
   */
  readonly retry: <E = unknown, R = never>(
    schedule: Schedule.Schedule<unknown, Failure<E>, never, R>,
    options?: RetryOptions<E>
  ) => FailureStep<E, R>
  /**
   * Whether another attempt may help: no, where the error says of itself that it does not (`isRetryable: false`), as `DecodeError`, a refused
   * `PublishError`, and Effect's own errors do. Those of Effect that could not be classified (reason `UnknownError`) say so too, without
   * knowing it: they are tried again, as are defects and interruptions. For `retry`'s `while`.
   */
  readonly isRetryable: (failure: Failure<unknown>) => boolean
  /**
   * Gives the record up for this epoch, until a limit is reached. What comes after it is decided when the record is parked.
   *
   * **Errors**: throws `InvalidOptions` for a limit that is no integer of at least 1, or no finite duration of at least 1 ms.
   */
  readonly park: (limits?: ParkLimits) => FailureStep<unknown, never>
  /** Every failed record is logged as an error, counted and passed over. */
  readonly skip: FailurePolicy<unknown, never>
  /** The first failed record ends the consumer. */
  readonly stop: FailurePolicy<unknown, never>
  /**
   * Every failed record is sent to this topic.
   *
   * **Errors**: throws `InvalidOptions` when the topic's name cannot be one.
   */
  readonly deadLetter: (topic: string, options?: DeadLetterOptions) => FailurePolicy<unknown, KafkaProducer>
  /** A function that decides, maybe with an effect. Where a DeadLetter is among its answers it needs a producer. */
  readonly make: <E, const Answer extends Decision | Effect.Effect<Decision, never, unknown>>(
    f: (failure: Failure<E>) => Answer
  ) => FailurePolicy<E, FailurePolicy.Services<Answer>>
  /**
   * Sends to this topic what a step has no answer for.
   *
   * **Errors**: throws `InvalidOptions` when the topic's name cannot be one.
   */
  readonly orDeadLetter: (
    topic: string,
    options?: DeadLetterOptions
  ) => <E, R>(self: FailureStep<E, R>) => FailurePolicy<E, R | KafkaProducer>
  /** Skips what a step has no answer for. */
  readonly orSkip: <E, R>(self: FailureStep<E, R>) => FailurePolicy<E, R>
  /** Stops the consumer where a step has no answer. */
  readonly orStop: <E, R>(self: FailureStep<E, R>) => FailurePolicy<E, R>
  /**
   * Parks what a step has no answer for; still a step, because a full park needs what comes after it.
   *
   * **Errors**: throws `InvalidOptions` for a limit that is no integer of at least 1, or no finite duration of at least 1 ms.
   */
  readonly orPark: (limits?: ParkLimits) => <E, R>(self: FailureStep<E, R>) => FailureStep<E, R>
  /**
   * Asks this policy about what a step has no answer for. About a record that is parked it is asked at once, for what comes after
   * parking; when it says Park too, what comes after that Park is taken.
   */
  readonly orElse: <E2, R2>(
    that: FailurePolicy<E2, R2>
  ) => <E, R>(self: FailureStep<E, R>) => FailurePolicy<E & E2, R | R2>
} = {
  retry: policies.retry,
  isRetryable: policies.isRetryable,
  park: policies.park,
  skip: policies.skip,
  stop: policies.stop,
  deadLetter: policies.deadLetter,
  make: policies.make,
  orDeadLetter: (topic, options) => policies.orElse(policies.deadLetter(topic, options)),
  orSkip: policies.orElse(policies.skip),
  orStop: policies.orElse(policies.stop),
  orPark: policies.orPark,
  orElse: policies.orElse
}
