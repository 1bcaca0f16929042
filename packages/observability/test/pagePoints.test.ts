/** What the charts of the live page are drawn of, without a browser. */
import { assert, describe, it } from "@effect/vitest"
import { beforeAll } from "vitest"
import { now } from "./topSnapshots.ts"

interface Drawn {
  readonly at: number
  readonly done: number | null
}

interface Points {
  readonly all: () => ReadonlyArray<Drawn>
  readonly push: (raw: object) => void
}

const look = (at: number, done: number) => ({ at, done, failed: 0, retries: 0, p50: 1, p99: 2, wait: 3, lag: 4 })

let makePoints: () => Points
beforeAll(async () => {
  // plain JavaScript, as browsers get it
  const page: { readonly makePoints: () => Points } = await import(new URL("../page/points.js", import.meta.url).href)
  makePoints = page.makePoints
})

describe("points of the charts", () => {
  it("are rates by the look before, with a hole where looks are missing, and once where a look comes twice", () => {
    const points = makePoints()
    for (const [at, done] of [
      [0, 100],
      [1_000, 110],
      // what the first points end with comes again, by a clock that was read a little earlier
      [995, 110],
      [9_000, 200],
      [10_000, 230]
    ] as const) {
      points.push(look(now + at, done))
    }
    assert.deepStrictEqual(
      points.all().map(({ at, done }) => [at - now, done]),
      [
        [0, null],
        [1_000, 10],
        [1_001, null],
        [9_000, null],
        [10_000, 30]
      ]
    )
  })

  it("begin anew when the clock is set back, and are not held up until it has caught up", () => {
    const points = makePoints()
    for (let i = 0; i < 5; i++) points.push(look(now + i * 1_000, i * 10))
    const back = now - 3_600_000
    for (let i = 0; i < 3; i++) points.push(look(back + i * 1_000, 100 + i * 20))
    assert.deepStrictEqual(
      points.all().map(({ at, done }) => [at - back, done]),
      [
        [0, null],
        [1_000, 20],
        [2_000, 20]
      ]
    )
  })
})
