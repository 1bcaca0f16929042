import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, layer } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import { inject } from "vitest"
import * as Kafka from "../../../test/kafka/kafka.ts"
import { Platformatic } from "../src/index.ts"
import { isSupported } from "./supported.ts"
import { join, settingsOf, unique, until, world } from "../../kafkajs/test/support.ts"

class Secured extends Context.Service<Secured, Kafka.Kafka>()("test/Secured") {
  static readonly layer = Layer.effect(
    Secured,
    Kafka.start({
      own: true,
      sasl: true,
      tls: true
    })
  )
}

/** Joins over the given connection and reads a record back. */
const works = (options: Platformatic.PlatformaticOptions, brokers: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const kafka = yield* world(brokers)
    const topic = yield* kafka.topic(1)
    yield* kafka.send(topic, 0, ["one"])
    const member = yield* join(settingsOf(unique("group"), [topic]))
    yield* until("the record", () => member.records.length === 1)
    assert.strictEqual((yield* member.commit(0, 1n)).outcome, "committed")
  }).pipe(Effect.provide(Platformatic.layer(options)), Effect.scoped)

const refused = (options: Platformatic.PlatformaticOptions) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(Platformatic.layer(options)))), (error) => {
    if (!(error instanceof KafkaClientError)) throw error
    return error
  })

describe.skipIf(!isSupported || !inject("own"))("a Kafka with listeners that ask who is there", () => {
  layer(Secured.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
    const password = (kafka: Kafka.Kafka) => Redacted.make(kafka.sasl!.password)

    it.effect.each(["plain", "scram-sha-256", "scram-sha-512"] as const)("SASL %s", (mechanism) =>
      Effect.gen(function* () {
        const kafka = yield* Secured
        const sasl = { mechanism, username: kafka.sasl!.username, password: password(kafka) }
        yield* works({ brokers: kafka.sasl!.brokers, sasl }, kafka.brokers)
        const error = yield* refused({
          brokers: kafka.sasl!.brokers,
          sasl: { ...sasl, password: Redacted.make("wrong-password") }
        })
        assert.strictEqual(error.reason, "Authentication")
        assert.notInclude(inspect(error, { depth: 9 }), "wrong-password")
      })
    )

    it.effect("SASL oauthbearer, with the token from an Effect; one that fails is the layer's failure", () =>
      Effect.gen(function* () {
        const kafka = yield* Secured
        let asked = 0
        const token = Effect.sync(() => {
          asked++
          return Redacted.make(Kafka.unsecuredToken())
        })
        yield* works({ brokers: kafka.sasl!.brokers, sasl: { mechanism: "oauthbearer", token } }, kafka.brokers)
        assert.isAbove(asked, 1)
        const none = Effect.fail(new KafkaClientError({ reason: "Authentication", detail: "no token today" }))
        const error = yield* refused({ brokers: kafka.sasl!.brokers, sasl: { mechanism: "oauthbearer", token: none } })
        assert.deepInclude(error, { reason: "Authentication", detail: "no token today" })
      })
    )

    it.effect("TLS with a certificate authority of one's own; without it the broker is not trusted", () =>
      Effect.gen(function* () {
        const kafka = yield* Secured
        yield* works({ brokers: kafka.tls!.brokers, ssl: { ca: kafka.tls!.ca } }, kafka.brokers)
        const error = yield* refused({ brokers: kafka.tls!.brokers, ssl: true, connectTimeout: 800 })
        assert.strictEqual(error.reason, "Connection")
        assert.match(error.detail, /certificate/i)
      })
    )

    it.effect("settings from the environment: SASL over TLS, with the certificate on one line", () =>
      Effect.gen(function* () {
        const kafka = yield* Secured
        const plainKafka = yield* world(kafka.brokers)
        const topic = yield* plainKafka.topic(1)
        yield* plainKafka.send(topic, 0, ["one"])
        const env = {
          KAFKA_BOOTSTRAP_SERVERS: ` ${kafka.saslTls!.brokers.join(" , ")}`,
          KAFKA_CLIENT_ID: "from-environment",
          KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
          KAFKA_SSL_CA: kafka.tls!.ca.replaceAll("\n", "\\n"),
          KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
          KAFKA_SASL_USERNAME: kafka.sasl!.username,
          KAFKA_SASL_PASSWORD: kafka.sasl!.password
        }
        yield* Effect.gen(function* () {
          const member = yield* join(settingsOf(unique("group"), [topic]))
          yield* until("the record", () => member.records.length === 1)
        }).pipe(
          Effect.provide(
            Platformatic.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))
          )
        )
      }).pipe(Effect.scoped)
    )
  })
})
