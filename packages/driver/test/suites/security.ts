/** Suite: a Kafka with listeners that ask who is there, and with rules about who may do what. */
import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { assert, layer } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as References from "effect/References"
import kafkajs from "kafkajs"
import { inspect } from "node:util"
import * as Kafka from "../../../../test/kafka/kafka.ts"
import type { ClientOptions } from "../../src/ClientOptions.ts"
import { certificateOf } from "../certificate.ts"
import { type Client, ownSuiteOf } from "../client.ts"
import { join, settingsOf, unique, until } from "../members.ts"
import { world } from "../operator.ts"

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs

/** The client that the broker knows by its certificate. */
const known = { name: "known-client", ...certificateOf("known-client") }

class Secured extends Context.Service<Secured, Kafka.Kafka>()("test/Secured") {
  static readonly layer = Layer.effect(
    Secured,
    Kafka.start({
      own: true,
      sasl: true,
      tls: true,
      properties: {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        // whoever comes without a name: the broker itself, and the operator of the tests
        "super.users": "User:ANONYMOUS",
        // asks for a certificate, and takes those who have none
        "listener.name.tls.ssl.client.auth": "requested",
        "listener.name.tls.ssl.truststore.type": "PEM",
        "listener.name.tls.ssl.truststore.certificates": known.cert.replaceAll("\n", "\\n")
      }
    })
  )
}

