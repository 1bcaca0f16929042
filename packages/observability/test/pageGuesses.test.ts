/** Nobody finds the live page's token out by trying, and nobody who has it is kept from using it by those that try. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { TestClock } from "effect/testing"
import { turns } from "../../core/test/harness.ts"
import { Guesses } from "../src/internal/page/guesses.ts"

const token = "sixteen-and-more-letters"
const make = () => new Guesses(Redacted.make(token))

describe("tokens that are tried", () => {
  it.effect("a right one is looked at without delay, any number of times", () =>
    Effect.gen(function* () {
      const guesses = make()
      for (let i = 0; i < 100; i++) assert.strictEqual(yield* guesses.look("a", token), "right")
    })
  )

  it.effect("are four a second, however many connections try, of whatever addresses", () =>
    Effect.gen(function* () {
      const guesses = make()
      let wrong = 0
      let later = 0
      for (let second = 0; second < 10; second++) {
        for (let i = 0; i < 100; i++) {
          yield* Effect.forkChild(
            Effect.map(guesses.look(`address ${i}`, `guess-number-${second}-${i}`), (verdict) => {
              if (verdict === "wrong") wrong++
              else if (verdict === "later") later++
            })
          )
        }
        yield* turns
        yield* TestClock.adjust(1_000)
      }
      assert.strictEqual(wrong, 40)
      assert.isAbove(later, 900)
      // all of them are over a little later
      yield* TestClock.adjust(5_000)
      assert.strictEqual(wrong + later, 1_000)
    })
  )

  it.effect("as fast as one address can hold up another one for a second at most", () =>
    Effect.gen(function* () {
      const guesses = make()
      for (let i = 0; i < 50; i++) yield* Effect.forkChild(guesses.look("a", `guess-number-${i}`))
      yield* turns
      const mine = yield* Effect.forkChild(guesses.look("b", token))
      yield* TestClock.adjust(1_000)
      yield* turns
      assert.deepStrictEqual(mine.pollUnsafe()?._tag === "Success" && (yield* Fiber.join(mine)), "right")
    })
  )

  it.effect("say nothing of whether they are right when they are too many", () =>
    Effect.gen(function* () {
      const guesses = make()
      for (let i = 0; i < 4; i++) yield* Effect.forkChild(guesses.look("a", "a-guess-that-is-wrong"))
      yield* turns
      assert.strictEqual(yield* guesses.look("a", token), "later")
      assert.strictEqual(yield* guesses.look("a", "a-guess-that-is-wrong"), "later")
      yield* TestClock.adjust(250)
      yield* turns
      const next = yield* Effect.forkChild(guesses.look("a", token))
      yield* TestClock.adjust(750)
      assert.strictEqual(yield* Fiber.join(next), "right")
    })
  )

  it.effect("cost their time also when who has sent them has hung up, and give their place back", () =>
    Effect.gen(function* () {
      const guesses = make()
      for (let i = 0; i < 8; i++) {
        const guess = yield* Effect.forkChild(guesses.look("a", "a-guess-that-is-wrong"))
        yield* turns
        guess.interruptUnsafe()
        const waits = yield* Effect.forkChild(guesses.look("a", "a-guess-that-is-wrong"))
        yield* turns
        // that one had not had its turn
        yield* Fiber.interrupt(waits)
        const mine = yield* Effect.forkChild(guesses.look("a", token))
        yield* TestClock.adjust(249)
        assert.isUndefined(mine.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(mine), "right")
      }
      assert.strictEqual(yield* guesses.look("a", token), "right")
    })
  )
})
