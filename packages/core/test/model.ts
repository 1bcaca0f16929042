/**
 * What the models of the pure modules share: commands are data, made and shrunk by `it.prop`, which prints the shrunk commands and the
 * token that replays them. `arbitrary: { replay: "..." }` in the options of a property plays them again.
 */
import { assert } from "@effect/vitest"
import * as Schema from "effect/Schema"

export const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** A look at two values that costs nothing where they are the same: it is done after each command. */
export const same = (actual: unknown, expected: unknown, what: string): void => {
  if (!Object.is(actual, expected)) assert.deepStrictEqual(actual, expected, what)
}

export const holds = (is: boolean, what: string): void => {
  if (!is) assert.fail(what)
}

/** Numbers without a pattern, from one that was made: for long runs, whose single steps need not be shrunk. */
export const chance = (seed: number): ((n: number) => number) => {
  let state = seed
  return (n) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

/** In another order, by numbers that were made. */
export const shuffled = <A>(items: ReadonlyArray<A>, next: (n: number) => number): Array<A> => {
  const left = [...items]
  for (let i = left.length - 1; i > 0; i--) {
    const j = next(i + 1)
    const item = left[i]!
    left[i] = left[j]!
    left[j] = item
  }
  return left
}
