import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import { Boom, Desk, ended, pass } from "./harness.ts"
import { at, scripted } from "./script.ts"

describe("a lane that a parked record and its zombie hold", () => {
  it.effect("is not parked in the next epoch: who waits there for the zombie counts to no park limit", () =>
    Effect.gen(function* () {
      const desk = new Desk({
        around: ({ record }, wait) => (record.epoch === 1 && record.offset === 0n ? Effect.uninterruptible(wait) : wait)
      })
      const s = yield* scripted({
        desk,
        ordering: "key",
        handler: Handler.make("t", desk.handle).pipe(Handler.timeout(1_000)) as unknown as Handler<Boom, never>,
        policy: FailurePolicy.make(() => ({
          _tag: "Park" as const,
          limits: { atMost: 5 },
          then: { _tag: "Skip" as const }
        }))
      })
      const partition = Effect.map(s.consumer.snapshot, ({ partitions }) => partitions[0])
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.keyed(0, 1, 0, ["a", "a"])
      // its time, and the grace after it
      yield* pass(1_000)
      yield* pass(1_000)
      assert.deepInclude(yield* partition, { parked: 1, zombies: 1, buffered: 1 })
      yield* s.session.lost(at(0, 1))

      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.keyed(0, 2, 0, ["a", "a", "a", "a", "a", "b"])
      assert.deepStrictEqual(desk.running, ["0:0", "0:5"])
      yield* desk.end(0, 5, Exit.fail(new Boom()))
      // five wait for the zombie, and none of them for what is parked
      assert.deepInclude(yield* partition, { parked: 1, buffered: 5 })
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({}))

      yield* desk.finish(0, 0)
      assert.deepStrictEqual(desk.running, ["0:0"])
      yield* desk.end(0, 0, Exit.fail(new Boom()))
      // two, and four behind one of them: one too many; then one and four
      assert.deepInclude(yield* partition, { parked: 1, buffered: 4 })
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ skipped: 1 }))
    })
  )
})
