/**
 * What the contract suite needs, from the cluster in memory.
 */
import type { Session } from "@concurrent-kafka/core/ConsumerSession"
import type { ContractHarness } from "@concurrent-kafka/testing/contract"
import { type Cluster, MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"

const use = <A>(f: (kafka: Cluster) => Effect.Effect<A>) => Effect.flatMap(MemoryKafka, f)
const onSession = (session: Session, f: (session: ReturnType<Cluster["controlUnsafe"]>) => Effect.Effect<void>) =>
  use((kafka) => f(kafka.controlUnsafe(session)))

export const harness: ContractHarness<MemoryKafka> = {
  createTopic: (topic, partitions) =>
    use((kafka) =>
      Effect.catchDefect(kafka.createTopic(topic, { partitions }), (defect) =>
        Effect.flatMap(Effect.orDie(kafka.admin.partitions([topic])), (there) =>
          there.length === partitions ? Effect.void : Effect.die(defect)
        )
      )
    ),
  produce: (topic, records) => use((kafka) => Effect.asVoid(kafka.produce(topic, records))),
  committed: (groupId, topic, partition) => use((kafka) => kafka.committed(groupId, topic, partition)),
  deleteTopic: (topic) => use((kafka) => kafka.deleteTopic(topic)),
  addPartitions: (topic, total) => use((kafka) => kafka.addPartitions(topic, total)),
  deleteRecordsBefore: (topic, partition, offset) =>
    use((kafka) => kafka.deleteRecordsBefore(topic, partition, offset)),
  transaction: (topic, records, end) =>
    use((kafka) =>
      Effect.gen(function* () {
        const transaction = yield* kafka.transaction
        yield* transaction.produce(topic, records)
        if (end !== "open") yield* transaction[end]
        return (late) => transaction[late]
      })
    ),
  removeOffsets: (topic, partition, offsets) => use((kafka) => kafka.removeOffsets(topic, partition, offsets)),
  // Refused until it is released: a fault that delays has to know for how long.
  holdSync: (session) =>
    use((kafka) =>
      Effect.sync(() => {
        const release = kafka.faults.random({
          source: { next: () => 0 },
          weights: { sync: { code: 1 } },
          codes: { sync: ["COORDINATOR_LOAD_IN_PROGRESS"] },
          target: { sessionId: kafka.controlUnsafe(session).id }
        })
        return Effect.sync(release)
      })
    ),
  evict: (session) => onSession(session, (control) => control.evict),
  breakConnections: (session) => onSession(session, (control) => control.breakConnections)
}
