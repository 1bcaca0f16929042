import type { AssignedPartition, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Broker, Connector } from "../src/Broker.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { encodeBatch } from "./batches.ts"

const settings: SessionSettings = {
  groupId: "shipping",
  topics: ["orders", "invoices"],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 3000,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 30_000,
  maxWait: 250,
  topicTimeout: undefined,
  groupProtocol: "consumer"
}

const idOf = (topic: string) => (topic === "orders" ? "1" : "2").repeat(32)

/** A broker that leads two partitions of each topic. An answer has room for the records of one partition, and of these there is no end. */
const brokerOf = (isIdle: (topic: string, partition: number) => boolean): Broker => {
  const never = () => new Promise<never>(() => undefined)
  return {
    address: "fake:1",
    isConnected: () => true,
    connect: () => Promise.resolve(),
    destroy: () => undefined,
    metadata: async (topics) => {
      const leaders = new Map([0, 1].map((partition) => [partition, 1] as const))
      return {
        brokers: new Map([[1, { host: "fake", port: 1 }]]),
        topics: new Map(topics.map((topic) => [topic, { topic, code: "NONE", id: idOf(topic), leaders }]))
      }
    },
    findGroupCoordinator: async () => ({ errorCode: 0, coordinator: { nodeId: 1, host: "fake", port: 1 } }),
    consumerGroupHeartbeat: async () => ({
      errorCode: 0,
      errorMessage: undefined,
      memberEpoch: 1,
      heartbeatInterval: 1000,
      assignment: settings.topics.map((topic) => ({ topicId: idOf(topic), partitions: [0, 1] }))
    }),
    offsetFetch: async ({ topics }) => ({
      responses: topics.map(({ partitions, topic }) => ({
        topic,
        partitions: partitions.map(({ partition }) => ({ partition, offset: 0n, metadata: "", errorCode: 0 }))
      }))
    }),
    fetch: async ({ topics }) => {
      await new Promise((resolve) => setTimeout(resolve, 2))
      const first = topics
        .flatMap(({ partitions, topic }) => partitions.map((p) => ({ ...p, topic })))
        .find(({ partition, topic }) => !isIdle(topic, partition))
      if (first === undefined) return { errorCode: 0, clientSideThrottleTime: 0, partitions: [] }
      const { fetchOffset, partition, topic } = first
      const batches = encodeBatch({ base: fetchOffset, last: 0, records: [{ delta: 0 }] })
      const rest = { errorCode: 0, highWatermark: 1000n, lastStable: 1000n, aborted: [], batches }
      return { errorCode: 0, clientSideThrottleTime: 0, partitions: [{ topic, partition, ...rest }] }
    },
    joinGroup: never,
    syncGroup: never,
    heartbeat: never,
    leaveGroup: never,
    offsetCommit: never,
    listOffsets: never,
    produce: never,
    initProducerId: never
  }
}

const connectorOf = (broker: Broker): Connector => ({
  staticMembership: true,
  groupProtocols: ["consumer"],
  open: () => Promise.resolve(broker),
  classify: (error, what) =>
    error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
  decompress: (_codec, bytes) => Promise.resolve(bytes)
})

describe("fetching of several topics", () => {
  it.live("a partition without records does not bring those of its topic before others", () =>
    Effect.gen(function* () {
      const broker = brokerOf((topic, partition) => topic === "orders" && partition === 0)
      const openCluster = () => new Cluster(connectorOf(broker))
      const session = yield* makeSession({ settings, requestTimeout: 5000, openCluster })
      yield* session.join
      const counts = new Map<string, number>()
      let chunks = 0
      while (chunks < 30) {
        const signal: Signal = yield* Queue.take(session.inbox)
        if (signal._tag === "Assigned") {
          session.beginUnsafe(
            signal.all.filter(({ retained }) => !retained).map((p: AssignedPartition) => ({ ...p, offset: 0n }))
          )
        }
        if (signal._tag !== "Chunk") continue
        const key = `${signal.topic}/${signal.partition}`
        counts.set(key, (counts.get(key) ?? 0) + 1)
        chunks++
      }
      assert.sameMembers([...counts.keys()], ["orders/1", "invoices/0", "invoices/1"])
      const all = [...counts.values()]
      assert.isAtMost(Math.max(...all) - Math.min(...all), 1, all.join())
    }).pipe(Effect.scoped)
  )
})
