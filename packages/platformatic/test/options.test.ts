import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Platformatic } from "../src/index.ts"
import { int32, keys, noMetadata, server, versions } from "./brokers.ts"
import { isSupported } from "./supported.ts"

const fromEnvironment = (env: Record<string, string>) =>
  Platformatic.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))

const failure = <E>(layer: Layer.Layer<KafkaClient, E>) => Effect.flip(Effect.scoped(Layer.build(layer)))

describe.skipIf(!isSupported)("the layer", () => {
  it.live("connects with settings from the environment", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => answer(apiKey === keys.apiVersions ? versions : noMetadata))
      const client = yield* Effect.provide(KafkaClient, fromEnvironment({ KAFKA_BOOTSTRAP_SERVERS: broker.address }))
      assert.isTrue(client.enabled)
      assert.strictEqual(client.name, "platformatic")
    }).pipe(Effect.scoped)
  )

  it.effect("that is disabled connects to nothing", () =>
    Effect.gen(function* () {
      assert.isFalse((yield* KafkaClient).enabled)
      assert.isFalse(yield* (yield* KafkaProducer).send([{ topic: "topic", value: new Uint8Array() }]))
    }).pipe(Effect.provide(fromEnvironment({ KAFKA_ENABLED: "false" })))
  )

  it.effect.each([
    [{}, "KAFKA_BOOTSTRAP_SERVERS"],
    [{ KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1", KAFKA_SSL_CA: "pem" }, "KAFKA_SECURITY_PROTOCOL"]
  ])("%j names the variable", ([env, variable]) =>
    Effect.map(failure(fromEnvironment(env as Record<string, string>)), (error) =>
      assert.include(error.message, variable as string)
    )
  )

  it.live("fails after connectTimeout when nobody listens, and says where", () =>
    Effect.gen(function* () {
      const error = yield* failure(Platformatic.layer({ brokers: ["127.0.0.1:1"], connectTimeout: 300 }))
      assert.deepInclude(error, { _tag: "KafkaClientError", reason: "Connection" })
      assert.include(error.message, "127.0.0.1:1")
    })
  )

  it.live.each(["says nothing", "says it very slowly"])(
    "fails after connectTimeout when somebody listens who %s, and leaves no socket",
    (how) =>
      Effect.gen(function* () {
        const broker = yield* server(({ socket }) => how.includes("slowly") && socket.write(int32(1000)))
        const began = performance.now()
        const error = yield* failure(Platformatic.layer({ brokers: [broker.address], connectTimeout: 400 }))
        assert.deepInclude(error, { _tag: "KafkaClientError", reason: "Connection" })
        assert.isBelow(performance.now() - began, 2000)
        for (let turns = 0; turns < 200 && broker.sockets.size > 0; turns++) yield* Effect.sleep(5)
        assert.strictEqual(broker.sockets.size, 0)
      }).pipe(Effect.scoped)
  )
})
