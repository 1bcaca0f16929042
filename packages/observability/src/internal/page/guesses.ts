/**
 * Whether a token is the right one, which nobody finds out by trying: a wrong one holds up the next for a while, whoever sends that, and a
 * right one does not. So no more than four a second are looked at, of all together, by whatever number of connections.
 *
 * Who has the token waits behind those that guess, which is not long: few may wait of one address, and not many of all. Who is one too many
 * is told so without a look at what he has, or the answer would say that it was wrong.
 *
 * Invariants, with their tests in `packages/observability/test/pageGuesses.test.ts`: a guess costs its time, also when who made it has hung
 * up; a place is given back in every path; somebody who guesses as fast as he can keeps another address waiting for a second at most.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { createHash, timingSafeEqual } from "node:crypto"

/** what a wrong one costs */
const wrongCosts = "250 millis"
/** that wait for their turn, of one address, and of all */
const mostOfOne = 4
const most = 16

export type Verdict = "right" | "wrong" | "later"

/** equal digests, whatever the lengths: the time says nothing about how much was right */
const same = (a: string, b: string): boolean => {
  const digest = (text: string) => createHash("sha256").update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

export class Guesses {
  private readonly token: Redacted.Redacted<string>
  private readonly turn = Semaphore.makeUnsafe(1)
  /** by address, with the one that has its turn */
  private readonly waiting = new Map<string, number>()
  private all = 0

  constructor(token: Redacted.Redacted<string>) {
    this.token = token
  }

  /** `address`: of who gives it, where that is known. */
  look(address: string, given: string): Effect.Effect<Verdict> {
    return Effect.suspend(() => {
      const ofIt = this.waiting.get(address) ?? 0
      if (ofIt >= mostOfOne || this.all >= most) return Effect.succeed<Verdict>("later")
      this.waiting.set(address, ofIt + 1)
      this.all++
      return Effect.uninterruptibleMask((restore) =>
        Effect.ensuring(
          Effect.andThen(
            restore(this.turn.take(1)),
            Effect.ensuring(
              Effect.suspend(() =>
                same(given, Redacted.value(this.token))
                  ? Effect.succeed<Verdict>("right")
                  : // not to be cut short: who hangs up after a moment without an answer would know that it was wrong, and go on
                    Effect.as(Effect.sleep(wrongCosts), "wrong" as const)
              ),
              this.turn.release(1)
            )
          ),
          Effect.sync(() => this.goes(address))
        )
      )
    })
  }

  private goes(address: string): void {
    this.all--
    const left = this.waiting.get(address)! - 1
    if (left === 0) this.waiting.delete(address)
    else this.waiting.set(address, left)
  }
}
