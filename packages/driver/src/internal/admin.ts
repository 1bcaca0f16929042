/** Questions outside of any membership. */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { KafkaAdmin } from "@concurrent-kafka/core/KafkaClient"
import { fromCode } from "./classify.ts"
import type { Cluster } from "./cluster.ts"
import { fetchCommitted, idByName, keyOf, logOffsets } from "./offsets.ts"
import { retrying } from "./session.ts"

export const makeAdmin = (cluster: Cluster, requestTimeout: number): KafkaAdmin => ({
  partitions: (topics) =>
    retrying(requestTimeout, async () => {
      if (topics.length === 0) return []
      const found = await cluster.refresh(topics)
      return topics.flatMap((topic): Array<TopicPartition> => {
        const metadata = found.get(topic)
        const code = metadata?.code ?? "UNKNOWN_TOPIC_OR_PARTITION"
        if (code === "UNKNOWN_TOPIC_OR_PARTITION") return []
        if (code !== "NONE") throw fromCode(code, `metadata of ${topic}`)
        const partitions = [...metadata!.leaders.keys()].sort((a, b) => a - b)
        return partitions.map((partition) => ({ topic, partition }))
      })
    }),
  committed: (groupId, partitions) =>
    retrying(requestTimeout, async () => {
      const coordinator = await cluster.coordinator(groupId)
      const questions = partitions.map((tp) => ({ ...tp, topicId: idByName(cluster, tp.topic) }))
      const { committed } = await fetchCommitted(cluster, coordinator, groupId, questions, false)
      return partitions.flatMap(({ partition, topic }) => {
        const found = committed.get(keyOf(topic, partition))
        return found === undefined ? [] : [{ topic, partition, ...found }]
      })
    }),
  // the end that everybody can see: without a membership there is no isolation level
  logOffsets: (partitions) => retrying(requestTimeout, (again) => logOffsets(cluster, partitions, 1, again))
})
