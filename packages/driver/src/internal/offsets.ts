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

/** The same by topic id: partitions of a topic that was created again come one by one, and there may be two of its name. */
export const byTopicId = <A extends TopicPartition, B>(
  entries: ReadonlyArray<A>,
  idOf: (a: A) => string | undefined,
  entry: (a: A) => B
): Array<TopicEntries<B>> =>
  [...Map.groupBy(entries, idOf)].flatMap(([topicId, some]) =>
    byTopic(some, entry).map((entries) => ({ ...entries, topicId }))
  )

/** In the order that they have: a topic is named again where it comes again behind another one. */
export const inOrder = <A extends TopicPartition, B>(
  entries: ReadonlyArray<A>,
  entry: (a: A) => B
): Array<TopicEntries<B>> => {
  const runs: Array<{ readonly topic: string; readonly partitions: Array<B> }> = []
  for (const a of entries) {
    const last = runs.at(-1)
    if (last?.topic === a.topic) last.partitions.push(entry(a))
    else runs.push({ topic: a.topic, partitions: [entry(a)] })
  }
  return runs
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

/** Whose committed offset is asked for; by the id, where all have one and the broker can. */
export interface Question extends TopicPartition {
  readonly topicId?: string | undefined
}

/** By topic and partition, as `keyOf` has it. */
export interface Found {
  /** without an entry where there is nothing */
  readonly committed: ReadonlyMap<string, Committed>
  /** what a transaction is about to replace */
  readonly pending: ReadonlySet<string>
}

export const readingOf = (groupId: string): string => `read the committed offsets of group ${groupId}`

export const idByName = ({ metadata }: Cluster, topic: string): string | undefined => metadata.topics.get(topic)?.id

/**
 * What a group has committed. `requireStable`: not what a transaction is about to replace.
 *
 * An id that the coordinator does not know is not an answer: it may be that of the topic before, from metadata that have not heard of the one
 * that was created since, and that one may have committed offsets. This fails then, behind a look at the metadata that the coordinator has. They
 * bring the id to ask by, or say that there is no such topic: then it has none, and the name is asked for.
 */
export const fetchCommitted = async (
  cluster: Cluster,
  coordinator: Broker,
  groupId: string,
  questions: ReadonlyArray<Question>,
  requireStable: boolean
): Promise<Found> => {
  const committed = new Map<string, Committed>()
  const pending = new Set<string>()
  if (questions.length === 0) return { committed, pending }
  const what = readingOf(groupId)
  const topics = byTopicId(
    questions,
    ({ topicId }) => topicId,
    ({ partition }) => ({ partition })
  )
  const answer = await cluster.use(coordinator, what, (broker) =>
    broker.offsetFetch({ groupId, requireStable, topics })
  )
  if (answer.errorCode) throw fromCode(codeName(answer.errorCode), what)
  const unanswered = new Set(questions.map(({ partition, topic }) => keyOf(topic, partition)))
  const unknown = new Set<string>()
  for (const { partitions, topic } of answer.responses) {
    for (const { errorCode, metadata, offset, partition } of partitions) {
      const key = keyOf(topic, partition)
      if (!unanswered.delete(key)) continue
      const code = codeName(errorCode)
      // a topic that is gone has no committed offset
      if (code === "UNKNOWN_TOPIC_OR_PARTITION") continue
      if (code === "UNKNOWN_TOPIC_ID") unknown.add(topic)
      else if (code === "UNSTABLE_OFFSET_COMMIT") pending.add(key)
      else if (code !== "NONE") throw fromCode(code, what)
      // -1 is nothing; plain kafkajs consumers leave -2 behind when an offset was out of range, which is no offset either
      else if (offset >= 0n) committed.set(key, { offset, metadata: metadata ?? "" })
    }
  }
  if (unknown.size > 0) {
    await cluster.refresh([...unknown], coordinator)
    // trouble of the moment, in contrast to a topic that is not there
    throw new KafkaClientError({ reason: "Connection", detail: `${what}: UNKNOWN_TOPIC_ID` })
  }
  // nothing committed lets a partition start anew, maybe at its end: that must have been said
  for (const key of unanswered) {
    throw new KafkaClientError({ reason: "Connection", detail: `${what}: no answer for ${key}` })
  }
  return { committed, pending }
}
