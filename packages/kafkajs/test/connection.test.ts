/** Brokers that misbehave: servers that speak as much of the protocol as a test needs. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { checkOptions, type Cluster, clusterWire } from "@concurrent-kafka/driver/Driver"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as net from "node:net"
import { openClient } from "../src/internal/client.ts"
import type { Adapted } from "../src/internal/connector.ts"

const [apiVersions, metadata, saslHandshake, saslAuthenticate, produce, initProducerId] = [18, 3, 17, 36, 0, 22]

const int16 = (n: number) => Buffer.from([(n >> 8) & 255, n & 255])
const int32 = (n: number) => {
  const b = Buffer.alloc(4)
  b.writeInt32BE(n)
  return b
}
const text = (value: string) => Buffer.concat([int16(value.length), Buffer.from(value)])

/** ApiVersions v2: what a test needs, each in one version */
const versions = Buffer.concat([
  int16(0),
  int32(6),
  ...[
    [produce, 7],
    [initProducerId, 1],
    [apiVersions, 2],
    [metadata, 6],
    [saslHandshake, 1],
    [saslAuthenticate, 1]
  ].flatMap(([key, version]) => [int16(key!), int16(version!), int16(version!)]),
  int32(0)
])

/** Metadata v6 without brokers and topics */
const noMetadata = Buffer.concat([int32(0), int32(0), int16(-1), int32(-1), int32(0)])
/** Metadata v6 of one broker and no topics */
const metadataOf = (address: string): Buffer => {
  const [host = "", port] = address.split(":")
  const broker = [int32(1), text(host), int32(Number(port)), int16(-1)]
  return Buffer.concat([int32(0), int32(1), ...broker, int16(-1), int32(1), int32(0)])
}
const handshake = Buffer.concat([int16(0), int32(1), text("PLAIN")])
/** SaslAuthenticate v1: well, for as long as you like */
const welcome = Buffer.concat([int16(0), int16(-1), int32(0), Buffer.alloc(8)])

interface Request {
  readonly apiKey: number
  readonly socket: net.Socket
  readonly answer: (body: Buffer) => void
}

interface Server {
  readonly address: string
  readonly sockets: ReadonlySet<net.Socket>
}

const server = (respond: (request: Request) => void) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<Server & { readonly close: () => void }>((resolve) => {
          const sockets = new Set<net.Socket>()
          const listening = net.createServer((socket) => {
            sockets.add(socket)
            socket.on("error", () => undefined)
            socket.on("close", () => sockets.delete(socket))
            let buffered = Buffer.alloc(0)
            socket.on("data", (data) => {
              buffered = Buffer.concat([buffered, data])
              while (buffered.length >= 4 && buffered.length >= 4 + buffered.readInt32BE(0)) {
                const request = buffered.subarray(4, 4 + buffered.readInt32BE(0))
                buffered = buffered.subarray(4 + request.length)
                respond({
                  apiKey: request.readInt16BE(0),
                  socket,
                  answer: (body) => socket.write(Buffer.concat([int32(body.length + 4), request.subarray(4, 8), body]))
                })
              }
            })
          })
          listening.listen(0, "127.0.0.1", () =>
            resolve({
              address: `127.0.0.1:${(listening.address() as net.AddressInfo).port}`,
              sockets,
              close: () => {
                for (const socket of sockets) socket.destroy()
                listening.close()
              }
            })
          )
        })
    ),
    ({ close }) => Effect.sync(close)
  )

