import type { AssignedPartition, Chunk, Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as zlib from "node:zlib"
import type { Broker, Connector } from "../src/Broker.ts"
import type { FetchedPartition } from "../src/Protocol.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { encodeBatch } from "./batches.ts"
import { decompress } from "./codecs.ts"

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

/** The next one of these. */
const signalOf = <T extends Signal["_tag"]>(
  session: Session,
  tag: T
): Effect.Effect<Extract<Signal, { readonly _tag: T }>, KafkaClientError> =>
  Effect.gen(function* () {
    while (true) {
      const signal: Signal = yield* Effect.catchTag(Queue.take(session.inbox), "Done", () => Effect.die("it has ended"))
      if (is(signal, tag)) return signal
    }
  })

const is = <T extends Signal["_tag"]>(signal: Signal, tag: T): signal is Extract<Signal, { readonly _tag: T }> =>
  signal._tag === tag

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

const mebibyte = 1024 * 1024
/** of each partition; each has one record, and unpacks to a MiB */
const packedBatches = 24
const packed = Array.from({ length: packedBatches }, (_, i) =>
  encodeBatch({
    base: BigInt(i),
    last: 0,
    attributes: 4,
    compress: zlib.zstdCompressSync,
    records: [{ delta: 0, value: Buffer.alloc(mebibyte) }]
  })
)

describe("an answer that unpacks to far more than it was", () => {
  /** A session at a broker that answers with all that a partition has, and nobody who takes anything. */
  const start = Effect.gen(function* () {
    const seen = { unpacked: 0, asked: new Array<string>() }
    const broker: Broker = {
      ...brokerOf(() => true),
      fetch: async ({ maxWaitTime, topics }) => {
        const partitions = topics.flatMap(({ partitions, topic }) =>
          partitions.map(({ fetchOffset, partition }) => {
            seen.asked.push(`${topic}/${partition} ${fetchOffset}`)
            const batches = Buffer.concat(packed.slice(Number(fetchOffset)))
            const [highWatermark, lastStable] = [BigInt(packedBatches), BigInt(packedBatches)]
            return { topic, partition, errorCode: 0, highWatermark, lastStable, aborted: [], batches }
          })
        )
        const isIdle = partitions.every(({ batches }) => batches.length === 0)
        await new Promise((resolve) => setTimeout(resolve, isIdle ? maxWaitTime : 1))
        return { errorCode: 0, clientSideThrottleTime: 0, partitions }
      }
    }
    const connector: Connector = {
      ...connectorOf(broker),
      decompress: async (...args) => {
        const plain = await decompress(...args)
        seen.unpacked += plain.length
        return plain
      }
    }
    const openCluster = () => new Cluster(connector)
    const session = yield* makeSession({ settings, requestTimeout: 5000, openCluster })
    yield* session.join
    const { all } = yield* signalOf(session, "Assigned")
    session.beginUnsafe(all.map((p) => ({ ...p, offset: 0n })))
    while (seen.unpacked < 32 * mebibyte) yield* Effect.sleep(1)
    // what goes on unpacking by itself would be far beyond by then
    yield* Effect.sleep(30)
    return { seen, session, all }
  })

  const key = ({ partition, topic }: Pick<Chunk, "partition" | "topic">) => `${topic}/${partition}`

  /** Takes chunks until so many records are there; their offsets by partition. */
  const taker = (session: Session) => {
    const offsets = new Map<string, Array<bigint>>()
    let count = 0
    const take = (records: number): Effect.Effect<void, KafkaClientError> =>
      Effect.gen(function* () {
        while (count < records) {
          const chunk = yield* signalOf(session, "Chunk")
          const own = offsets.get(key(chunk)) ?? []
          offsets.set(key(chunk), own)
          own.push(...chunk.records.map(({ offset }) => offset))
          count += chunk.records.length
        }
      })
    return { offsets, take }
  }
  const upTo = (end: number) => Array.from({ length: end }, (_, i) => BigInt(i))
  const names = ["orders/0", "orders/1", "invoices/0", "invoices/1"]

  it.live("is unpacked as the engine takes it, and nothing of it is fetched twice", () =>
    Effect.gen(function* () {
      const { seen, session } = yield* start
      assert.isAtMost(seen.unpacked, 33 * mebibyte)
      const { offsets, take } = taker(session)
      yield* take(4 * packedBatches)
      assert.deepStrictEqual(
        [...offsets],
        names.map((name) => [name, upTo(packedBatches)])
      )
      assert.deepStrictEqual(
        seen.asked.slice(0, 4),
        names.map((name) => `${name} 0`)
      )
      for (const asked of seen.asked.slice(4)) assert.include(asked, ` ${packedBatches}`)
    }).pipe(Effect.scoped)
  )

  it.live("what the engine has no room for keeps its position, and comes when it is resumed", () =>
    Effect.gen(function* () {
      const { all, seen, session } = yield* start
      const full = all.filter((p) => key(p) === "orders/1" || key(p) === "invoices/0")
      session.pauseUnsafe(full)
      const { offsets, take } = taker(session)
      yield* take(2 * packedBatches + 8)
      assert.deepStrictEqual(
        [...offsets],
        [
          ["orders/0", upTo(packedBatches)],
          // it had begun
          ["orders/1", upTo(8)],
          ["invoices/1", upTo(packedBatches)]
        ]
      )
      assert.isBelow(seen.unpacked, (2 * packedBatches + 9) * mebibyte)
      const before = seen.asked.length
      session.resumeUnsafe(full)
      yield* take(4 * packedBatches)
      for (const name of names) assert.deepStrictEqual(offsets.get(name), upTo(packedBatches), name)
      assert.includeMembers(seen.asked.slice(before), ["orders/1 8", "invoices/0 0"])
    }).pipe(Effect.scoped)
  )
})

describe("a partition whose leader has moved", () => {
  const tp = { topic: "orders", partition: 0 }

  /** A session with one partition, which node 1 leads until `moved`; node 2 has a record for it. */
  const start = (answer: (seen: { moved: boolean }, times: number) => Partial<FetchedPartition> | undefined) =>
    Effect.gen(function* () {
      const seen = { moved: false, times: 0, beginning: 0n }
      const none = { errorCode: 0, highWatermark: 1000n, lastStable: 1000n, aborted: [], batches: Buffer.alloc(0) }
      const nodeOf = (id: number | undefined): Broker => ({
        ...brokerOf(() => true),
        metadata: async () => ({
          brokers: new Map([1, 2].map((node) => [node, { host: "fake", port: node }])),
          topics: new Map([
            [
              tp.topic,
              { topic: tp.topic, code: "NONE", id: idOf(tp.topic), leaders: new Map([[0, seen.moved ? 2 : 1]]) }
            ]
          ])
        }),
        consumerGroupHeartbeat: async () => ({
          errorCode: 0,
          errorMessage: undefined,
          memberEpoch: 1,
          heartbeatInterval: 1000,
          assignment: [{ topicId: idOf(tp.topic), partitions: [0] }]
        }),
        listOffsets: async ({ topics }) => {
          const [{ partitions }] = topics as [(typeof topics)[number]]
          // NOT_LEADER_OR_FOLLOWER
          const errorCode = id === 1 && seen.moved ? 6 : 0
          const offset = partitions[0]!.timestamp === -1 ? 1000n : seen.beginning
          return { responses: [{ topic: tp.topic, partitions: [{ partition: 0, errorCode, offset }] }] }
        },
        fetch: async ({ maxWaitTime, topics }) => {
          const { fetchOffset } = topics[0]!.partitions[0]!
          const batches = encodeBatch({ base: fetchOffset, last: 0, records: [{ delta: 0 }] })
          const found = id === 2 ? { batches } : answer(seen, ++seen.times)
          await new Promise((resolve) => setTimeout(resolve, found === undefined ? maxWaitTime : 1))
          return { errorCode: 0, clientSideThrottleTime: 0, partitions: [{ ...tp, ...none, ...found }] }
        }
      })
      const connector: Connector = { ...connectorOf(nodeOf(1)), open: async (_address, id) => nodeOf(id) }
      const openCluster = () => new Cluster(connector)
      const session = yield* makeSession({
        settings: { ...settings, topics: [tp.topic] },
        requestTimeout: 5000,
        openCluster
      })
      yield* session.join
      const { all } = yield* signalOf(session, "Assigned")
      session.beginUnsafe(all.map((p) => ({ ...p, offset: 0n })))
      return { seen, session }
    })

  /** Well before metadata are old, after which it would be seen in any case. */
  const soon = <A, E>(effect: Effect.Effect<A, E>) => Effect.timeout(effect, 3000)

  it.live("is fetched from the new one when that was learnt by a position outside of the log", () =>
    Effect.gen(function* () {
      const { session } = yield* start((seen, times) => {
        // the second one has metadata read again
        if (times > 1) Object.assign(seen, { moved: true, beginning: 100n })
        // OFFSET_OUT_OF_RANGE
        return { errorCode: 1 }
      })
      const chunk = yield* soon(signalOf(session, "Chunk"))
      assert.strictEqual(chunk.records[0]!.offset, 100n)
    }).pipe(Effect.scoped)
  )

  it.live(
    "is fetched from the new one when that was learnt by a question about the log, while the old one was asked",
    () =>
      Effect.gen(function* () {
        const { seen, session } = yield* start(() => undefined)
        while (seen.times === 0) yield* Effect.sleep(1)
        seen.moved = true
        const asked = yield* session.logOffsets([tp])
        assert.deepStrictEqual(asked, [{ ...tp, start: 0n, end: 1000n }])
        yield* soon(signalOf(session, "Chunk"))
      }).pipe(Effect.scoped)
  )

  it.live("is fetched from the new one when that was learnt by a question about the log, and nobody was asked", () =>
    Effect.gen(function* () {
      const damaged = Buffer.alloc(100)
      damaged.writeInt32BE(88, 8)
      const { seen, session } = yield* start((_, times) => (times <= 3 ? { batches: damaged } : undefined))
      while (seen.times < 3) yield* Effect.sleep(1)
      // what was damaged three times is asked for again after 320 ms at least
      yield* Effect.sleep(20)
      seen.moved = true
      yield* session.logOffsets([tp])
      yield* soon(signalOf(session, "Chunk"))
    }).pipe(Effect.scoped)
  )
})
