/** Waits for what heals by itself. */
import * as Effect from "effect/Effect"

/** Milliseconds before the next attempt, after so many failures in a row. */
const pause = (failures: number) => Math.min(5_000, 100 * 2 ** Math.min(failures, 10))

/** Tries until it works, or fails with something that does not heal. Between two attempts it can be interrupted. */
export const patiently = <A, E, R, R2>(
  attempt: Effect.Effect<A, E, R>,
  options: { readonly heals: (error: E) => boolean; readonly onFailure: (error: E) => Effect.Effect<void, never, R2> }
): Effect.Effect<A, E, R | R2> => {
  const from = (failures: number): Effect.Effect<A, E, R | R2> =>
    Effect.catch(attempt, (error) =>
      options.heals(error)
        ? Effect.andThen(
            Effect.andThen(options.onFailure(error), Effect.sleep(pause(failures))),
            Effect.suspend(() => from(failures + 1))
          )
        : Effect.fail(error)
    )
  return from(0)
}
