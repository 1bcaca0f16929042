import { ConsumerSession } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { inject } from "vitest"
import { suiteOf } from "../../driver/test/client.ts"
import { staticMembers } from "../../driver/test/suites/staticMembers.ts"
import { client } from "./client.ts"

staticMembers(client, "classic")
staticMembers(client, "consumer")

suiteOf(client, "a client without the consumer protocol", () => {
  it.live("is refused when the layer is built", () =>
    Effect.gen(function* () {
      const session = ConsumerSession.layer({ groupId: "group", topics: ["topic"], groupProtocol: "consumer" })
      const layer = Layer.provide(session, client.layer({ brokers: inject("brokers") }))
      const error = yield* Effect.flip(Layer.build(layer))
      assert.instanceOf(error, KafkaClientError)
      assert.deepInclude(error, { reason: "UnsupportedClient" })
      assert.include(error.message, 'groupProtocol "consumer"')
    }).pipe(Effect.scoped)
  )
})
