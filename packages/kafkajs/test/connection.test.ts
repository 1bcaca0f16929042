import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  authenticated,
  handshake,
  int16,
  int32,
  keys,
  noMetadata,
  server,
  versions
} from "../../driver/test/servers.ts"
import { clusterOf, connection, refused } from "../../driver/test/suites/connection.ts"
import type { Adapted } from "../src/internal/connector.ts"
import { client } from "./client.ts"

connection(client)

describe("kafkajs", () => {
  it.live(
    "authenticates anew before a request: a broker to which that is too soon is asked over another connection",
    () =>
      Effect.gen(function* () {
        let asked = 0
        const broker = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          // ILLEGAL_SASL_STATE
          if (apiKey === keys.saslHandshake) answer(asked++ === 1 ? Buffer.concat([int16(34), int32(0)]) : handshake)
          if (apiKey === keys.saslAuthenticate) answer(authenticated(0, 1000))
          if (apiKey === keys.metadata) answer(noMetadata)
        })
        const cluster = yield* clusterOf(client, broker, true)
        assert.strictEqual((yield* refused(cluster)).reason, "Connection")
        assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0)
      })
  )

  it.live("lets no old broker, which it asks itself, create a topic either", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer }) => answer(versions))
      const cluster = yield* clusterOf(client, broker)
      const held = yield* Effect.promise(() => cluster.any())
      assert.isFalse(
        ((held as Adapted).inner as unknown as { readonly allowAutoTopicCreation: boolean }).allowAutoTopicCreation
      )
    })
  )
})
