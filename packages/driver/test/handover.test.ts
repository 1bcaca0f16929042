import type { SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Broker, Connector } from "../src/Broker.ts"
import { Cluster, makeAdmin } from "../src/Driver.ts"
import { idByName } from "../src/internal/offsets.ts"
import { readCommitted } from "../src/internal/starts.ts"
import { makeOwned, type Owned, SessionState } from "../src/internal/state.ts"

const topic = "orders"
const id = "1".repeat(32)
const otherId = "2".repeat(32)

const settings: SessionSettings = {
  groupId: "shipping",
  topics: [topic],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 3000,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 30_000,
  maxWait: 250,
  topicTimeout: undefined
}

/** Of one broker, which answers so. */
const clusterOf = (offsetFetch: Broker["offsetFetch"], topicId: () => string | undefined): Cluster => {
  const never = () => new Promise<never>(() => undefined)
  const broker: Broker = {
    address: "fake:1",
    isConnected: () => true,
    connect: () => Promise.resolve(),
    destroy: () => undefined,
    metadata: async (topics) => {
      const found = topicId()
      const code = found === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : "NONE"
      const leaders = new Map(found === undefined ? [] : [0, 1, 2].map((partition) => [partition, 1] as const))
      return {
        brokers: new Map([[1, { host: "fake", port: 1 }]]),
        topics: new Map(topics.map((name) => [name, { topic: name, code, id: found, leaders }]))
      }
    },
    findGroupCoordinator: async () => ({ errorCode: 0, coordinator: { nodeId: 1, host: "fake", port: 1 } }),
    offsetFetch,
    offsetCommit: never,
    joinGroup: never,
    syncGroup: never,
    heartbeat: never,
    leaveGroup: never,
    fetch: never,
    listOffsets: never,
    produce: never,
    initProducerId: never
  }
  const connector: Connector = {
    staticMembership: true,
    groupProtocols: ["classic"],
    open: () => Promise.resolve(broker),
    classify: (error, what) =>
      error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
    decompress: (_codec, bytes) => Promise.resolve(bytes)
  }
  return new Cluster(connector)
}

const stateOf = (offsetFetch: Broker["offsetFetch"], topicId: () => string | undefined) =>
  Effect.gen(function* () {
    const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    return new SessionState(settings, clusterOf(offsetFetch, topicId), inbox)
  })

type Asked = Parameters<Broker["offsetFetch"]>[0]["topics"]

const answered = (topics: Asked, offset: (topicId: string | undefined) => bigint | undefined) => ({
  responses: topics.map(({ partitions, topic: name, topicId }) => ({
    topic: name,
    partitions: partitions.map(({ partition }) => {
      const found = offset(topicId)
      return { partition, offset: found ?? -1n, metadata: "", errorCode: found === undefined ? 100 : 0 }
    })
  }))
})

const idsOf = (topics: Asked) => topics.map(({ topicId }) => topicId)

describe("what the group has committed for what comes", () => {
  it.live("is read again where its topic has another id by then, and told with the id that it was asked by", () =>
    Effect.gen(function* () {
      let now = id
      const asked: Array<ReadonlyArray<string | undefined>> = []
      const state: SessionState = yield* stateOf(
        async ({ topics }) => {
          asked.push(idsOf(topics))
          if (now === id) {
            // the watcher hears of it meanwhile
            now = otherId
            await state.cluster.refresh([topic])
          }
          return answered(topics, (topicId) => (topicId === id ? 100n : 3n))
        },
        () => now
      )
      const owned = makeOwned(topic, 1, 1, undefined)
      const { committed, ids } = yield* readCommitted(
        state,
        () => [owned],
        () => idByName(state.cluster, topic),
        true
      )
      assert.deepStrictEqual(asked, [[id], [otherId]])
      assert.deepStrictEqual([...ids], [["orders/1", otherId]])
      assert.deepStrictEqual(committed.get("orders/1"), { offset: 3n, metadata: "" })
    })
  )

  it.live("is asked for by name when the coordinator knows neither the id nor a topic of that name", () =>
    Effect.gen(function* () {
      let now: string | undefined = id
      const asked: Array<ReadonlyArray<string | undefined>> = []
      const state = yield* stateOf(
        async ({ topics }) => {
          asked.push(idsOf(topics))
          now = undefined
          return answered(topics, (topicId) => (topicId === undefined ? -1n : undefined))
        },
        () => now
      )
      const owned = makeOwned(topic, 1, 1, id)
      const { committed, ids, withOffset } = yield* readCommitted(
        state,
        () => [owned],
        () => idByName(state.cluster, topic),
        true
      )
      assert.deepStrictEqual(asked, [[id], [undefined]])
      assert.deepStrictEqual([...ids], [["orders/1", undefined]])
      assert.deepStrictEqual([committed.size, withOffset.size], [0, 0])
    })
  )

  it.live(
    "comes by the id of each, where there are two topics of one name, and of nothing that has gone meanwhile",
    () =>
      Effect.gen(function* () {
        let these: ReadonlyArray<Owned> = [makeOwned(topic, 0, 1, id), makeOwned(topic, 1, 1, otherId)]
        const asked: Array<Asked> = []
        const state = yield* stateOf(
          async ({ topics }) => {
            asked.push(topics)
            these = these.slice(1)
            return answered(topics, (topicId) => (topicId === id ? undefined : 3n))
          },
          () => otherId
        )
        const { committed, ids } = yield* readCommitted(
          state,
          () => these,
          ({ topicId }) => topicId,
          true
        )
        assert.deepStrictEqual(asked, [
          [
            { topic, topicId: id, partitions: [{ partition: 0 }, { partition: 2 }] },
            { topic, topicId: otherId, partitions: [{ partition: 1 }] }
          ],
          [{ topic, topicId: otherId, partitions: [{ partition: 1 }, { partition: 0 }, { partition: 2 }] }]
        ])
        assert.deepStrictEqual([...ids], [["orders/1", otherId]])
        assert.deepStrictEqual(committed.get("orders/1"), { offset: 3n, metadata: "" })
      })
  )
})

describe("what an operator is told that a group has committed", () => {
  it.live("is asked for again by the id that the topic has now, when it was created again since it was looked at", () =>
    Effect.gen(function* () {
      let now = id
      const cluster = clusterOf(
        async ({ topics }) => answered(topics, (topicId) => (topicId === now ? 3n : undefined)),
        () => now
      )
      const admin = makeAdmin(cluster, 5000)
      const partitions = yield* admin.partitions([topic])
      now = otherId
      assert.deepStrictEqual(
        yield* admin.committed("shipping", partitions),
        partitions.map((tp) => ({ ...tp, offset: 3n, metadata: "" }))
      )
    })
  )
})