const clusterOf = (broker: Server, authenticated = false) =>
  Effect.gen(function* () {
    const sasl = { mechanism: "plain", username: "user", password: Redacted.make("password") } as const
    const options = { brokers: [broker.address], ...(authenticated ? { sasl } : {}) }
    const open = openClient(checkOptions(options), yield* Effect.context<never>())
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

describe("a broker that", () => {
  it.live.each(["closes the connection", "resets the connection", "says nothing"])(
    "%s while it should authenticate has not refused the credentials",
    (how) =>
      Effect.gen(function* () {
        const broker = yield* server(({ answer, apiKey, socket }) => {
          if (apiKey === apiVersions) answer(versions)
          if (apiKey === saslHandshake) answer(handshake)
          if (apiKey !== saslAuthenticate) return
          if (how.startsWith("closes")) socket.end()
          if (how.startsWith("resets")) socket.resetAndDestroy()
        })
        const error = yield* refused(yield* clusterOf(broker, true))
        assert.include(["Connection", "Timeout"], error.reason)
      }).pipe(Effect.scoped),
    10_000
  )

  it.live("refuses to authenticate a second time so soon is asked over another connection", () =>
    Effect.gen(function* () {
      let asked = 0
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === apiVersions) answer(versions)
        // a session of a second: kafkajs authenticates anew before each request; ILLEGAL_SASL_STATE
        if (apiKey === saslHandshake) answer(asked++ === 1 ? Buffer.concat([int16(34), int32(0)]) : handshake)
        if (apiKey === saslAuthenticate) answer(Buffer.concat([welcome.subarray(0, 8), int32(0), int32(1000)]))
        if (apiKey === metadata) answer(noMetadata)
      })
      const cluster = yield* clusterOf(broker, true)
      assert.strictEqual((yield* refused(cluster)).reason, "Connection")
      assert.strictEqual((yield* Effect.promise(() => cluster.refresh([]))).size, 0)
    }).pipe(Effect.scoped)
  )

  it.live("has no SASL where it is asked for it is a matter of the settings", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => {
        if (apiKey === apiVersions) answer(versions)
        if (apiKey === saslHandshake) answer(Buffer.concat([int16(34), int32(0)]))
      })
      assert.strictEqual((yield* refused(yield* clusterOf(broker, true))).reason, "Authentication")
    }).pipe(Effect.scoped)
  )

  it.live.each([
    ["no answer at all in its answer", int32(0)],
    ["an answer of less than nothing", int32(-1)],
    ["an answer of less than nothing, and more", Buffer.concat([int32(-7), Buffer.alloc(32, 255)])]
  ])("sends %s is a broken connection, not the end of the process", ([, bytes]) =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey, socket }) => {
        if (apiKey === apiVersions) answer(versions)
        else socket.write(bytes as Buffer)
      })
      assert.include(["Connection", "Timeout"], (yield* refused(yield* clusterOf(broker))).reason)
    }).pipe(Effect.scoped)
  )

  it.live("was given up is not connected to again by whoever still holds it", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer, apiKey }) => answer(apiKey === apiVersions ? versions : noMetadata))
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
      for (let turns = 0; turns < 100 && broker.sockets.size > 0; turns++) yield* Effect.sleep(5)
      assert.strictEqual(broker.sockets.size, 0)
    }).pipe(Effect.scoped)
  )
})

describe("a producer", () => {
  it.live("asks for metadata and for an identity beside a request whose answer takes long", () =>
    Effect.gen(function* () {
      const arrived = Promise.withResolvers<Request>()
      let busy: net.Socket | undefined
      const broker: Server = yield* server((request) => {
        const { answer, apiKey, socket } = request
        // as a broker does: what comes behind it on its connection waits
        if (socket === busy) return
        if (apiKey === apiVersions) answer(versions)
        if (apiKey === metadata) answer(metadataOf(broker.address))
        // throttle_time_ms error_code producer_id producer_epoch
        if (apiKey === initProducerId) answer(Buffer.concat([int32(0), int16(0), Buffer.alloc(8), int16(5)]))
        if (apiKey !== produce) return
        busy = socket
        arrived.resolve(request)
      })
      const wire = clusterWire(yield* clusterOf(broker), 30_000)
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
    }).pipe(Effect.scoped)
  )

  it.live("that knows no version of the request that the broker has has sent nothing", () =>
    Effect.gen(function* () {
      const broker: Server = yield* server(({ answer, apiKey }) => {
        if (apiKey === apiVersions)
          answer(Buffer.concat([int16(0), int32(1), int16(metadata), int16(6), int16(6), int32(0)]))
        if (apiKey === metadata) answer(metadataOf(broker.address))
      })
      const wire = clusterWire(yield* clusterOf(broker), 30_000)
      const answer = yield* Effect.promise(async () => {
        await wire.metadata([])
        return wire.produce(1, [{ topic: "t", partition: 0, batch: Buffer.alloc(61) }])
      })
      assert.deepInclude(answer, { _tag: "NoAnswer", sent: false })
      assert.strictEqual(answer._tag === "NoAnswer" && answer.error.reason, "UnsupportedClient")
    }).pipe(Effect.scoped)
  )
})

describe("a client", () => {
  it.live("never lets a broker create a topic that it asks for", () =>
    Effect.gen(function* () {
      const broker = yield* server(({ answer }) => answer(versions))
      const cluster = yield* clusterOf(broker)
      const held = yield* Effect.promise(() => cluster.any())
      assert.isFalse(
        ((held as Adapted).inner as unknown as { readonly allowAutoTopicCreation: boolean }).allowAutoTopicCreation
      )
    }).pipe(Effect.scoped)
  )
})
