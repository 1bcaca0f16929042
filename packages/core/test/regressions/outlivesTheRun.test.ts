import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Desk, whileTimePasses } from "../harness.ts"
import { at, scripted } from "../script.ts"

describe("a handler that outlives its run, which ended at its deadline before the grace was over", () => {
  // suspended until the deadline, because the group waits for another member: interrupted at the deadline, and the run is over
  const outlived = (ordering: "unordered" | "partition", concurrency: number) =>
    Effect.gen(function* () {
      const desk = new Desk({
        around: (attempt, wait) => (attempt.record.offset === 0n ? Effect.uninterruptible(wait) : wait)
      })
      const s = yield* scripted({ desk, ordering, concurrency, shutdown: "drain", shutdownTimeout: "4 seconds" })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.revoking([at(0, 1)], { exact: false, hold: 0 })
      yield* whileTimePasses(s.interrupt)
      yield* s.run
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 1)
      return s
    })

  for (const [what, ordering, concurrency] of [
    ["lane", "partition", 5],
    ["permit", "unordered", 1]
  ] as const) {
    it.effect(`gives its ${what} to the next run when it ends, and is reported until then`, () =>
      Effect.gen(function* () {
        const s = yield* outlived(ordering, concurrency)
        assert.deepStrictEqual(s.desk.started, ["0:0"])
        const { reasons } = yield* s.consumer.health
        assert.include(
          reasons.map(({ code }) => code),
          "zombie"
        )
        // no signal follows: nothing else would start the record that waits
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
      })
    )
  }
})
