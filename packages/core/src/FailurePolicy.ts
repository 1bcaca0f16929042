/**
 * What is done about a record whose handling failed.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { Delivery } from "./ConsumerRecord.ts"

/**
 * A failed attempt, as a policy sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failure<out E> {
  readonly cause: Cause.Cause<E>
  /** `interrupted`: the handler ended interrupted and nobody of this library asked for it. */
  readonly kind: "error" | "defect" | "interrupted"
  /** `None` unless `kind` is `"error"`. */
  readonly error: Option.Option<E>
  readonly attempt: number
  readonly record: Delivery
  /** Milliseconds since 1970. */
  readonly firstFailedAt: number
}

/**
 * What is to be done. `Skip`: logged as an error, counted, done. `Stop`: the consumer ends with this failure; the record stays
 * uncommitted, and the next owner of the partition meets it again.
 *
 * @since 0.1.0
 * @category models
 */
export type Decision = Decision.Skip | Decision.Stop

/**
 * @since 0.1.0
 */
export declare namespace Decision {
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
}

const policy = <E, R>(decide: FailurePolicy<E, R>["decide"]): FailurePolicy<E, R> => ({
  decide,
  pipe() {
    return pipeArguments(this, arguments)
  }
})

/**
 * Makes policies.
 *
 * @since 0.1.0
 * @category constructors
 */
export const FailurePolicy: {
  /** Every failed record is logged as an error, counted and passed over. */
  readonly skip: FailurePolicy<unknown, never>
  /** The first failed record ends the consumer. */
  readonly stop: FailurePolicy<unknown, never>
  /** A function that decides, maybe with an effect. */
  readonly make: <E, const D extends Decision, R = never>(
    f: (failure: Failure<E>) => D | Effect.Effect<D, never, R>
  ) => FailurePolicy<E, R>
} = {
  skip: policy(() => Effect.succeed({ _tag: "Skip" })),
  stop: policy(() => Effect.succeed({ _tag: "Stop" })),
  make: (f) =>
    policy((failure) => {
      const answer = f(failure)
      return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
    })
}
