import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import { options } from "../../driver/test/suites/options.ts"
import { instrument, openParts } from "../src/internal/wire.ts"
import { client } from "./client.ts"

options(client)

describe("the client library", () => {
  it.each<unknown>([{}, { send: Math.max }, { send: Math.max, getConnection: Math.max, pool: [{}] }])(
    "connections that look otherwise are refused: %j",
    (pool) => {
      try {
        instrument(pool as never, (call) => call)
        assert.fail("they were taken")
      } catch (error) {
        assert.instanceOf(error, KafkaClientError)
        assert.strictEqual((error as KafkaClientError).reason, "UnsupportedClient")
      }
    }
  )

  it("another version than 2.2.4 is refused", () => {
    try {
      openParts({ brokers: ["a:1"] }, "2.2.5")
      assert.fail("it was taken")
    } catch (error) {
      assert.instanceOf(error, KafkaClientError)
      assert.strictEqual((error as KafkaClientError).reason, "UnsupportedClient")
      assert.include((error as KafkaClientError).detail, "2.2.5")
    }
  })
})
