import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { FailurePolicy } from "../../src/FailurePolicy.ts"
import { Handler } from "../../src/Handler.ts"
import { turns } from "../harness.ts"
import { scripted } from "../script.ts"

describe("F1: the log of a skipped record", () => {
  it.effect("says where in the code it failed, and holds no line of the message, whatever that looks like", () =>
    Effect.gen(function* () {
      const handler = Handler.make("t", () =>
        Effect.sync(() => {
          throw new TypeError("cannot read this:\n    at 4111 1111 1111 1111\n    at home (/secret/place.ts:1:1)")
        })
      )
      const s = yield* scripted({ handler, policy: FailurePolicy.skip })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* turns
      const lines = s.logs.filter((line) => line.includes("skipped a record"))
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], "TypeError at ")
      assert.include(lines[0], "logsOfFailures.test.ts")
      assert.notInclude(lines[0], "4111")
      assert.notInclude(lines[0], "secret")
    })
  )
})
