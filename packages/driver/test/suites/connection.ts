/** Suite: brokers that misbehave, as servers that speak as much of the protocol as a test needs. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as net from "node:net"
import * as os from "node:os"
import { checkOptions, type Cluster, clusterWire } from "../../src/Driver.ts"
import { type Client, suiteOf } from "../client.ts"
import {
  authenticated,
  handshake,
  inSegments,
  int16,
  int32,
  keys,
  metadataOf,
  nobodyLeft,
  noMetadata,
  onlyMetadata,
  type Request,
  type Server,
  server,
  versions
} from "../servers.ts"

const hasIpv6 = Object.values(os.networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"))

export const clusterOf = (
  client: Client,
  broker: Server,
  authenticated = false
): Effect.Effect<Cluster, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sasl = { mechanism: "plain", username: "user", password: Redacted.make("password") } as const
    const options = { brokers: [broker.address], ...(authenticated ? { sasl } : {}) }
    const open = client.library.open(checkOptions({ ...options, connectTimeout: 1000 }), yield* Effect.context<never>())
    return yield* Effect.acquireRelease(
      Effect.sync(() => open(1000, 0)),
      (cluster) => Effect.sync(() => cluster.close())
    )
  })

export const refused = (cluster: Cluster): Effect.Effect<KafkaClientError> =>
  Effect.promise(() =>
    cluster.refresh([]).then(
      () => Promise.reject(new Error("it was answered")),
      (error: KafkaClientError) => error
    )
  )

export const connection = (client: Client): void => {
  suiteOf(client, "a broker that", () => {
    it.live.skipIf(!hasIpv6)("has an IPv6 address is found by it, and by what the metadata say", () =>
      Effect.gen(function* () {
        const broker: Server = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.metadata) answer(metadataOf(broker.address))
        }, "::1")
        assert.match(broker.address, /^\[::1\]:\d+$/)
        const cluster = yield* clusterOf(client, broker)
        yield* Effect.promise(() => cluster.refresh([]))
        const node = yield* Effect.promise(() => cluster.node(1))
        assert.isTrue(node.isConnected())
        assert.strictEqual(node.address, broker.address)
      })
    )

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
          const error = yield* refused(yield* clusterOf(client, broker, true))
          assert.include(["Connection", "Timeout"], error.reason)
          yield* nobodyLeft(broker)
        }),
      10_000
    )

    it.live("closes the connection when it is asked for a mechanism has not refused it", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey, socket }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.saslHandshake) socket.resetAndDestroy()
        })
        assert.strictEqual((yield* refused(yield* clusterOf(client, broker, true))).reason, "Connection")
      })
    )

    it.live("has no SASL where it is asked for it is a matter of the settings", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.saslHandshake) answer(Buffer.concat([int16(34), int32(0)]))
        })
        assert.strictEqual((yield* refused(yield* clusterOf(client, broker, true))).reason, "Authentication")
      })
    )

    it.live("refuses the credentials ends it for good", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.saslHandshake) answer(handshake)
          // SASL_AUTHENTICATION_FAILED
          if (apiKey === keys.saslAuthenticate) answer(authenticated(58))
        })
        assert.strictEqual((yield* refused(yield* clusterOf(client, broker, true))).reason, "Authentication")
      })
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
        const cluster = yield* clusterOf(client, broker)
        assert.include(["Connection", "Timeout"], (yield* refused(cluster)).reason)
        yield* nobodyLeft(broker)
      })
    )

    // a size that no answer can have, and fewer bytes behind it than the number of an answer takes
    it.live.each(
      [
        [0, 1],
        [0, 3],
        [1, 1],
        [2, 2],
        [3, 3],
        [-1, 1],
        [-7, 3],
        [-0x80000000, 2]
      ].flatMap(([size, behind]) => [undefined, 4, 5].map((cut) => [size!, behind!, cut] as const))
    )("says %d bytes are an answer, sends %d, and cuts them at %s: it is at once a broken connection", (sent) =>
      Effect.gen(function* () {
        const [size, behind, cut] = sent
        const broker = yield* server(({ answer, apiKey, socket }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          else inSegments(socket, Buffer.concat([int32(size), Buffer.alloc(behind, 9)]), cut === undefined ? [] : [cut])
        })
        const cluster = yield* clusterOf(client, broker)
        // not by waiting for what would come next
        assert.strictEqual((yield* refused(cluster)).reason, "Connection")
        yield* nobodyLeft(broker)
      })
    )

    it.live("sends such bytes while it should authenticate has not refused the credentials", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey, socket }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.saslHandshake) answer(handshake)
          if (apiKey === keys.saslAuthenticate) inSegments(socket, Buffer.from([0, 0, 0, 0, 1]), [4])
        })
        assert.strictEqual((yield* refused(yield* clusterOf(client, broker, true))).reason, "Connection")
        yield* nobodyLeft(broker)
      })
    )

    it.live("sends an answer in pieces, wherever they are cut, has answered", () =>
      Effect.gen(function* () {
        let cuts: ReadonlyArray<number> = []
        const broker = yield* server(({ answer, apiKey, correlationId, socket }) => {
          if (apiKey === keys.apiVersions) return answer(versions)
          const whole = Buffer.concat([int32(noMetadata.length + 4), correlationId, noMetadata])
          inSegments(socket, whole, cuts)
        })
        const cluster = yield* clusterOf(client, broker)
        for (const cut of [1, 3, 4, 5, 6, 7, 8, 9]) {
          cuts = [cut]
          assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0, `cut at ${cut}`)
        }
        cuts = Array.from({ length: noMetadata.length + 7 }, (_, i) => i + 1)
        assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0)
        assert.strictEqual(broker.sockets.size, 1, "all over one connection")
      })
    )

    it.live("does not answer in time is asked over another connection, and its late answer is nobody's", () =>
      Effect.gen(function* () {
        let asked = 0
        const broker = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.metadata && ++asked > 1) answer(noMetadata)
        })
        const cluster = yield* clusterOf(client, broker)
        assert.strictEqual((yield* refused(cluster)).reason, "Timeout")
        yield* nobodyLeft(broker)
        assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0)
      })
    )

    it.live("was given up is not connected to again by whoever still holds it", () =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey }) =>
          answer(apiKey === keys.apiVersions ? versions : noMetadata)
        )
        const cluster = yield* clusterOf(client, broker)
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
      })
    )
  })

  suiteOf(client, "a producer over the wire", () => {
    it.live("asks for metadata and for an identity beside a request whose answer takes long", () =>
      Effect.gen(function* () {
        const arrived = Promise.withResolvers<Request>()
        let busy: net.Socket | undefined
        const broker: Server = yield* server((request) => {
          const { answer, apiKey, socket } = request
          // as a broker does: what comes behind it on its connection waits
          if (socket === busy) return
          if (apiKey === keys.apiVersions) answer(versions)
          if (apiKey === keys.metadata) answer(metadataOf(broker.address))
          // throttle_time_ms error_code producer_id producer_epoch
          if (apiKey === keys.initProducerId) answer(Buffer.concat([int32(0), int16(0), Buffer.alloc(8), int16(5)]))
          if (apiKey !== keys.produce) return
          busy = socket
          arrived.resolve(request)
        })
        const wire = clusterWire(yield* clusterOf(client, broker), 30_000)
        const seen = yield* Effect.promise(async () => {
          await wire.metadata([])
          const produced = wire.produce(1, [{ topic: "t", partition: 0, batch: Buffer.alloc(61) }])
          const request = await arrived.promise
          await wire.metadata([])
          const { epoch } = await wire.identify()
          request.answer(Buffer.concat([int32(0), int32(0)]))
          return { epoch, answer: (await produced)._tag }
        })
        assert.deepStrictEqual(seen, { epoch: 5, answer: "Answer" })
      })
    )

    it.live("that knows no version of the request that the broker has has sent nothing", () =>
      Effect.gen(function* () {
        const broker: Server = yield* server(({ answer, apiKey }) => {
          if (apiKey === keys.apiVersions) answer(onlyMetadata(12))
          if (apiKey === keys.metadata) answer(metadataOf(broker.address))
        })
        const wire = clusterWire(yield* clusterOf(client, broker), 30_000)
        const answer = yield* Effect.promise(async () => {
          await wire.metadata([])
          return wire.produce(1, [{ topic: "t", partition: 0, batch: Buffer.alloc(61) }])
        })
        assert.deepInclude(answer, { _tag: "NoAnswer", sent: false })
        assert.strictEqual(answer._tag === "NoAnswer" && answer.error.reason, "UnsupportedClient")
      })
    )
  })

  suiteOf(client, "whoever asks a broker", () => {
    it.live("never lets a broker create a topic that it asks for", () =>
      Effect.gen(function* () {
        const bodies: Array<Buffer> = []
        const broker = yield* server(({ answer, apiKey, body }) => {
          if (apiKey === keys.metadata) bodies.push(body)
          answer(apiKey === keys.apiVersions ? versions : noMetadata)
        })
        const cluster = yield* clusterOf(client, broker)
        yield* Effect.promise(() => cluster.refresh(["topic"]))
        // allow_auto_topic_creation, include_topic_authorized_operations, tagged fields
        assert.deepStrictEqual([...bodies[0]!.subarray(-3)], [0, 0, 0])
        assert.include(bodies[0]!.toString("latin1"), "topic")
      })
    )
  })
}
