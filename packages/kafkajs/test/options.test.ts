import { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as net from "node:net"
import { KafkaJs } from "../src/index.ts"
import { instrument, openParts } from "../src/internal/wire.ts"
import { settingsOf } from "../../driver/test/members.ts"

const failure = <E>(layer: Layer.Layer<KafkaClient, E>) => Effect.flip(Effect.scoped(Layer.build(layer)))

const fromEnvironment = (env: Record<string, string>) =>
  KafkaJs.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))

const optionOf = (options: unknown) =>
  Effect.map(failure(KafkaJs.layer(options as KafkaJs.KafkaJsOptions)), (error) =>
    error._tag === "InvalidOptions" ? error.option : error.message
  )

const password = Redacted.make("secret")

describe("options", () => {
  it.effect.each([
    [{ brokers: [] }, "brokers"],
    [{ brokers: "localhost:9092" }, "brokers"],
    [{ brokers: ["localhost"] }, "brokers"],
    [{ brokers: ["localhost:0"] }, "brokers"],
    [{ brokers: ["localhost:65536"] }, "brokers"],
    [{ brokers: ["[::1]:9092"] }, "brokers"],
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
        KafkaJs.layer({ brokers: [broker as string] }),
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
      const error = yield* failure(KafkaJs.layer({ brokers: ["a:1"], sasl }))
      assert.notInclude(error.message, "hunter2")
    })
  )
})

const servers = { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" }

describe("settings from the environment", () => {
  it.effect.each([
    [{}, "KAFKA_BOOTSTRAP_SERVERS"],
    [{ KAFKA_BOOTSTRAP_SERVERS: "" }, "KAFKA_BOOTSTRAP_SERVERS"],
    [{ KAFKA_BOOTSTRAP_SERVERS: "localhost" }, "KAFKA_BOOTSTRAP_SERVERS"],
    [{ KAFKA_BOOTSTRAP_SERVERS: "a:1,,b:2" }, "KAFKA_BOOTSTRAP_SERVERS"],
    [{ ...servers, KAFKA_ENABLED: "perhaps" }, "KAFKA_ENABLED"],
    [{ ...servers, KAFKA_SECURITY_PROTOCOL: "TLS" }, "KAFKA_SECURITY_PROTOCOL"],
    [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL" }, "KAFKA_SASL_MECHANISM"],
    [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "GSSAPI" }, "KAFKA_SASL_MECHANISM"],
    [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "PLAIN" }, "KAFKA_SASL_USERNAME"],
    [
      { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "u" },
      "KAFKA_SASL_PASSWORD"
    ],
    [{ ...servers, KAFKA_SASL_MECHANISM: "PLAIN" }, "KAFKA_SECURITY_PROTOCOL"],
    [{ ...servers, KAFKA_SSL_CA: "pem" }, "KAFKA_SECURITY_PROTOCOL"],
    [{ ...servers, KAFKA_SECURITY_PROTOCOL: "SSL", KAFKA_SSL_CERT: "pem" }, "KAFKA_SSL_CERT, KAFKA_SSL_KEY"]
  ])("%j names the variable", ([env, variable]) =>
    Effect.map(failure(fromEnvironment(env as Record<string, string>)), (error) => {
      assert.oneOf(error._tag, ["ConfigError", "InvalidOptions"])
      assert.include(error.message, variable as string)
    })
  )

  it.effect("a client that is disabled connects to nothing, and its sessions never get a signal", () =>
    Effect.gen(function* () {
      const client = yield* KafkaClient
      assert.isFalse(client.enabled)
      const session = yield* client.openSession(settingsOf("group", ["topic"]))
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
      const admin = yield* client.openAdmin
      assert.strictEqual((yield* Effect.flip(admin.partitions(["topic"]))).reason, "Closed")
      const { send } = yield* KafkaProducer
      assert.isFalse(yield* send([{ topic: "topic", value: new Uint8Array() }]))
    }).pipe(Effect.scoped, Effect.provide(fromEnvironment({ KAFKA_ENABLED: "false" })))
  )
})

/** Takes connections and says nothing. */
const silent = Effect.acquireRelease(
  Effect.callback<{ readonly server: net.Server; readonly address: string }>((resume) => {
    const server = net.createServer((socket) => {
      socket.on("error", () => socket.destroy())
      socket.resume()
    })
    server.listen(0, "127.0.0.1", () => {
      resume(Effect.succeed({ server, address: `127.0.0.1:${(server.address() as net.AddressInfo).port}` }))
    })
  }),
  ({ server }) => Effect.sync(() => server.close())
)

const connectionsOf = (server: net.Server) =>
  Effect.callback<number>((resume) => {
    server.getConnections((_, count) => resume(Effect.succeed(count)))
  })

describe("connecting", () => {
  it.live("fails after connectTimeout when nobody listens, and says where", () =>
    Effect.gen(function* () {
      const began = performance.now()
      const error = yield* failure(KafkaJs.layer({ brokers: ["127.0.0.1:1"], connectTimeout: 400 }))
      assert.instanceOf(error, KafkaClientError)
      assert.strictEqual((error as KafkaClientError).reason, "Connection")
      assert.include(error.message, "127.0.0.1:1")
      assert.isAtLeast(performance.now() - began, 390)
      assert.isBelow(performance.now() - began, 2000)
    })
  )

  it.live("fails after connectTimeout when somebody listens who never answers", () =>
    Effect.gen(function* () {
      const { address, server } = yield* silent
      const began = performance.now()
      const error = yield* failure(KafkaJs.layer({ brokers: [address], connectTimeout: 500 }))
      assert.strictEqual((error as KafkaClientError).reason, "Connection")
      assert.isBelow(performance.now() - began, 2000)
      // nothing of the attempt that was given up is left
      const end = performance.now() + 1000
      while ((yield* connectionsOf(server)) > 0) {
        assert.isBelow(performance.now(), end)
        yield* Effect.sleep(5)
      }
    })
  )

  it.live("waits with waitForBroker, and can be interrupted", () =>
    Effect.gen(function* () {
      const layer = KafkaJs.layer({ brokers: ["127.0.0.1:1"], connectTimeout: 100, waitForBroker: true })
      const result = yield* Effect.timeoutOption(Effect.exit(Effect.scoped(Layer.build(layer))), 600)
      assert.strictEqual(result._tag, "None")
    })
  )
})

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