export const security = (client: Client): void => {
  /** Joins over the given connection and reads a record back. */
  const works = (options: ClientOptions, brokers: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const kafka = yield* world(brokers)
      const topic = yield* kafka.topic(1)
      yield* kafka.send(topic, 0, ["one"])
      const member = yield* join(settingsOf(unique("group"), [topic]))
      yield* until("the record", () => member.records.length === 1)
      assert.strictEqual((yield* member.commit(0, 1n)).outcome, "committed")
    }).pipe(Effect.provide(client.layer(options)), Effect.scoped)

  const refused = (options: ClientOptions) =>
    Effect.map(Effect.flip(Effect.scoped(Layer.build(client.layer(options)))), (error) => {
      if (!(error instanceof KafkaClientError)) throw error
      return error
    })

  /** Of whoever joins for this topic. The broker has written its rules, and goes by them a moment later. */
  const refusal = (topic: string) =>
    Effect.retry(Effect.flip(Effect.scoped(join(settingsOf(unique("group"), [topic])))), {
      times: 50,
      schedule: Schedule.spaced(100)
    })

  ownSuiteOf(client, "a Kafka with listeners that ask who is there", () => {
    layer(Secured.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
      const password = (kafka: Kafka.Kafka) => Redacted.make(kafka.sasl!.password)
      const asUser = (kafka: Kafka.Kafka) =>
        client.layer({
          brokers: kafka.sasl!.brokers,
          sasl: { mechanism: "plain", username: kafka.sasl!.username, password: password(kafka) }
        })
      /** What that user may do, or not, or another one. */
      const rule = (
        kafka: Kafka.Kafka,
        resourceType: number,
        resourceName: string,
        operation: number,
        permissionType: number,
        user = kafka.sasl!.username
      ) => ({
        resourceType,
        resourceName,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: `User:${user}`,
        host: "*",
        operation,
        permissionType
      })

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
          const error = yield* refused({
            brokers: kafka.sasl!.brokers,
            sasl: { mechanism: "oauthbearer", token: none }
          })
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

      it.effect(
        "TLS with a certificate of the client: it is who the rules are about, and one of a stranger is refused",
        () =>
          Effect.gen(function* () {
            const kafka = yield* Secured
            const withCertificate = ({ cert, key }: typeof known | ReturnType<typeof certificateOf>) => ({
              brokers: kafka.tls!.brokers,
              ssl: { ca: kafka.tls!.ca, cert, key: Redacted.make(key) }
            })
            yield* works(withCertificate(known), kafka.brokers)
            const operator = yield* world(kafka.brokers)
            const topic = yield* operator.topic(1)
            const { DENY } = AclPermissionTypes
            const denied = rule(
              kafka,
              AclResourceTypes.TOPIC,
              topic,
              AclOperationTypes.DESCRIBE,
              DENY,
              `CN=${known.name}`
            )
            yield* operator.promise(() => operator.admin.createAcls({ acl: [denied] }))
            const error = yield* refusal(topic).pipe(Effect.provide(client.layer(withCertificate(known))))
            assert.strictEqual(error.reason, "Authorization")
            const stranger = yield* refused({ ...withCertificate(certificateOf("stranger")), connectTimeout: 800 })
            assert.strictEqual(stranger.reason, "Connection")
          }).pipe(Effect.scoped)
      )

      it.effect("an admin asks over SASL and TLS", () =>
        Effect.gen(function* () {
          const kafka = yield* Secured
          const operator = yield* world(kafka.brokers)
          const topic = yield* operator.topic(1)
          yield* operator.send(topic, 0, ["one", "two"])
          const groupId = unique("group")
          yield* Effect.gen(function* () {
            const member = yield* join(settingsOf(groupId, [topic]))
            yield* until("the records", () => member.records.length === 2)
            assert.strictEqual((yield* member.commit(0, 1n, "noted")).outcome, "committed")
            const admin = yield* (yield* KafkaClient).openAdmin
            const [partition] = yield* admin.partitions([topic])
            assert.deepInclude(partition, { topic, partition: 0 })
            assert.deepInclude((yield* admin.logOffsets([{ topic, partition: 0 }]))[0], { start: 0n, end: 2n })
            const [committed] = yield* admin.committed(groupId, [{ topic, partition: 0 }])
            assert.deepInclude(committed, { offset: 1n, metadata: "noted" })
          }).pipe(
            Effect.scoped,
            Effect.provide(
              client.layer({
                brokers: kafka.saslTls!.brokers,
                ssl: { ca: kafka.tls!.ca },
                sasl: { mechanism: "scram-sha-256", username: kafka.sasl!.username, password: password(kafka) }
              })
            )
          )
        }).pipe(Effect.scoped)
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
              client.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))
            )
          )
        }).pipe(Effect.scoped)
      )

      it.effect("no password, token, key, value or header is in any log line, whatever the level", () =>
        Effect.gen(function* () {
          const kafka = yield* Secured
          const lines: Array<string> = []
          const recorder = Logger.make((entry) => {
            lines.push(
              inspect([entry.message, entry.cause, entry.fiber.getRef(References.CurrentLogAnnotations)], { depth: 9 })
            )
          })
          const markers = ["marker-key", "marker-value", "marker-header", kafka.sasl!.password]
          yield* Effect.gen(function* () {
            const plainKafka = yield* world(kafka.brokers)
            const topic = yield* plainKafka.topic(1)
            const producer = yield* KafkaProducer
            const text = new TextEncoder()
            const marked = {
              topic,
              key: text.encode("marker-key"),
              value: text.encode("marker-value"),
              headers: [["name", text.encode("marker-header")]] as const
            }
            yield* producer.send([marked])
            const large = text.encode("marker-value".padEnd(1_200_000))
            const error = yield* Effect.flip(producer.send([{ ...marked, value: large }]))
            lines.push(inspect(error, { depth: 9 }))
            const member = yield* join(settingsOf(unique("group"), [topic]))
            yield* until("the record", () => member.records.length === 1)
            yield* member.commit(0, 1n, "marker-metadata")
            yield* Effect.sleep(800)
          }).pipe(
            Effect.provide(asUser(kafka)),
            Effect.scoped,
            Effect.provide(Layer.mergeAll(Logger.layer([recorder]), Layer.succeed(References.MinimumLogLevel, "Trace")))
          )
          assert.isAbove(lines.length, client.logs ? 20 : 0)
          for (const marker of [...markers, "marker-metadata"]) {
            assert.isFalse(
              lines.some((line) => line.includes(marker) || line.includes(Buffer.from(marker).toString("base64"))),
              marker
            )
          }
        })
      )

      it.effect("what may not be written is refused, and what else was in the send is stored", () =>
        Effect.gen(function* () {
          const kafka = yield* Secured
          const operator = yield* world(kafka.brokers)
          const [unseen, unwritable, free] = [
            yield* operator.topic(1),
            yield* operator.topic(1),
            yield* operator.topic(1)
          ]
          yield* operator.promise(() =>
            operator.admin.createAcls({
              acl: [
                rule(kafka, AclResourceTypes.TOPIC, unseen, AclOperationTypes.DESCRIBE, AclPermissionTypes.DENY),
                rule(kafka, AclResourceTypes.TOPIC, unwritable, AclOperationTypes.DESCRIBE, AclPermissionTypes.ALLOW)
              ]
            })
          )
          yield* Effect.gen(function* () {
            const { send } = yield* KafkaProducer
            const value = new TextEncoder().encode("v")
            const error = yield* Effect.flip(send([unseen, free, unwritable].map((topic) => ({ topic, value }))))
            assert.deepInclude(error, { reason: "refused", code: "TOPIC_AUTHORIZATION_FAILED", isRetryable: false })
            assert.deepStrictEqual(error.unconfirmed, [0, 2])
            const member = yield* join(settingsOf(unique("group"), [free]))
            yield* until("the record", () => member.records.length === 1)
          }).pipe(Effect.scoped, Effect.provide(asUser(kafka)))
        }).pipe(Effect.scoped)
      )

      it.effect("what is forbidden fails for good: the topic's name, its records, the group", () =>
        Effect.gen(function* () {
          const kafka = yield* Secured
          const operator = yield* world(kafka.brokers)
          const [unseen, unread, free] = [yield* operator.topic(1), yield* operator.topic(1), yield* operator.topic(1)]
          yield* operator.send(unread, 0, ["one"])
          const group = unique("forbidden")
          const { ALLOW, DENY } = AclPermissionTypes
          yield* operator.promise(() =>
            operator.admin.createAcls({
              acl: [
                rule(kafka, AclResourceTypes.TOPIC, unseen, AclOperationTypes.DESCRIBE, DENY),
                rule(kafka, AclResourceTypes.TOPIC, unread, AclOperationTypes.DESCRIBE, ALLOW),
                rule(kafka, AclResourceTypes.GROUP, group, AclOperationTypes.READ, DENY)
              ]
            })
          )
          yield* Effect.gen(function* () {
            const error = yield* refusal(unseen)
            assert.strictEqual(error.reason, "Authorization")
            assert.include(error.detail, unseen)
            for (const settings of [settingsOf(unique("group"), [unread]), settingsOf(group, [free])]) {
              const member = yield* join(settings)
              yield* until("the inbox has failed", () => member.ended !== undefined)
              assert.deepInclude(member.ended, { reason: "Authorization" })
            }
          }).pipe(Effect.scoped, Effect.provide(asUser(kafka)))
        }).pipe(Effect.scoped)
      )
    })
  })
}
