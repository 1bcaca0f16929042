import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { world } from "./harness.ts"

describe("snapshots", () => {
  for (const members of [undefined, 2]) {
    it.effect(`the one of now, and then the newest at most so often: ${members ?? "one"} member(s)`, () =>
      Effect.gen(function* () {
        const w = yield* world()
        const a = yield* w.member("a", members === undefined ? {} : { members })
        const seen: Array<readonly [number, number]> = []
        const reader = yield* Effect.forkChild(
          Stream.runForEach(a.consumer.snapshots("1 second"), ({ at, outcomes }) =>
            Effect.sync(() => void seen.push([at, outcomes.handled]))
          )
        )
        yield* TestClock.adjust(0)
        assert.lengthOf(seen, 1)
        const [[first]] = seen as [readonly [number, number]]
        yield* w.produce(3)
        yield* TestClock.adjust(500)
        yield* a.desk.finishAll()
        assert.lengthOf(seen, 1)
        yield* TestClock.adjust(500)
        assert.deepStrictEqual(seen, [
          [first, 0],
          [first + 1_000, 3]
        ])
        yield* TestClock.adjust(2_000)
        assert.deepStrictEqual(seen.slice(2), [
          [first + 2_000, 3],
          [first + 3_000, 3]
        ])
        yield* Fiber.interrupt(reader)
      })
    )
  }

  it.effect("a reader that is slow gets the newest, and not those between", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const a = yield* w.member("a")
      const seen: Array<number> = []
      yield* Effect.forkChild(
        Stream.runForEach(a.consumer.snapshots(), ({ outcomes }) =>
          Effect.andThen(
            Effect.sync(() => void seen.push(outcomes.handled)),
            Effect.sleep(10_000)
          )
        )
      )
      yield* w.produce(2)
      yield* TestClock.adjust(5_000)
      yield* a.desk.finishAll()
      yield* TestClock.adjust(5_250)
      assert.deepStrictEqual(seen, [0, 2])
    })
  )
})
