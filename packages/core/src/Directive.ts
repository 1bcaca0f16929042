/**
 * What a handler decides about its record by itself, instead of its failure policy.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { millis, topicNames } from "./internal/options.ts"
import type { KafkaProducer } from "./KafkaProducer.ts"

const TypeId = "~@concurrent-kafka/core/Directive" as const

/**
 * @since 0.1.0
 */
export declare namespace Directive {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Proto {
    readonly [TypeId]: typeof TypeId
    readonly _tag: "Directive"
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Retry extends Proto {
    readonly kind: "Retry"
    /** Milliseconds. */
    readonly after: number
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Skip extends Proto {
    readonly kind: "Skip"
    readonly reason: string
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface DeadLetter extends Proto {
    readonly kind: "DeadLetter"
    readonly topic: string
    readonly reason: string
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export type Any = Retry | Skip | DeadLetter
  /**
   * What is left of an error type for `onFailure`.
   *
   * @since 0.1.0
   * @category models
   */
  export type Rest<E> = Exclude<E, Any>
  /**
   * What has to be there to carry directives out: a producer where a DeadLetter is among them.
   *
   * @since 0.1.0
   * @category models
   */
  export type Services<E> = [Extract<E, DeadLetter>] extends [never] ? never : KafkaProducer
}

const proto: Directive.Proto = { [TypeId]: TypeId, _tag: "Directive" }

/**
 * A handler decides about its record by failing with one of these. It is carried out without asking the policy, and is taken out
 * of the error type that `onFailure` has to cover. There is none for park and stop: those are the policy's.
 *
 * **Example**
 *
 * ```
 * const audit = Handler.make("audit", (record) =>
 *   record.value === null ? Directive.skip("tombstone") : write(record))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const Directive: {
  /**
   * Runs the handler again after this time; the attempt counts.
   *
   * **Errors**: throws `InvalidOptions`, inside a handler a defect, when it is no finite duration of at least 0 ms.
   */
  readonly retryAfter: (after: Duration.Input) => Effect.Effect<never, Directive.Retry>
  /** The record is done without having been handled: logged with the reason, counted as skipped. No data of it belongs there. */
  readonly skip: (reason: string) => Effect.Effect<never, Directive.Skip>
  /**
   * Sends the record to this topic, with the reason in a header. No data of the record belongs there.
   *
   * **Errors**: throws `InvalidOptions`, inside a handler a defect, when the topic's name cannot be one.
   */
  readonly deadLetter: (topic: string, reason: string) => Effect.Effect<never, Directive.DeadLetter>
  /** Whether a value, for example the error of an exit, is a directive. */
  readonly isDirective: (u: unknown) => u is Directive.Any
} = {
  retryAfter: (after) => Effect.fail({ ...proto, kind: "Retry", after: millis("retryAfter", after, 0, 0) }),
  skip: (reason) => Effect.fail({ ...proto, kind: "Skip", reason }),
  deadLetter: (topic, reason) => {
    topicNames("deadLetter.topic", [topic])
    return Effect.fail({ ...proto, kind: "DeadLetter", topic, reason })
  },
  isDirective: (u): u is Directive.Any => {
    try {
      return Predicate.hasProperty(u, TypeId)
    } catch {
      // anything can be thrown, also what answers no question
      return false
    }
  }
}
