/**
 * The inner parts of kafkajs 2.2.4 that the driver stands on, and how it gets them.
 *
 * kafkajs hands every partition assigner the cluster object of its consumer. From there come two functions: one that builds
 * the pair of connections to a broker, and one that makes a `Broker` (ApiVersions, SASL, encoding, answers by correlation
 * id) out of them. The driver uses these two and nothing above them: membership and fetching are its own, because those of
 * kafkajs cannot wait before a rejoin, commit on their own, forget positions, and stop for good where waiting is enough.
 *
 * **The seam**: every request of a `Broker` goes through `connectionPool.send({ request, response })`. `instrument` replaces
 * the `parse` of the answers (it throws the first error of any partition in place of the whole answer) and the decoder of
 * Fetch (it converts each record, loses the order of headers, and knows nothing of where a batch ends).
 */
import { createRequire } from "node:module"
import kafkajs from "kafkajs"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Broker } from "@concurrent-kafka/driver/Broker"

export interface WireRequest {
  readonly apiKey: number
  readonly apiName: string
  readonly apiVersion: number
  readonly encode: () => Promise<{ readonly buf: Buffer; readonly buffer: Buffer }>
}

export interface WireCall {
  readonly request: WireRequest
  readonly response: {
    readonly decode: (payload: Buffer) => Promise<unknown>
    readonly parse: (data: unknown) => unknown
  }
  readonly requestTimeout?: number | null
  readonly logResponseError?: boolean
}

interface RequestQueue {
  pending: ReadonlyArray<unknown>
  scheduleCheckPendingRequests: () => void
  rejectAll: (error: Error) => void
  destroy: () => void
}

interface Connection {
  readonly requestQueue: RequestQueue
  readonly isConnected: () => boolean
  readonly connect: () => Promise<unknown>
  readonly disconnect: () => Promise<boolean>
  send: (call: WireCall) => Promise<unknown>
  processData: (data: Buffer) => void
  readonly socket?: { readonly destroyed: boolean; readonly destroy: (error?: Error) => void }
}

export interface ConnectionPool {
  readonly host: string
  readonly port: number
  readonly pool: ReadonlyArray<Connection>
  send: <A>(call: WireCall) => Promise<A>
  getConnection: (index?: number) => Promise<Connection>
}

export interface KafkaJsMetadata {
  readonly brokers: ReadonlyArray<{ readonly nodeId: number; readonly host: string; readonly port: number }>
  readonly topicMetadata: ReadonlyArray<{
    readonly topicErrorCode: number
    readonly topic: string
    readonly partitionMetadata: ReadonlyArray<{ readonly partitionId: number; readonly leader: number }>
  }>
}

/** Offsets are texts to kafkajs. */
type WithTexts<A> = A extends bigint ? string : A extends Buffer ? A : { readonly [K in keyof A]: WithTexts<A[K]> }

/** A broker of kafkajs; what the answers hold is given by `instrument`: error codes instead of thrown errors. */
export interface KafkaJsBroker {
  readonly connectionPool: ConnectionPool
  readonly versions: Record<number, { readonly minVersion: number; readonly maxVersion: number }> | null
  readonly isConnected: () => boolean
  readonly connect: () => Promise<void>
  readonly metadata: (topics: ReadonlyArray<string>) => Promise<KafkaJsMetadata>
  readonly findGroupCoordinator: (args: {
    readonly groupId: string
    readonly coordinatorType: number
  }) => ReturnType<Broker["findGroupCoordinator"]>
  readonly joinGroup: Broker["joinGroup"]
  readonly syncGroup: Broker["syncGroup"]
  readonly heartbeat: Broker["heartbeat"]
  readonly leaveGroup: Broker["leaveGroup"]
  readonly offsetCommit: (args: WithTexts<Parameters<Broker["offsetCommit"]>[0]>) => ReturnType<Broker["offsetCommit"]>
  readonly offsetFetch: (
    args: Parameters<Broker["offsetFetch"]>[0]
  ) => Promise<WithTexts<Awaited<ReturnType<Broker["offsetFetch"]>>>>
  readonly listOffsets: (
    args: Parameters<Broker["listOffsets"]>[0] & { readonly replicaId: number }
  ) => Promise<WithTexts<Awaited<ReturnType<Broker["listOffsets"]>>>>
  readonly fetch: (
    args: WithTexts<Parameters<Broker["fetch"]>[0]> & { readonly replicaId: number }
  ) => ReturnType<Broker["fetch"]>
}

/** What is asked instead of, or done with, a request on its way out. */
export type Rewrite = (call: WireCall) => WireCall

export interface Parts {
  readonly buildPool: (destination: { readonly host: string; readonly port: number }) => Promise<ConnectionPool>
  readonly makeBroker: (pool: ConnectionPool, nodeId: number | undefined) => KafkaJsBroker
}

/** what the cluster of a consumer has inside */
interface HandedOver {
  readonly rootLogger: unknown
  readonly connectionPoolBuilder?: { readonly build?: Parts["buildPool"] }
  readonly brokerPool?: {
    readonly createBroker?: (args: {
      readonly connectionPool: ConnectionPool
      readonly logger: unknown
      readonly nodeId: number | null
    }) => KafkaJsBroker
  }
}

const unsupported = (detail: string) => new KafkaClientError({ reason: "UnsupportedClient", detail })

export const supportedVersion = "2.2.4"

