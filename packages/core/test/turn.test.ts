import { assert, describe, it } from "@effect/vitest"
import type { RunState } from "../src/internal/state.ts"
import { Turn } from "../src/internal/turn.ts"

/** A turn whose starts take so long each, and how many looks at the clock it has needed. */
const startsOf = (takes: (start: number) => number, turns = 1) => {
  let now = 0
  let looks = 0
  let starts = 0
  const run = { now: () => now, ticks: () => (looks++, now), lateLooks: undefined } as unknown as RunState
  const turn = new Turn(run)
  let longest = 0
  for (let i = 0; i < turns; i++) {
    turn.begins()
    turn.enters()
    const began = now
    while (!turn.isOver()) now += takes(starts++)
    longest = Math.max(longest, now - began)
  }
  return { starts, looks: looks / turns, longest }
}

describe("a turn of the pump", () => {
  it("is over after 100 starts that take no time, at the cost of few looks at the clock", () => {
    const { looks, starts } = startsOf(() => 0)
    assert.strictEqual(starts, 100)
    assert.isAtMost(looks, 18)
  })

  it("is over after 2 ms", () => {
    assert.closeTo(startsOf(() => 0.1).longest, 2, 0.8)
  })

  it("is not over by the time that passes between its calls, before there were eight", () => {
    let now = 0
    const turn = new Turn({ now: () => now, ticks: () => now, lateLooks: undefined } as unknown as RunState)
    const over: Array<boolean> = []
    for (let i = 0; i < 8; i++) {
      turn.enters()
      over.push(turn.isOver())
      now += 1_000
    }
    assert.deepStrictEqual(over, [false, false, false, false, false, false, false, true])
  })

  it("is over after the first handler that computes for 50 ms", () => {
    assert.deepInclude(
      startsOf(() => 50, 10),
      { starts: 10, longest: 50 }
    )
  })

  it("lets few of them run one after another where only some compute", () => {
    assert.isAtMost(startsOf((start) => (start % 2 === 0 ? 0 : 50), 50).longest, 100)
  })
})
