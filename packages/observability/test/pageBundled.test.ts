import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { Here } from "../src/internal/page/assets.ts"
import { page, Reader } from "./pageServer.ts"

describe("the live page without its files", () => {
  it.live("says so once, answers that it is not there, and lets the program begin", () =>
    Effect.gen(function* () {
      const logs: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void logs.push(`${logLevel} ${String(message)}`))
      const { url } = yield* page({ every: "250 millis" }).pipe(
        // as where all modules have become one file, with nothing beside it
        Effect.provideService(Here, "file:///nowhere/main.js"),
        Effect.provideService(Logger.CurrentLoggers, new Set([logger]))
      )
      assert.lengthOf(logs, 1)
      assert.match(logs[0]!, /^Warn the live page at \/kafka answers 503: its files are not there/)
      yield* Effect.promise(async () => {
        for (const [path, status] of [
          ["", 503],
          ["main.js", 404]
        ] as const) {
          const answer = await fetch(url + path, { headers: { connection: "close" } })
          await answer.text()
          assert.strictEqual(answer.status, status, path)
        }
        const reader = new Reader(url)
        await reader.until("frame")
        reader.leave()
      })
      assert.lengthOf(logs, 1)
    })
  )
})