const installedVersion = (): string => {
  try {
    return String(createRequire(import.meta.url)("kafkajs/package.json").version)
  } catch {
    return "unknown"
  }
}

/** Throws `KafkaClientError` (`UnsupportedClient`) when kafkajs is not the one whose inner parts are known. */
export const openParts = (
  config: ConstructorParameters<typeof kafkajs.Kafka>[0],
  version = installedVersion()
): Parts => {
  if (version !== supportedVersion) {
    throw unsupported(`kafkajs ${version} is installed; this driver works with exactly ${supportedVersion}`)
  }
  let cluster: HandedOver | undefined
  new kafkajs.Kafka(config).consumer({
    groupId: "unused",
    // kafkajs's own default is true: asking for a topic that was deleted would bring it back
    allowAutoTopicCreation: false,
    partitionAssigners: [
      (given) => {
        cluster = given.cluster as unknown as HandedOver
        return {
          name: "unused",
          version: 0,
          assign: () => Promise.resolve([]),
          protocol: () => ({ name: "unused", metadata: Buffer.alloc(0) })
        }
      }
    ]
  })
  const build = cluster?.connectionPoolBuilder?.build
  const create = cluster?.brokerPool?.createBroker
  if (typeof build !== "function" || typeof create !== "function") {
    throw unsupported("kafkajs does not hand its cluster to partition assigners as version 2.2.4 does")
  }
  return {
    buildPool: (destination) => build(destination),
    makeBroker: (pool, nodeId) => create({ connectionPool: pool, logger: cluster!.rootLogger, nodeId: nodeId ?? null })
  }
}

const saslAuthenticate = 36

/** How an attempt to authenticate that broke off begins, in contrast to one that the broker has refused. */
export const brokeOff = "the authentication broke off"

/**
 * Makes the answers of this pool whole (see the head of the file), and mends four things:
 * - Two requests that find the connection closed both open one; the socket of the first is forgotten and stays open. Here
 *   they open it together.
 * - After each answer `scheduleCheckPendingRequests` sets a timer of `-1 - Date.now()` when nothing is throttled, of which
 *   Node warns. With nothing pending there is nothing to check.
 * - Whatever goes wrong while it authenticates is to kafkajs an authentication that failed. A broker that is shut down in
 *   the middle of it has refused nothing.
 * - Bytes that are no answer (a size of 0, or below it) make it throw into the socket, where nobody catches: the process ends.
 */
export const instrument = (pool: ConnectionPool, rewrite: Rewrite): void => {
  const connections = pool?.pool
  if (
    typeof pool?.send !== "function" ||
    typeof pool.getConnection !== "function" ||
    !Array.isArray(connections) ||
    connections.some(
      (c) =>
        typeof c?.requestQueue?.scheduleCheckPendingRequests !== "function" ||
        typeof c.disconnect !== "function" ||
        typeof c.send !== "function" ||
        typeof c.processData !== "function"
    )
  ) {
    throw unsupported("the connections of kafkajs do not look like those of version 2.2.4")
  }
  const send = pool.send.bind(pool)
  pool.send = (call) => send(rewrite(call))
  const connecting = new Map<number, Promise<unknown>>()
  pool.getConnection = async (index = 0) => {
    const connection = connections[index]!
    while (!connection.isConnected()) {
      if (!connecting.has(index)) {
        connecting.set(
          index,
          connection.connect().finally(() => connecting.delete(index))
        )
      }
      await connecting.get(index)
    }
    return connection
  }
  for (const connection of connections as ReadonlyArray<Connection>) {
    const sendAlone = connection.send.bind(connection)
    connection.send = async (call) => {
      try {
        return await sendAlone(call)
      } catch (error) {
        const { message, type } = error as { readonly message?: string; readonly type?: string }
        if (call.request.apiKey !== saslAuthenticate || type === "SASL_AUTHENTICATION_FAILED") throw error
        throw new Error(`${brokeOff}: ${message}`, { cause: error })
      }
    }
    const processData = connection.processData.bind(connection)
    connection.processData = (data) => {
      try {
        processData(data)
      } catch {
        connection.socket?.destroy(new Error("the broker sent what is no answer"))
      }
    }
    const { requestQueue } = connection
    const original = requestQueue.scheduleCheckPendingRequests
    requestQueue.scheduleCheckPendingRequests = function (this: RequestQueue) {
      if (this.pending.length > 0) original.call(this)
    }
  }
}

/** How kafkajs is told that the driver itself has closed a connection; nobody needs to read of it in the log. */
export const givenUp = "the connection was given up"

/**
 * Closes the connections of a pool now: waiting requests fail, sockets and timers go. kafkajs's own `disconnect` would wait
 * for the answers to what is under way, which a JoinGroup may take a minute for.
 */
export const destroyPool = (pool: ConnectionPool): void => {
  const reason = new Error(givenUp)
  // who still holds this broker would open a connection that nobody knows of
  pool.getConnection = () => Promise.reject(reason)
  for (const connection of pool.pool) {
    try {
      connection.requestQueue.rejectAll(reason)
    } catch {
      // a request in an unexpected state: the connection is closed all the same
    }
    const connected = connection.isConnected()
    connection.requestQueue.destroy()
    const socket = connection.socket
    // with an error while it still connects: only that makes kafkajs clear its connection timer
    if (socket && !socket.destroyed) socket.destroy(connected ? undefined : reason)
    connection.disconnect().catch(() => undefined)
  }
}
