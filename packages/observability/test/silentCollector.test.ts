import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { impatientTracer, silentReceiver } from "./otlp.ts"
import { soon } from "./pageServer.ts"

describe("a collector that takes requests and never answers", () => {
  for (const begins of [false, true]) {
    it.live(
      `costs spans and not memory: requests end after their limit, and no more are made for a while${begins ? ", when it begins to answer, too" : ""}`,
      () =>
        Effect.gen(function* () {
          const logs: Array<string> = []
          const logger = Logger.make(({ message }) => void logs.push(String(message)))
          const to = yield* silentReceiver(begins)
          const tracing = yield* Layer.build(impatientTracer(to.url, "2 seconds")).pipe(
            Effect.provideService(Logger.CurrentLoggers, new Set([logger])),
            Effect.provideService(References.MinimumLogLevel, "Debug")
          )
          const spans = (count: number) =>
            Effect.provideContext(Effect.repeat(Effect.withSpan(Effect.void, "one"), { times: count - 1 }), tracing)
          yield* spans(20)
          assert.isTrue(yield* Effect.promise(() => soon(() => to.asked === 20, 1_900)))
          assert.strictEqual(to.waiting, 20)
          assert.isTrue(yield* Effect.promise(() => soon(() => to.waiting === 0, 20_000)))
          assert.deepStrictEqual(logs, ["Disabling exporter for 60 seconds"])
          yield* spans(20)
          yield* Effect.sleep("200 millis")
          assert.deepStrictEqual([to.asked, to.waiting], [20, 0])
        })
    )
  }
})
