/** The Kafka in memory, for machines without any: the same demo, but nothing survives the process. */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { Effect, Layer } from "effect"
import { type Cluster, newRecord, partitions } from "./cluster.ts"
import { consume } from "./concurrent.ts"
import { failedAt } from "./error.ts"

export const memoryCluster = Effect.map(MemoryKafka.make(), (kafka): Cluster => {
  const cluster: Cluster = {
    client: Layer.succeed(KafkaClient, kafka.client()),
    createTopic: (topic) => kafka.createTopic(topic, { partitions }),
    produce: (topic, records) =>
      Effect.asVoid(
        kafka.produce(
          topic,
          Array.from({ length: records }, (_, i) => newRecord(i))
        )
      ),
    oneAtATimeWith: "this library, concurrency 1",
    oneAtATime: ({ group, progress, records, topic }) => {
      let done = 0
      let seconds = 0
      return consume(
        cluster,
        {
          topic,
          group,
          concurrency: 1,
          finished: () => {
            if (done < records) progress(++done)
          },
          isEnough: () => done >= records
        },
        (worked) => {
          seconds = (worked.seconds / worked.records) * records
        }
      ).pipe(
        Effect.mapError(failedAt("one at a time")),
        Effect.map(() => seconds)
      )
    },
    checkedBy: "the in-memory broker itself",
    offsets: (topic, group) =>
      Effect.gen(function* () {
        const all = yield* kafka.admin.partitions([topic])
        const committed = yield* kafka.admin.committed(group, all)
        const log = yield* kafka.admin.logOffsets(all)
        return log.map(({ end, partition, start }) => ({
          partition,
          start,
          end,
          committed: committed.find((c) => c.partition === partition)?.offset
        }))
      }).pipe(Effect.mapError(failedAt("the offsets could not be read")))
  }
  return cluster
})
