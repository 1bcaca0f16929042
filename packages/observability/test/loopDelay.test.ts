import { LoopDelay } from "@concurrent-kafka/core/Health"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { pass } from "../../core/test/harness.ts"
import { scripted } from "../../core/test/script.ts"
import { type Delays, Monitor } from "../src/internal/loopMonitor.ts"
import { Observability } from "../src/index.ts"
import { valueOf } from "./exposition.ts"
import { endpoints } from "./http.ts"

/** Lets the event loop turn until it is so: Node measures with a timer of its own, which has to have its turns. */
const until = (isSo: (delays: Delays) => boolean) =>
  Effect.gen(function* () {
    const monitor = (yield* Monitor)!
    while (monitor.delays === undefined || !isSo(monitor.delays)) {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
  })

/** The event loop stands still for so long, and it is noticed. */
const block = (millis: number) =>
  Effect.gen(function* () {
    // a first turn, to measure from
    yield* until(() => true)
    const end = performance.now() + millis
    while (performance.now() < end);
    yield* until(({ max }) => max > millis / 2)
  })

describe("the event loop's delay", () => {
  it.effect("is known to consumers and to /metrics while it was in the last minute, and forgotten after it", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      const s = yield* scripted()
      yield* http.registry.register(s.consumer)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* pass(5_000)
      yield* block(1_200)
      const { consumers } = JSON.parse((yield* http.get("/health")).text)
      assert.deepStrictEqual(
        consumers[0].reasons.map(({ code, since }: { code: string; since: string }) => [code, since]),
        [["eventLoopBlocked", "1970-01-01T00:00:05.000Z"]]
      )
      const seconds = Effect.map(http.get("/metrics"), ({ text }) =>
        valueOf(text, "nodejs_eventloop_delay_max_seconds")
      )
      assert.isAtLeast((yield* seconds) ?? 0, 1.1)
      yield* pass(30_000)
      assert.isAtLeast((yield* seconds) ?? 0, 1.1)
      // a busy machine may stand still once more by itself
      const reasons = Effect.map(http.get("/health"), ({ text }) => JSON.parse(text).consumers[0].reasons.length)
      for (let i = 0; i < 60 || (i < 600 && (yield* reasons) > 0); i++) yield* pass(1_000)
      assert.strictEqual(yield* reasons, 0)
      // a minute has passed for the consumer, and maybe not a turn of Node's timer: then there is none
      assert.isBelow((yield* seconds) ?? 0, 1.1)
    }).pipe(Effect.provide(Observability.layerLoopDelay))
  )

  it.effect("is little when nothing stands still: what Node's timer takes by itself is not in it", () =>
    Effect.gen(function* () {
      // where it was, the least would be these 20 ms
      yield* until(({ p50 }) => p50 >= 0 && p50 < 15)
    }).pipe(Effect.provide(Observability.layerLoopDelay))
  )

  it.effect("is measured by nobody without the layer", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      assert.isUndefined(yield* LoopDelay)
      assert.notInclude((yield* http.get("/metrics")).text, "nodejs_eventloop")
    })
  )
})
