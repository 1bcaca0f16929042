import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { LoopDelay } from "../src/Health.ts"
import { pass } from "./harness.ts"
import { scripted } from "./script.ts"

/** A consumer whose event loop is said to have stood still, as it is told. */
const measured = (options: Parameters<typeof scripted>[0] = {}) =>
  Effect.gen(function* () {
    let longest: ReturnType<LoopDelay["longestUnsafe"]>
    const s = yield* Effect.provideService(scripted(options), LoopDelay, { longestUnsafe: () => longest })
    yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
    const saying = (millis: number, at: number) =>
      Effect.map(
        Effect.suspend(() => {
          longest = { millis, at }
          return s.consumer.health
        }),
        ({ reasons }) => reasons.find(({ code }) => code === "eventLoopBlocked")!
      )
    return { s, saying }
  })

const named = (message: string): ReadonlyArray<string> =>
  [...message.matchAll(/t\/0 @ \d+/g)].map(([one]) => one.slice(6))

describe("a standstill of the event loop", () => {
  it.effect("names the records that were in handlers all the time, also those that have ended since", () =>
    Effect.gen(function* () {
      const { s, saying } = yield* measured({ concurrency: 10 })
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.desk.finish(0, 0)
      // nobody looks at a clock meanwhile: it stands still from 0 to 1.5 s
      yield* pass(1_500)
      yield* s.desk.finish(0, 1)
      yield* s.session.chunk(0, 1, 3, 2)
      const { at, count, message } = yield* saying(1_480, 1_600)
      assert.deepStrictEqual(named(message), ["1", "2"])
      assert.deepStrictEqual({ at, count }, { at: { topic: "t", partition: 0, offset: 1n }, count: 2 })
    })
  )

  it.effect("names those that still run where nothing has happened since", () =>
    Effect.gen(function* () {
      const { s, saying } = yield* measured()
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(2_000)
      assert.deepStrictEqual(named((yield* saying(1_900, 2_000)).message), ["0"])
    })
  )

  it.effect("names none that ran at another time, and five at most", () =>
    Effect.gen(function* () {
      const { s, saying } = yield* measured({ concurrency: 20 })
      yield* s.session.chunk(0, 1, 0, 9)
      yield* pass(3_000)
      yield* s.desk.finishAll()
      yield* pass(20_000)
      const { message } = yield* saying(2_000, 3_000)
      assert.lengthOf(named(message), 5)
      assert.match(message, / and 4 more$/)
      const other = yield* saying(1_100, 15_000)
      assert.deepStrictEqual([named(other.message), other.count, other.at], [[], 1, undefined])
    })
  )
})
