/** Waiting for what is going to be, with a deadline: a test never sleeps for luck. */
import { Duration, Effect, Exit } from "effect"
import { inspect } from "node:util"

const between: Duration.Input = "50 millis"

/**
 * Reads until the condition holds, and gives back what was read then. What fails while it is read (a broker that is away) is
 * read again. Past the deadline it dies and says what was waited for and what was there instead.
 */
export const until = <A, E, R>(
  what: string,
  read: Effect.Effect<A, E, R>,
  is: (a: A) => boolean,
  within: Duration.Input = "30 seconds"
): Effect.Effect<A, never, R> =>
  Effect.gen(function* () {
    const end = performance.now() + Duration.toMillis(within)
    while (true) {
      const exit = yield* Effect.exit(read)
      if (Exit.isSuccess(exit) && is(exit.value)) return exit.value
      if (performance.now() > end) {
        const last = Exit.isSuccess(exit)
          ? inspect(exit.value, { depth: 4, breakLength: 120 }).slice(0, 2000)
          : String(exit.cause)
        return yield* Effect.die(
          new Error(`not within ${Duration.format(Duration.fromInputUnsafe(within))}: ${what}; last seen: ${last}`)
        )
      }
      yield* Effect.sleep(between)
    }
  })
