import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { suiteOf } from "../../driver/test/client.ts"
import {
  authenticated,
  handshake,
  keys,
  noMetadata,
  onlyMetadata,
  server,
  versions
} from "../../driver/test/servers.ts"
import { clusterOf, connection, refused } from "../../driver/test/suites/connection.ts"
import { client } from "./client.ts"

connection(client)

suiteOf(client, "a broker that, to @platformatic/kafka,", () => {
  it.live("authenticates anew is sent nothing else until it has", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const again = Promise.withResolvers<() => void>()
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        if (apiKey === keys.saslHandshake) {
          seen.push("handshake")
          answer(handshake)
        }
        if (apiKey === keys.metadata) {
          seen.push("metadata")
          answer(noMetadata)
        }
        if (apiKey !== keys.saslAuthenticate) return
        // a session of a second: the library authenticates anew after 800 ms
        const welcome = () => {
          seen.push("welcome")
          answer(authenticated(0, 1000))
        }
        if (seen.includes("welcome")) again.resolve(welcome)
        else welcome()
      })
      const cluster = yield* clusterOf(client, broker, true)
      yield* Effect.promise(() => cluster.refresh([]))
      const welcome = yield* Effect.promise(() => again.promise)
      const asked = cluster.refresh([])
      yield* Effect.sleep(50)
      welcome()
      yield* Effect.promise(() => asked)
      assert.deepStrictEqual(seen, ["handshake", "welcome", "metadata", "handshake", "welcome", "metadata"])
    })
  )

  it.live("is too old for topic ids is told by name", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer }) => answer(onlyMetadata(8)))
      const error = yield* refused(yield* clusterOf(client, broker))
      assert.strictEqual(error.reason, "UnsupportedClient")
      assert.include(error.detail, "Metadata")
    })
  )
})
