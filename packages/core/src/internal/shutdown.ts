/**
 * Waiting inside a finalizer. The obvious forms do not work there: a bare `interruptible` wait in the finalizer of a fiber that
 * was interrupted is cut at once, and closing a scope cannot be timed out from inside. Every wait in a finalizer of this library
 * goes through `bounded`, which gives it a fiber of its own.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"

/** At most so many milliseconds; `None` when they were not enough. */
export const bounded = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  millis: number
): Effect.Effect<Option.Option<A>, E, R> => Effect.timeoutOption(Effect.interruptible(effect), Math.max(0, millis))
