/** What an operator sees of the broker and does to it, by plain kafkajs: it does not depend on the client under test. */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import kafkajs, { type Admin, type Kafka, type Producer, type ProducerConfig } from "kafkajs"
import { checkOptions, leaderOf } from "../src/Driver.ts"
import { client } from "../../kafkajs/test/client.ts"
import { join, type Member, type MemberOptions, settingsOf, unique, until } from "./members.ts"

export const plain = (brokers: ReadonlyArray<string>): Kafka =>
  new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: "test",
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { retries: 10, initialRetryTime: 50, maxRetryTime: 500 }
  })

/**
 * Succeeds when the topic can be used. Not by kafkajs's `waitForLeaders`: it gives up when the broker has created the topic and
 * not yet told itself. A topic of the same name may still be on its way out.
 */
export const createTopic = async (
  admin: Admin,
  topic: string,
  numPartitions: number,
  config: Readonly<Record<string, string>> = {}
): Promise<void> => {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const end = performance.now() + 30_000
  for (let created = false; ;) {
    try {
      if (!created)
        await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions, configEntries }] })
      created = true
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      if (topics[0]?.partitions.length === numPartitions && topics[0].partitions.every(({ leader }) => leader >= 0))
        return
    } catch (error) {
      if (performance.now() > end) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/**
 * Waits until brokers serve a topic that was created again. They may have the old one for a moment longer, whose records go with it: also
 * those that are written to it meanwhile.
 */
export const untilEmpty = async (admin: Admin, topic: string): Promise<void> => {
  const end = performance.now() + 30_000
  for (;;) {
    const offsets = await admin.fetchTopicOffsets(topic).catch(() => [])
    if (offsets.length > 0 && offsets.every(({ high }) => high === "0")) return
    if (performance.now() > end) throw new Error(`topic ${topic} was created, and is not empty`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export interface World {
  readonly kafka: Kafka
  readonly admin: Admin
  readonly producer: (config?: ProducerConfig) => Effect.Effect<Producer, never, Scope.Scope>
  readonly topic: (partitions: number, config?: Readonly<Record<string, string>>) => Effect.Effect<string>
  /** Values to one partition, in order. */
  readonly send: (topic: string, partition: number, values: ReadonlyArray<string>) => Effect.Effect<void>
  readonly committed: (
    groupId: string,
    tp: TopicPartition
  ) => Effect.Effect<{ readonly offset: string; readonly metadata: string | null } | undefined>
  /** Deletes the records before `offset`. */
  readonly cut: (topic: string, partition: number, offset: string) => Effect.Effect<void>
  readonly promise: <A>(f: () => Promise<A>) => Effect.Effect<A>
}

export const world = (brokers: ReadonlyArray<string>): Effect.Effect<World, never, Scope.Scope> =>
  Effect.gen(function* () {
    const kafka = plain(brokers)
    const admin = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const made = kafka.admin()
        await made.connect()
        return made
      }),
      (made) => Effect.promise(() => made.disconnect())
    )
    const open: World["producer"] = (config = {}) =>
      Effect.acquireRelease(
        Effect.promise(async () => {
          const made = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner, ...config })
          await made.connect()
          return made
        }),
        (made) => Effect.promise(() => made.disconnect())
      )
    const producer = yield* open()
    const topic: World["topic"] = (partitions, config = {}) =>
      Effect.promise(async () => {
        const name = unique("topic")
        await createTopic(admin, name, partitions, config)
        return name
      })
    return {
      kafka,
      admin,
      producer: open,
      topic,
      promise: Effect.promise,
      cut: (name, partition, offset) =>
        Effect.promise(async () => {
          // kafkajs looks for the leader in metadata that only this call loads
          await admin.fetchTopicOffsets(name)
          await admin.deleteTopicRecords({ topic: name, partitions: [{ partition, offset }] })
        }),
      send: (name, partition, values) =>
        Effect.promise(async () => {
          for (let at = 0; at < values.length; at += 1000) {
            const messages = values.slice(at, at + 1000).map((value) => ({ partition, value }))
            await producer.send({ topic: name, messages })
          }
        }),
      committed: (groupId, { partition, topic: name }) =>
        Effect.promise(async () => {
          const [found] = await admin.fetchOffsets({ groupId, topics: [name] })
          const entry = found?.partitions.find((p) => p.partition === partition)
          return entry === undefined || entry.offset === "-1"
            ? undefined
            : { offset: entry.offset, metadata: entry.metadata }
        })
    }
  })

/**
 * Writes batches as they are, with metadata read before each: kafkajs's producer drops records of a partition that it has not
 * heard of, cannot write a header without a value, and loses the order of headers.
 */
export const writer = (
  brokers: ReadonlyArray<string>
): Effect.Effect<(topic: string, partition: number, batch: Buffer) => Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const open = client.library.open(checkOptions({ brokers }), yield* Effect.context<never>())
    const cluster = yield* Effect.acquireRelease(
      Effect.sync(() => open(10_000, 0)),
      (opened) => Effect.sync(() => opened.close())
    )
    const once = async (topic: string, partition: number, batch: Buffer): Promise<string> => {
      await cluster.refresh([topic])
      const broker = await cluster.node(leaderOf(cluster, topic, partition))
      const { partitions } = await broker.produce([{ topic, partition, batch }], 5000)
      return partitions[0]!.code
    }
    return (topic, partition, batch) =>
      Effect.promise(async () => {
        const end = performance.now() + 10_000
        for (;;) {
          const code = await once(topic, partition, batch)
          if (code === "NONE") return
          // a leader that is named already and does not know it yet
          if (performance.now() > end || (code !== "UNKNOWN_TOPIC_OR_PARTITION" && code !== "NOT_LEADER_OR_FOLLOWER"))
            throw new Error(`produce: ${code}`)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
      })
  })

/** A topic, and a member that has all of its partitions. */
export const alone = (
  brokers: ReadonlyArray<string>,
  partitions: number,
  rest: Partial<SessionSettings> = {},
  options: MemberOptions = {}
): Effect.Effect<
  { readonly kafka: World; readonly topic: string; readonly settings: SessionSettings; readonly a: Member },
  KafkaClientError,
  KafkaClient | Scope.Scope
> =>
  Effect.gen(function* () {
    const kafka = yield* world(brokers)
    const topic = yield* kafka.topic(partitions)
    const settings = settingsOf(unique("group"), [topic], rest)
    const a = yield* join(settings, options)
    yield* until("a has all", () => a.owned.length === partitions)
    return { kafka, topic, settings, a }
  })
