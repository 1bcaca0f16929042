import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { pass, turns } from "../harness.ts"
import { outcomes, scripted } from "../script.ts"

describe("C15: a request without an answer, of an epoch that was sought away", () => {
  it.effect("may be applied over what the new epoch has committed: that is committed once more", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 5)
      s.session.answers.push(outcomes("retriable", "NO_ANSWER"))
      yield* s.desk.finish(0, 0)
      yield* turns
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      yield* s.consumer.seek({ topic: "t", partition: 0 }, 50n)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=50"])
      yield* pass(29_000)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=50"])
      yield* pass(2000)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=50", "0=50"])
    })
  )
})
