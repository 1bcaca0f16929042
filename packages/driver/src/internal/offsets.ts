/** Questions about offsets, for sessions and for the admin: where logs begin and end, and what a group has committed. */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Committed, LogOffsets } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { fromCode } from "./classify.ts"
import type { Cluster } from "./cluster.ts"
import { codeName } from "./codes.ts"
import type { Broker, TopicEntries } from "../Broker.ts"

export const keyOf = (topic: string, partition: number): string => `${topic}/${partition}`

export const byTopic = <A extends TopicPartition, B>(
  entries: ReadonlyArray<A>,
  entry: (a: A) => B
): Array<TopicEntries<B>> => {
  const topics = new Map<string, Array<B>>()
  for (const a of entries) {
    const list = topics.get(a.topic)
    if (list) list.push(entry(a))
    else topics.set(a.topic, [entry(a)])
  }
  return [...topics].map(([topic, partitions]) => ({ topic, partitions }))
}

export const leaderOf = (cluster: Cluster, topic: string, partition: number): number =>
  cluster.metadata.topics.get(topic)?.leaders.get(partition) ?? -1

export const isolationLevel = (isolation: "read_committed" | "read_uncommitted"): number =>
  isolation === "read_committed" ? 1 : 0

/** -2 is the first offset of the log, -1 its end. One request a broker; fails as a whole. */
const listOffsets = async (
  cluster: Cluster,
  partitions: ReadonlyArray<TopicPartition>,
  timestamp: -1 | -2,
  isolation: number
): Promise<Map<string, bigint>> => {
  const byLeader = new Map<number, Array<TopicPartition>>()
  for (const tp of partitions) {
    const leader = leaderOf(cluster, tp.topic, tp.partition)
    const list = byLeader.get(leader)
    if (list) list.push(tp)
    else byLeader.set(leader, [tp])
  }
  const result = new Map<string, bigint>()
  await Promise.all(
    [...byLeader].map(async ([leader, list]) => {
      const first = list[0]!
      if (leader < 0) {
        const code = cluster.metadata.topics.get(first.topic)?.code ?? "UNKNOWN_TOPIC_OR_PARTITION"
        throw fromCode(
          code === "NONE" ? "LEADER_NOT_AVAILABLE" : code,
          `leader of ${keyOf(first.topic, first.partition)}`
        )
      }
      const answer = await cluster.use(await cluster.node(leader), "list offsets", (broker) =>
        broker.listOffsets({
          isolationLevel: isolation,
          topics: byTopic(list, ({ partition }) => ({ partition, timestamp }))
        })
      )
      for (const { partitions, topic } of answer.responses) {
        for (const { errorCode, offset, partition } of partitions) {
          if (errorCode !== 0) throw fromCode(codeName(errorCode), `list offsets of ${keyOf(topic, partition)}`)
          result.set(keyOf(topic, partition), offset)
        }
      }
    })
  )
  return result
}

/** Metadata is read first for what is not known; a stale leader is a failure that the caller tries again. */
export const logOffsets = async (
  cluster: Cluster,
  partitions: ReadonlyArray<TopicPartition>,
  isolation: number,
  refresh: boolean
): Promise<Array<LogOffsets>> => {
  if (refresh || partitions.some((tp) => leaderOf(cluster, tp.topic, tp.partition) < 0)) {
    await cluster.refresh([...new Set(partitions.map((tp) => tp.topic))])
  }
  const [starts, ends] = await Promise.all([
    listOffsets(cluster, partitions, -2, isolation),
    listOffsets(cluster, partitions, -1, isolation)
  ])
  return partitions.map(({ partition, topic }) => {
    const start = starts.get(keyOf(topic, partition))
    const end = ends.get(keyOf(topic, partition))
    if (start === undefined || end === undefined) {
      throw new KafkaClientError({
        reason: "Connection",
        detail: `no offsets of ${keyOf(topic, partition)} in the answer`
      })
    }
    return { topic, partition, start, end }
  })
}

/**
 * What a group has committed, for the topics that the metadata have; without an entry where there is nothing. `requireStable`: fails while
 * a transaction is about to replace some of it.
 */
export const fetchCommitted = async (
  cluster: Cluster,
  coordinator: Broker,
  groupId: string,
  partitions: ReadonlyArray<TopicPartition>,
  requireStable: boolean
): Promise<Map<string, Committed>> => {
  const result = new Map<string, Committed>()
  if (partitions.length === 0) return result
  const what = `read the committed offsets of group ${groupId}`
  const answer = await cluster.use(coordinator, what, (broker) =>
    broker.offsetFetch({
      groupId,
      requireStable,
      topics: byTopic(partitions, ({ partition }) => ({ partition })).map((entries) => ({
        ...entries,
        topicId: cluster.metadata.topics.get(entries.topic)?.id
      }))
    })
  )
  if (answer.errorCode) throw fromCode(codeName(answer.errorCode), what)
  const unanswered = new Set(partitions.map(({ partition, topic }) => keyOf(topic, partition)))
  for (const { partitions, topic } of answer.responses) {
    for (const { errorCode, metadata, offset, partition } of partitions) {
      unanswered.delete(keyOf(topic, partition))
      const code = codeName(errorCode)
      // a topic that is gone has no committed offset
      if (code === "UNKNOWN_TOPIC_OR_PARTITION" || code === "UNKNOWN_TOPIC_ID") continue
      if (code !== "NONE") throw fromCode(code, what)
      // -1 is nothing; plain kafkajs consumers leave -2 behind when an offset was out of range, which is no offset either
      if (offset >= 0n) result.set(keyOf(topic, partition), { offset, metadata: metadata ?? "" })
    }
  }
  // nothing committed lets a partition start anew, maybe at its end: that must have been said
  for (const key of unanswered) {
    throw new KafkaClientError({ reason: "Connection", detail: `${what}: no answer for ${key}` })
  }
  return result
}
