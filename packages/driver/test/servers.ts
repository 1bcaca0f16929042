/** Brokers that misbehave: servers that speak as much of the protocol as a test needs. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { addressText, parseAddress } from "../src/internal/address.ts"

export const int16 = (n: number): Buffer => {
  const b = Buffer.alloc(2)
  b.writeInt16BE(n)
  return b
}

export const int32 = (n: number): Buffer => {
  const b = Buffer.alloc(4)
  b.writeInt32BE(n)
  return b
}

export const text = (value: string): Buffer => Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)])

export const keys = {
  produce: 0,
  metadata: 3,
  saslHandshake: 17,
  apiVersions: 18,
  initProducerId: 22,
  saslAuthenticate: 36
}

/** ApiVersions: what a test needs, each in one version. */
export const versions = Buffer.concat([
  int16(0),
  int32(6),
  ...[
    [keys.produce, 7],
    [keys.initProducerId, 1],
    [keys.apiVersions, 0],
    [keys.metadata, 12],
    [keys.saslHandshake, 1],
    [keys.saslAuthenticate, 1]
  ].flatMap(([key, version]) => [int16(key!), int16(version!), int16(version!)])
])

/** Metadata v12 of no brokers and no topics, with the end of its header */
export const noMetadata = Buffer.concat([
  Buffer.from([0]),
  int32(0),
  Buffer.from([1, 0]),
  int32(-1),
  Buffer.from([1, 0])
])

/** Metadata v12 of one broker and no topics */
export const metadataOf = (address: string): Buffer => {
  const { host, port } = parseAddress(address)!
  const name = Buffer.concat([Buffer.from([host.length + 1]), Buffer.from(host)])
  // rack, tagged fields
  const broker = [int32(1), name, int32(port), Buffer.from([0, 0])]
  return Buffer.concat([
    Buffer.from([0]),
    int32(0),
    Buffer.from([2]),
    ...broker,
    Buffer.from([0]),
    int32(1),
    Buffer.from([1, 0])
  ])
}

/** ApiVersions of a broker that has nothing but Metadata, up to this version. */
export const onlyMetadata = (version: number): Buffer =>
  Buffer.concat([int16(0), int32(1), int16(keys.metadata), int16(0), int16(version)])

/** SaslHandshake v1 that offers a mechanism */
export const handshake = Buffer.concat([int16(0), int32(1), text("PLAIN")])

/** SaslAuthenticate v1 with an error code, or none, and a session of so many milliseconds; 0: without an end */
export const authenticated = (errorCode: number, session = 0): Buffer =>
  Buffer.concat([int16(errorCode), int16(-1), int32(0), int32(0), int32(session)])

export interface Request {
  readonly apiKey: number
  readonly apiVersion: number
  readonly socket: net.Socket
  readonly body: Buffer
  /** what an answer to it begins with */
  readonly correlationId: Buffer
  readonly answer: (body: Buffer) => void
}

/** Writes in pieces that end at these places, with time in between for the other side to read them one by one. */
export const inSegments = (socket: net.Socket, bytes: Buffer, cuts: ReadonlyArray<number>): void => {
  const [end = bytes.length, ...rest] = cuts
  socket.write(bytes.subarray(0, end))
  if (end === bytes.length) return
  const others = rest.map((cut) => cut - end)
  setTimeout(() => inSegments(socket, bytes.subarray(end), others), 2)
}

export interface Server {
  readonly address: string
  readonly sockets: ReadonlySet<net.Socket>
}

export const server = (
  respond: (request: Request) => void,
  host = "127.0.0.1"
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Server & { readonly close: () => void }>((resume) => {
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
              apiVersion: request.readInt16BE(2),
              socket,
              // behind the client id
              body: request.subarray(10 + request.readInt16BE(8)),
              correlationId: request.subarray(4, 8),
              answer: (body) => {
                // the library asks for versions in version 1 before it authenticates, which ends with a throttle time
                const isLater = request.readInt16BE(0) === keys.apiVersions && request.readInt16BE(2) > 0
                const whole = isLater ? Buffer.concat([body, int32(0)]) : body
                socket.write(Buffer.concat([int32(whole.length + 4), request.subarray(4, 8), whole]))
              }
            })
          }
        })
      })
      listening.listen(0, host, () =>
        resume(
          Effect.succeed({
            address: addressText({ host, port: (listening.address() as net.AddressInfo).port }),
            sockets,
            close: () => {
              for (const socket of sockets) socket.destroy()
              listening.close()
            }
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )

/** Waits until a server has no connection left. */
export const nobodyLeft = (broker: Server): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let turns = 0; turns < 200 && broker.sockets.size > 0; turns++) yield* Effect.sleep(5)
    assert.strictEqual(broker.sockets.size, 0)
  })
