/**
 * The records that are read: so many, with values of 100 bytes, spread evenly over the partitions unless the bench says otherwise.
 */
import kafkajs from "kafkajs"
import { setTimeout } from "node:timers/promises"

const { Kafka, logLevel } = kafkajs

// kafkajs 2.2 asks for a timer of -1 ms after each answer, which Node 24 warns of; a plain kafkajs has no way around it
process.removeAllListeners("warning")

export const recordBytes = 100

export const createTopic = async (brokers: ReadonlyArray<string>, topic: string, partitions: number): Promise<void> => {
  const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: false })
  // Until each leader answers: of a request that one of them does not take yet, kafkajs sends again what the others have taken. And its
  // own wait for leaders fails when the broker has not heard of the topic.
  for (let left = 200; left >= 0; left--) {
    const offsets = await admin.fetchTopicOffsets(topic).catch((error: unknown) => {
      if (left === 0) throw error
      return []
    })
    if (offsets.length === partitions) break
    await setTimeout(50)
  }
  await admin.disconnect()
}

export const produce = async (
  brokers: ReadonlyArray<string>,
  topic: string,
  partitions: number,
  records: number,
  options: {
    /** of record i, which goes to partition i % partitions unless it is said where */
    readonly keyed?: (i: number) => { readonly key: Buffer | null; readonly partition?: number }
    readonly bytes?: number
  } = {}
): Promise<void> => {
  const { bytes = recordBytes, keyed } = options
  await createTopic(brokers, topic, partitions)
  const producer = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).producer()
  await producer.connect()
  const value = Buffer.alloc(bytes, "x")
  // what goes to one partition at once is to fit into a request: of keyed records many may
  const batch = Math.floor((keyed === undefined ? 500_000 : 40_000) / bytes)
  for (let sent = 0; sent < records; sent += batch * partitions) {
    const left = records - sent
    await producer.send({
      topic,
      acks: 1,
      messages: Array.from({ length: Math.min(left, batch * partitions) }, (_, i) => ({
        value,
        partition: (sent + i) % partitions,
        ...keyed?.(sent + i)
      }))
    })
  }
  await producer.disconnect()
}

export interface CommittedPartition {
  readonly partition: number
  /** of the log */
  readonly end: string
  readonly offset: string
  readonly metadata: string
}

/** What the group has committed of each partition, by partition. */
export const committed = async (
  brokers: ReadonlyArray<string>,
  topic: string,
  groupId: string
): Promise<ReadonlyArray<CommittedPartition>> => {
  const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const ends = await admin.fetchTopicOffsets(topic)
  const [group] = await admin.fetchOffsets({ groupId, topics: [topic] })
  await admin.disconnect()
  return ends
    .map(({ high, partition }) => {
      const found = group?.partitions.find((p) => p.partition === partition)
      return { partition, end: high, offset: found?.offset ?? "-1", metadata: found?.metadata ?? "" }
    })
    .sort((a, b) => a.partition - b.partition)
}
