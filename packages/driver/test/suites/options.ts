/** Suite: the layers of a client, their settings, and what they do where nobody answers. */
import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import { assert, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type { ClientOptions } from "../../src/ClientOptions.ts"
import { type Client, nameOf, suiteOf } from "../client.ts"
import { settingsOf } from "../members.ts"
import { int32, keys, nobodyLeft, noMetadata, server, versions } from "../servers.ts"

const failure = <E>(layer: Layer.Layer<KafkaClient, E>) => Effect.flip(Effect.scoped(Layer.build(layer)))

const password = Redacted.make("secret")
const servers = { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" }

export const options = (client: Client): void => {
  const fromEnvironment = (env: Record<string, string>) =>
    client.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))
  const optionOf = (options: unknown) =>
    Effect.map(failure(client.layer(options as ClientOptions)), (error) =>
      error._tag === "InvalidOptions" ? error.option : error.message
    )
  /** What a consumer finds that is built on the layer. */
  const found = Effect.gen(function* () {
    yield* KafkaClient
    return yield* OffsetMap.Zstd
  }).pipe(
    Effect.provide(client.layerConfig),
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { KAFKA_ENABLED: "false" } })))
  )

  suiteOf(client, "options", () => {
    it.effect.each([
      [{ brokers: [] }, "brokers"],
      [{ brokers: "localhost:9092" }, "brokers"],
      [{ brokers: ["localhost"] }, "brokers"],
      [{ brokers: ["localhost:0"] }, "brokers"],
      [{ brokers: ["localhost:65536"] }, "brokers"],
      // without brackets nobody can tell where the address ends
      [{ brokers: ["::1:9092"] }, "brokers"],
      [{ brokers: ["[::1]"] }, "brokers"],
      [{ brokers: ["[kafka]:9092"] }, "brokers"],
      [{ brokers: ["[::1]:65536"] }, "brokers"],
      [{ brokers: ["kafka://localhost:9092"] }, "brokers"],
      [{ brokers: ["a:1"], clientId: "" }, "clientId"],
      [{ brokers: ["a:1"], connectTimeout: 0 }, "connectTimeout"],
      [{ brokers: ["a:1"], connectTimeout: "soon" }, "connectTimeout"],
      [{ brokers: ["a:1"], deliveryTimeout: "10 millis" }, "deliveryTimeout"],
      [{ brokers: ["a:1"], deliveryTimeout: "Infinity" }, "deliveryTimeout"],
      [{ brokers: ["a:1"], ssl: { cert: "x" } }, "ssl"],
      [{ brokers: ["a:1"], sasl: { mechanism: "gssapi" } }, "sasl.mechanism"],
      [{ brokers: ["a:1"], sasl: { mechanism: "plain", username: "", password } }, "sasl.username"],
      [{ brokers: ["a:1"], sasl: { mechanism: "plain", username: "u", password: "secret" } }, "sasl.password"]
    ])("%j is refused by name", ([options, name]) =>
      Effect.map(optionOf(options), (option) => assert.strictEqual(option, name as string))
    )

    it.effect.each([
      ["sasl://user:hunter2@h:9092", "h:9092"],
      ["user:hunter2@h:9092", "h:9092"],
      ["hunter2@h:9092", "h:9092"],
      ["sasl://user:hun@ter2@h:9092/", "h:9092/"],
      // a comma in it has cut it in two
      ["sasl://user:hunter2", "sasl://..."],
      ["kafka://h:9092", "kafka://h:9092"],
      ["h:port", "h:port"]
    ])("what stands before the host of an address is not shown: %s", ([broker, shown]) =>
      Effect.gen(function* () {
        for (const layer of [
          client.layer({ brokers: [broker as string] }),
          fromEnvironment({ KAFKA_BOOTSTRAP_SERVERS: broker as string })
        ]) {
          const error = yield* failure(layer)
          if (error._tag !== "InvalidOptions") return assert.fail(error.message)
          assert.strictEqual(error.value, shown)
          assert.notMatch(error.message, /hun|ter2|user/)
        }
      })
    )

    it.effect("a password that is not Redacted is not shown", () =>
      Effect.gen(function* () {
        const sasl = { mechanism: "plain", username: "u", password: "hunter2" } as never
        const error = yield* failure(client.layer({ brokers: ["a:1"], sasl }))
        assert.notInclude(error.message, "hunter2")
      })
    )
  })

  suiteOf(client, "settings from the environment", () => {
    it.effect.each([
      [{}, "KAFKA_BOOTSTRAP_SERVERS", "host:port"],
      [{ KAFKA_BOOTSTRAP_SERVERS: "" }, "KAFKA_BOOTSTRAP_SERVERS", "host:port"],
      [{ KAFKA_BOOTSTRAP_SERVERS: "localhost" }, "KAFKA_BOOTSTRAP_SERVERS", "host:port"],
      [{ KAFKA_BOOTSTRAP_SERVERS: "a:1,,b:2" }, "KAFKA_BOOTSTRAP_SERVERS", "host:port"],
      [{ ...servers, KAFKA_ENABLED: "perhaps" }, "KAFKA_ENABLED", "false"],
      [{ ...servers, KAFKA_SECURITY_PROTOCOL: "TLS" }, "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"],
      [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL" }, "KAFKA_SASL_MECHANISM", "SCRAM-SHA-256"],
      [
        { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "GSSAPI" },
        "KAFKA_SASL_MECHANISM",
        "SCRAM-SHA-256"
      ],
      [
        { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "PLAIN" },
        "KAFKA_SASL_USERNAME",
        "name"
      ],
      [
        { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "u" },
        "KAFKA_SASL_PASSWORD",
        "password"
      ],
      [{ ...servers, KAFKA_SASL_MECHANISM: "PLAIN" }, "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"],
      [{ ...servers, KAFKA_SSL_CA: "pem" }, "KAFKA_SECURITY_PROTOCOL", "SSL"],
      [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SSL", KAFKA_SSL_CERT: "pem" }, "KAFKA_SSL_CERT, KAFKA_SSL_KEY", "both"]
    ] as const)("%j names the variable, and what is accepted", ([env, variable, accepted]) =>
      Effect.map(failure(fromEnvironment(env)), (error) => {
        assert.oneOf(error._tag, ["ConfigError", "InvalidOptions"])
        assert.include(error.message, variable)
        assert.include(error.message, accepted)
      })
    )

    it.effect("a client that is disabled connects to nothing, and its sessions never get a signal", () =>
      Effect.gen(function* () {
        const kafka = yield* KafkaClient
        assert.isFalse(kafka.enabled)
        const session = yield* kafka.openSession(settingsOf("group", ["topic"]))
        assert.isFalse(session.enabled)
        yield* session.join
        const part = { topic: "topic", partition: 0, epoch: 1 }
        session.beginUnsafe([{ ...part, offset: 0n }])
        session.pauseUnsafe([part])
        session.resumeUnsafe([part])
        assert.isUndefined(session.reopenUnsafe(part))
        assert.strictEqual(session.generationUnsafe(), -1)
        assert.deepStrictEqual(yield* session.commit([{ ...part, offset: 1n, metadata: "" }]), [
          { ...part, outcome: "stale", code: "EPOCH" }
        ])
        yield* session.leave
        assert.strictEqual(Queue.sizeUnsafe(session.inbox), 0)
        const admin = yield* kafka.openAdmin
        assert.strictEqual((yield* Effect.flip(admin.partitions(["topic"]))).reason, "Closed")
        const { send } = yield* KafkaProducer
        assert.isFalse(yield* send([{ topic: "topic", value: new Uint8Array() }]))
      }).pipe(Effect.scoped, Effect.provide(fromEnvironment({ KAFKA_ENABLED: "false" })))
    )

    it.live("connects with settings from the environment", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey }) =>
          answer(apiKey === keys.apiVersions ? versions : noMetadata)
        )
        const kafka = yield* Effect.provide(KafkaClient, fromEnvironment({ KAFKA_BOOTSTRAP_SERVERS: broker.address }))
        assert.isTrue(kafka.enabled)
        assert.strictEqual(kafka.name, nameOf(client))
      })
    )
  })

  suiteOf(client, "connecting", () => {
    it.live("fails after connectTimeout when nobody listens, and says where", () =>
      Effect.gen(function* () {
        const began = performance.now()
        const error = yield* failure(client.layer({ brokers: ["127.0.0.1:1"], connectTimeout: 400 }))
        assert.instanceOf(error, KafkaClientError)
        assert.strictEqual((error as KafkaClientError).reason, "Connection")
        assert.include(error.message, "127.0.0.1:1")
        assert.isAtLeast(performance.now() - began, 390)
        assert.isBelow(performance.now() - began, 2000)
      })
    )

    it.live.each(["says nothing", "says it very slowly"])(
      "fails after connectTimeout when somebody listens who %s, and leaves no socket",
      (how) =>
        Effect.gen(function* () {
          const broker = yield* server(({ socket }) => how.includes("slowly") && socket.write(int32(1000)))
          const began = performance.now()
          const error = yield* failure(client.layer({ brokers: [broker.address], connectTimeout: 400 }))
          assert.deepInclude(error, { _tag: "KafkaClientError", reason: "Connection" })
          assert.isBelow(performance.now() - began, 2000)
          yield* nobodyLeft(broker)
        })
    )

    it.live("waits with waitForBroker, and can be interrupted", () =>
      Effect.gen(function* () {
        const layer = client.layer({ brokers: ["127.0.0.1:1"], connectTimeout: 100, waitForBroker: true })
        const result = yield* Effect.timeoutOption(Effect.exit(Effect.scoped(Layer.build(layer))), 600)
        assert.strictEqual(result._tag, "None")
      })
    )
  })

  suiteOf(client, "the layer", () => {
    it.effect("brings what long offset maps are compressed with", () =>
      Effect.gen(function* () {
        const zstd = yield* found
        // every other record is done, up to 4,000
        const runs = Array.from({ length: 2000 }, (_, i) => [2 * i + 1, 2 * i + 2]).flat()
        const place = { topic: "orders", partition: 3, base: 100n }
        const plain = OffsetMap.encode({ ...place, runs, limit: 4096 }).metadata
        const { metadata } = OffsetMap.encode({ ...place, runs, limit: 4096, zstd })
        assert.isBelow(metadata.length, plain.length / 4)
        assert.deepStrictEqual(OffsetMap.decode(metadata, { ...place, trust: "own", zstd }), {
          _tag: "Map",
          map: { base: 100n, length: 4000, runs },
          own: true
        })
      })
    )

    it.effect("decompresses no more than it is told to", () =>
      Effect.gen(function* () {
        const zstd = yield* found
        if (zstd === undefined) return assert.fail("Node has none")
        const packed = zstd.compress(new Uint8Array(10_000))
        assert.strictEqual(zstd.decompress(packed, 10_000).length, 10_000)
        assert.throws(() => zstd.decompress(packed, 9_999))
      })
    )

    it.effect("leaves a program its own compressor", () =>
      Effect.gen(function* () {
        const own: OffsetMap.Zstd = { compress: (bytes) => bytes, decompress: (bytes) => bytes }
        assert.strictEqual(yield* Effect.provideService(found, OffsetMap.Zstd, own), own)
      })
    )
  })
}
