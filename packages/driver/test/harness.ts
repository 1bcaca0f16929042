/** What the suite of the contract needs of a real Kafka, done by plain kafkajs: it does not depend on the client under test. */
import * as Effect from "effect/Effect"
import kafkajs, { type Admin } from "kafkajs"
import { encodeBatch } from "./batches.ts"
import type { ContractHarness } from "../../testing/src/contract.ts"
import { unique } from "./members.ts"
import { createTopic, plain, untilEmpty, writer } from "./operator.ts"

const bytes = (value: Uint8Array | null) => (value === null ? null : Buffer.from(value))

const messages = (records: Parameters<ContractHarness["produce"]>[1]) =>
  records.map(({ key, partition, value }) => ({ partition, key: bytes(key), value: bytes(value) }))

/** All but what is done to a session itself, which is up to its client, and what nobody can do to a real log. */
export type OnKafka = Required<
  Omit<ContractHarness, "holdSync" | "evict" | "breakConnections" | "removeOffsets" | "keepsHeaderOrder">
>

export const onKafka = (brokers: ReadonlyArray<string>): OnKafka => {
  const kafka = plain(brokers)
  const deleted = new Set<string>()
  /** One for each use: it asks for all topics at once that it has ever been asked for, and fails for all where one of them has gone. */
  const using = async <A>(f: (admin: Admin) => Promise<A>): Promise<A> => {
    const admin = kafka.admin()
    await admin.connect()
    try {
      return await f(admin)
    } finally {
      await admin.disconnect()
    }
  }
  return {
    createTopic: (topic, partitions) =>
      Effect.promise(() =>
        using(async (admin) => {
          await createTopic(admin, topic, partitions)
          if (deleted.has(topic)) await untilEmpty(admin, topic)
        })
      ),
    produce: (topic, records) =>
      Effect.scoped(
        Effect.gen(function* () {
          const write = yield* writer(brokers)
          const partitions = Map.groupBy(records, ({ partition }) => partition)
          for (const [partition, own] of partitions) {
            const batch = {
              base: 0n,
              last: own.length - 1,
              records: own.map((record, delta) => ({ ...record, delta })),
              baseTime: BigInt(Date.now())
            }
            yield* write(topic, partition, encodeBatch(batch))
          }
        })
      ),
    committed: (groupId, topic, partition) =>
      Effect.promise(async () => {
        const [found] = await using((admin) => admin.fetchOffsets({ groupId, topics: [topic] }))
        const entry = found?.partitions.find((p) => p.partition === partition)
        return entry === undefined || entry.offset === "-1"
          ? undefined
          : { offset: BigInt(entry.offset), metadata: entry.metadata ?? "" }
      }),
    deleteTopic: (topic) =>
      Effect.promise(() => {
        deleted.add(topic)
        return using((admin) => admin.deleteTopics({ topics: [topic] }))
      }),
    addPartitions: (topic, count) =>
      Effect.promise(async () => {
        await using((admin) => admin.createPartitions({ topicPartitions: [{ topic, count }] }))
      }),
    deleteRecordsBefore: (topic, partition, offset) =>
      Effect.promise(() =>
        using(async (admin) => {
          await admin.fetchTopicOffsets(topic)
          await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
        })
      ),
    transaction: (topic, records, end) =>
      Effect.promise(async () => {
        const own = kafka.producer({
          transactionalId: unique("tx"),
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner: kafkajs.Partitioners.DefaultPartitioner
        })
        await own.connect()
        const transaction = await own.transaction()
        await transaction.send({ topic, messages: messages(records) })
        const partitions = [...new Set(records.map(({ partition }) => partition))]
        const ends = async () => {
          const found = await using((admin) => admin.fetchTopicOffsets(topic))
          return partitions.map((p) => BigInt(found.find(({ partition }) => partition === p)!.high))
        }
        const finish = (how: "commit" | "abort") => async () => {
          const before = await ends()
          await transaction[how]()
          await own.disconnect()
          // the coordinator answers when the end is decided, and writes the markers then
          while (!(await ends()).every((end, i) => end > before[i]!))
            await new Promise((resolve) => setTimeout(resolve, 10))
        }
        if (end !== "open") await finish(end)()
        return (late) => Effect.promise(finish(late))
      })
  }
}
