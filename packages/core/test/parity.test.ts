/** Scenarios of other libraries' suites (see `test/parity.md`) that no other file has. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { BatchCommitter } from "../src/BatchCommitter.ts"
import { ConsumerSession } from "../src/ConsumerSession.ts"
import { pass } from "./harness.ts"
import { given, later, played } from "./script.ts"

const batch = { batchSize: 100, batchInterval: 10_000 }

/** One record is done and committed when its interval is over; the answer is kept back, and another one is done 2 s later. */
const underWay = Effect.gen(function* () {
  const s = yield* given([2], batch)
  const late = later()
  s.session.answers.push(late.answer)
  yield* s.desk.finish(0, 0)
  yield* pass(10_000)
  yield* pass(2_000)
  yield* s.desk.finish(0, 1)
  const sent = () => s.session.sent.map(({ at }) => at)
  assert.deepStrictEqual(sent(), [10_000])
  return { late, sent }
})

describe("the interval of a record that is done while a commit is under way", () => {
  it.effect("begins when the record is done, not when the commit is answered", () =>
    Effect.gen(function* () {
      const { late, sent } = yield* underWay
      yield* pass(4_000)
      yield* late.give()
      yield* pass(5_999)
      assert.deepStrictEqual(sent(), [10_000])
      yield* pass(1)
      assert.deepStrictEqual(sent(), [10_000, 22_000])
    })
  )

  it.effect("is not waited for again where it is over when the answer comes", () =>
    Effect.gen(function* () {
      const { late, sent } = yield* underWay
      yield* pass(23_000)
      assert.deepStrictEqual(sent(), [10_000])
      yield* late.give()
      assert.deepStrictEqual(sent(), [10_000, 35_000])
    })
  )
})

describe("a committer without anything to commit", () => {
  it.effect("does not look for something again and again", () =>
    Effect.gen(function* () {
      const { sent, session } = yield* played()
      let looked = 0
      const built = yield* Layer.build(
        BatchCommitter.layer(batch).pipe(Layer.provide(Layer.succeed(ConsumerSession, session)))
      )
      const committer = Context.get(built, BatchCommitter)
      const take = () => {
        looked++
        return []
      }
      yield* committer.attach({ take, settled: () => {} })
      for (let minute = 0; minute < 60; minute++) yield* pass(60_000)
      assert.strictEqual(looked, 0)
      committer.advancedUnsafe(1, 0)
      for (let minute = 0; minute < 60; minute++) yield* pass(60_000)
      assert.strictEqual(looked, 1)
      assert.deepStrictEqual(sent, [])
    })
  )
})
