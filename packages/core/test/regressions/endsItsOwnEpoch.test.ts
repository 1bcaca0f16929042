import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { ConcurrentConsumerShape } from "../../src/ConcurrentConsumer.ts"
import { Handler } from "../../src/Handler.ts"
import { turns, ended } from "../harness.ts"
import { scripted } from "../script.ts"

describe("a handler that seeks its own partition before it waits for the first time", () => {
  for (const then of ["waits", "goes on"] as const) {
    it.effect(`is interrupted as any other of the epoch that it ended, when it ${then}`, () =>
      Effect.gen(function* () {
        const built: { consumer?: ConcurrentConsumerShape } = {}
        let sought = false
        let running = 0
        const handler = Handler.make("t", () =>
          Effect.suspend(() => {
            if (sought) return Effect.void
            sought = true
            running++
            const seek = Effect.orDie(built.consumer!.seek({ topic: "t", partition: 0 }, 5n))
            return Effect.onExit(
              then === "waits"
                ? Effect.andThen(seek, Effect.never)
                : Effect.asVoid(Effect.forkDetach(seek, { startImmediately: true })),
              () => Effect.sync(() => void running--)
            )
          })
        )
        const s = yield* scripted({ handler, idle: true })
        built.consumer = s.consumer
        yield* s.run
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.chunk(0, 1, 0, 1)
        yield* turns
        assert.strictEqual(running, 0)
        const { fenced, held, outcomes, permits, released } = yield* s.consumer.snapshot
        assert.deepStrictEqual(outcomes, ended({}))
        assert.strictEqual(released, 1)
        assert.strictEqual(held.records, 0)
        assert.strictEqual(permits.used, 0)
        if (then === "goes on") assert.strictEqual(fenced, 1)
        yield* s.session.chunk(0, 1001, 5, 6)
        assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 1)
      })
    )
  }
})
