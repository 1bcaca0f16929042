/**
 * kafkajs as the rest of the driver wants it: a `Broker` on one of its own.
 *
 * A broker is thrown away with its first failure and made anew: reconnecting inside of kafkajs is not exclusive, and two requests at
 * the same time would open two sockets and forget one.
 */
import type { Address, Broker, Connector } from "@concurrent-kafka/driver/Broker"
import { addressText } from "@concurrent-kafka/driver/Driver"
import {
  decodeFetch,
  type Exchange,
  offsetCommitKey,
  offsetCommitOf,
  offsetFetchKey,
  offsetFetchOf
} from "@concurrent-kafka/driver/Protocol"
import { decompress } from "./codecs.ts"
import { classify } from "./kafkaJsErrors.ts"
import { askMetadata } from "./metadata.ts"
import { initProducerId, produce } from "./produce.ts"
import { beatAsStatic, joinAsStatic, syncAsStatic } from "./staticMember.ts"
import { type ConnectionPool, destroyPool, instrument, type KafkaJsBroker, type Parts, type WireCall } from "./wire.ts"

const keepErrors = (data: unknown) => data

/** Answers come back whole, with their error codes; those of Fetch by the driver's own decoder. */
const rewriter =
  (syncTimeout: number) =>
  (call: WireCall): WireCall => {
    switch (call.request.apiName) {
      case "Fetch": {
        const version = call.request.apiVersion
        return {
          ...call,
          response: { decode: async (payload) => decodeFetch(payload, version), parse: keepErrors }
        }
      }
      case "ListOffsets":
      case "Metadata":
      case "OffsetCommit":
      case "OffsetFetch":
      case "GroupCoordinator":
      case "JoinGroup":
      case "Heartbeat":
      case "LeaveGroup":
        return { ...call, response: { decode: call.response.decode, parse: keepErrors } }
      case "SyncGroup":
        // answered when the leader has assigned, or when its session has ended without it
        return { ...call, response: { decode: call.response.decode, parse: keepErrors }, requestTimeout: syncTimeout }
      default:
        return call
    }
  }

/** With what is below it, for tests. */
export interface Adapted extends Broker {
  readonly connectionPool: ConnectionPool
  readonly inner: KafkaJsBroker
}

const adapt = (pool: ConnectionPool, inner: KafkaJsBroker): Adapted => ({
  connectionPool: pool,
  inner,
  address: addressText(pool),
  isConnected: () => inner.isConnected(),
  connect: () => inner.connect(),
  destroy: () => destroyPool(pool),
  metadata: (topics) => askMetadata(inner, topics),
  findGroupCoordinator: ({ groupId }) => inner.findGroupCoordinator({ groupId, coordinatorType: 0 }),
  joinGroup: ({ groupInstanceId, ...args }) =>
    groupInstanceId === undefined ? inner.joinGroup(args) : joinAsStatic(inner, { ...args, groupInstanceId }),
  syncGroup: ({ groupInstanceId, ...args }) =>
    groupInstanceId === undefined ? inner.syncGroup(args) : syncAsStatic(inner, { ...args, groupInstanceId }),
  heartbeat: ({ groupInstanceId, ...args }) =>
    groupInstanceId === undefined ? inner.heartbeat(args) : beatAsStatic(inner, { ...args, groupInstanceId }),
  leaveGroup: (args) => inner.leaveGroup(args),
  offsetCommit: ({ topics, ...rest }) =>
    exchanged(inner, offsetCommitOf({ topics, ...rest }, inner.versions?.[offsetCommitKey])) ??
    inner.offsetCommit({
      ...rest,
      topics: topics.map(({ partitions, topic }) => ({
        topic,
        partitions: partitions.map((p) => ({ ...p, offset: String(p.offset) }))
      }))
    }),
  offsetFetch: async (args) => {
    const exchange = exchanged(inner, offsetFetchOf(args, inner.versions?.[offsetFetchKey]))
    if (exchange !== undefined) return exchange
    const { errorCode, responses } = await inner.offsetFetch(args)
    return { errorCode, responses: responses.map(withOffsets) }
  },
  listOffsets: async (args) => {
    const { responses } = await inner.listOffsets({ ...args, replicaId: -1 })
    return { responses: responses.map(withOffsets) }
  },
  // kafkajs asks in an order of its own, another one each time: nobody is last for long, though not exactly in turn
  fetch: ({ topics, ...rest }) =>
    inner.fetch({
      ...rest,
      replicaId: -1,
      topics: topics.map(({ partitions, topic }) => ({
        topic,
        partitions: partitions.map((p) => ({ ...p, fetchOffset: String(p.fetchOffset) }))
      }))
    }),
  produce: (batches, timeout) => produce(inner, batches, timeout),
  initProducerId: () => initProducerId(inner)
})

/** What kafkajs has no version of. */
const exchanged = <A>(broker: KafkaJsBroker, exchange: Exchange<A> | undefined): Promise<A> | undefined =>
  exchange &&
  (broker.connectionPool.send<A>({
    request: {
      apiKey: exchange.apiKey,
      apiName: exchange.name,
      apiVersion: exchange.version,
      encode: async () => ({ buf: exchange.body, buffer: exchange.body })
    },
    response: { decode: async (answer) => exchange.decode(answer), parse: keepErrors }
  }) as Promise<A>)

const withOffsets = <A extends { readonly offset: string }>(entries: {
  readonly topic: string
  readonly partitions: ReadonlyArray<A>
}) => ({
  topic: entries.topic,
  partitions: entries.partitions.map((p) => ({ ...p, offset: BigInt(p.offset) }))
})

/** `syncTimeout`: milliseconds that a SyncGroup may take. */
export const makeConnector = (bootstrap: ReadonlyArray<Address>, parts: Parts, syncTimeout: number): Connector => {
  let turn = 0
  const rewrite = rewriter(syncTimeout)
  return {
    staticMembership: true,
    groupProtocols: ["classic"],
    open: async (address, id) => {
      const pool = await parts.buildPool(address ?? bootstrap[turn++ % bootstrap.length]!)
      instrument(pool, rewrite)
      return adapt(pool, parts.makeBroker(pool, id))
    },
    classify,
    decompress
  }
}
