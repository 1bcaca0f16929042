/** How long a classic member stays in a generation. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { SessionState } from "./state.ts"

/**
 * Waits until the group rebalances; one for each membership.
 *
 * A generation that withheld something (`another`) is followed by another one, which begins with who has given that up. Should that one be
 * gone without anybody noticing, as a static member is, any other begins it. It may change nothing: a static member that is dead claims what
 * it has claimed until its session ends, and its restart may be what others wait for. So each that changes nothing is followed by one after
 * twice the time, up to the session timeout, until a generation withholds nothing.
 *
 * All members wait equally long, and one of them begins first. To the others, too, the generation has lasted longer than anybody may take
 * for what he gives up, which is how they know that nobody has: as long as a hold to hear what has become of its topics (`endGone`), and
 * then the hold.
 */
export const rebalances = (state: SessionState): ((another: boolean) => Effect.Effect<unknown>) => {
  const { heartbeatInterval, revokeTimeout, sessionTimeout } = state.settings
  const longestRelease = 2 * revokeTimeout
  const shortest = longestRelease + 3 * heartbeatInterval
  let pause = shortest
  return (another) =>
    Effect.gen(function* () {
      if (!another) {
        pause = shortest
        return yield* state.rejoin.await
      }
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
      const began = now()
      yield* Effect.timeoutOption(state.rejoin.await, pause)
      if (now() - began > longestRelease) pause = Math.max(shortest, Math.min(sessionTimeout, 2 * pause))
    })
}
