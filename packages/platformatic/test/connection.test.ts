import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { checkOptions, type Cluster } from "@concurrent-kafka/driver/Driver"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { openClient } from "../src/internal/client.ts"
import { int16, int32, keys, noMetadata, type Server, server, text, versions } from "./brokers.ts"
import { isSupported } from "./supported.ts"

const handshake = Buffer.concat([int16(0), int32(1), text("PLAIN")])

const clusterOf = (broker: Server, authenticated = false) =>
  Effect.gen(function* () {
    const sasl = { mechanism: "plain", username: "user", password: Redacted.make("password") } as const
    const options = { brokers: [broker.address], ...(authenticated ? { sasl } : {}) }
    const open = openClient(checkOptions({ ...options, connectTimeout: 2000 }), yield* Effect.context<never>())
    return yield* Effect.acquireRelease(
      Effect.sync(() => open(2000, 0)),
      (cluster) => Effect.sync(() => cluster.close())
    )
  })

const refused = (cluster: Cluster): Effect.Effect<KafkaClientError> =>
  Effect.promise(() =>
    cluster.refresh([]).then(
      () => Promise.reject(new Error("it was answered")),
      (error: KafkaClientError) => error
    )
  )

const nobodyLeft = (broker: Server) =>
  Effect.gen(function* () {
    for (let turns = 0; turns < 200 && broker.sockets.size > 0; turns++) yield* Effect.sleep(5)
    assert.strictEqual(broker.sockets.size, 0)
  })

describe.skipIf(!isSupported)("a broker that", () => {
  it.live.each(["closes the connection", "resets the connection", "says nothing"])(
    "%s while it should authenticate has not refused the credentials",
    (how) =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey, socket }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.saslHandshake) answer(handshake)
          if (apiKey !== keys.saslAuthenticate) return
          if (how.startsWith("closes")) socket.end()
          if (how.startsWith("resets")) socket.resetAndDestroy()
        })
        const error = yield* refused(yield* clusterOf(broker, true))
        assert.include(["Connection", "Timeout"], error.reason)
        yield* nobodyLeft(broker)
      }).pipe(Effect.scoped),
    10_000
  )

  it.live("closes the connection when it is asked for a mechanism has not refused it", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey, socket }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        if (apiKey === keys.saslHandshake) socket.resetAndDestroy()
      })
      assert.strictEqual((yield* refused(yield* clusterOf(broker, true))).reason, "Connection")
    }).pipe(Effect.scoped)
  )

  it.live("has no SASL where it is asked for it is a matter of the settings", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        if (apiKey === keys.saslHandshake) answer(Buffer.concat([int16(34), int32(0)]))
      })
      assert.strictEqual((yield* refused(yield* clusterOf(broker, true))).reason, "Authentication")
    }).pipe(Effect.scoped)
  )

  it.live("refuses the credentials ends it for good", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        if (apiKey === keys.saslHandshake) answer(handshake)
        // SASL_AUTHENTICATION_FAILED
        if (apiKey === keys.saslAuthenticate) answer(Buffer.concat([int16(58), int16(-1), int32(0), Buffer.alloc(8)]))
      })
      assert.strictEqual((yield* refused(yield* clusterOf(broker, true))).reason, "Authentication")
    }).pipe(Effect.scoped)
  )

  it.live.each([
    ["no answer at all in its answer", int32(0)],
    ["an answer of less than nothing", int32(-1)],
    ["an answer of less than nothing, and more", Buffer.concat([int32(-7), Buffer.alloc(32, 255)])],
    ["an answer to what nobody has asked", Buffer.concat([int32(8), int32(0x7ffffff), int32(0)])],
    ["an answer that ends too early", undefined]
  ])("sends %s is a broken connection, not the end of the process", ([, bytes]) =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey, socket }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        else if (bytes === undefined) answer(noMetadata.subarray(0, 6))
        else socket.write(bytes as Buffer)
      })
      const cluster = yield* clusterOf(broker)
      assert.include(["Connection", "Timeout"], (yield* refused(cluster)).reason)
      yield* nobodyLeft(broker)
    }).pipe(Effect.scoped)
  )

  it.live("does not answer in time is asked over another connection, and its late answer is nobody's", () =>
    Effect.gen(function* () {
      let asked = 0
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === keys.apiVersions) answer(versions)
        if (apiKey === keys.metadata && ++asked > 1) answer(noMetadata)
      })
      const cluster = yield* clusterOf(broker)
      assert.strictEqual((yield* refused(cluster)).reason, "Timeout")
      yield* nobodyLeft(broker)
      assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0)
    }).pipe(Effect.scoped)
  )

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
          answer(Buffer.concat([int16(0), int16(-1), int32(0), int32(0), int32(1000)]))
        }
        if (seen.includes("welcome")) again.resolve(welcome)
        else welcome()
      })
      const cluster = yield* clusterOf(broker, true)
      yield* Effect.promise(() => cluster.refresh([]))
      const welcome = yield* Effect.promise(() => again.promise)
      const asked = cluster.refresh([])
      yield* Effect.sleep(50)
      welcome()
      yield* Effect.promise(() => asked)
      assert.deepStrictEqual(seen, ["handshake", "welcome", "metadata", "handshake", "welcome", "metadata"])
    }).pipe(Effect.scoped)
  )

  it.live("is too old for topic ids is told by name", () =>
    Effect.gen(function* () {
      const old = Buffer.concat([int16(0), int32(1), int16(keys.metadata), int16(0), int16(8)])
      const broker = yield* server(({ answer }) => answer(old))
      const error = yield* refused(yield* clusterOf(broker))
      assert.strictEqual(error.reason, "UnsupportedClient")
      assert.include(error.detail, "Metadata")
    }).pipe(Effect.scoped)
  )

  it.live("was given up is not connected to again by whoever still holds it", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => answer(apiKey === keys.apiVersions ? versions : noMetadata))
      const cluster = yield* clusterOf(broker)
      const held = yield* Effect.promise(() => cluster.any())
      cluster.discard(held)
      const again = yield* Effect.promise(() =>
        held.metadata([]).then(
          () => "answered",
          () => "refused"
        )
      )
      assert.strictEqual(again, "refused")
      assert.notStrictEqual(yield* Effect.promise(() => cluster.any()), held)
      cluster.close()
      yield* nobodyLeft(broker)
    }).pipe(Effect.scoped)
  )
})

describe.skipIf(!isSupported)("a client", () => {
  it.live("never lets a broker create a topic that it asks for", () =>
    Effect.gen(function* () {
      const bodies: Array<Buffer> = []
      const broker = yield* server(({ answer, apiKey, body }) => {
        if (apiKey === keys.metadata) bodies.push(body)
        answer(apiKey === keys.apiVersions ? versions : noMetadata)
      })
      const cluster = yield* clusterOf(broker)
      yield* Effect.promise(() => cluster.refresh(["topic"]))
      // allow_auto_topic_creation, include_topic_authorized_operations, tagged fields
      assert.deepStrictEqual([...bodies[0]!.subarray(-3)], [0, 0, 0])
      assert.include(bodies[0]!.toString("latin1"), "topic")
    }).pipe(Effect.scoped)
  )
})
