/**
 * A session that leaves no trace: it starts where another group stands, and what is committed through it is answered, not sent. Its
 * own group never has an offset, and the broker forgets it when it is left.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Session } from "@concurrent-kafka/core/ConsumerSession"
import * as Effect from "effect/Effect"

const later = (a: bigint, b: bigint) => (a > b ? a : b)

/** Offsets between the start that the consumer chose and ours are to its tracker a hole in the log, as compaction makes them. */
export const looking = (session: Session, startOf: (partition: TopicPartition) => bigint): Session => ({
  ...session,
  beginUnsafe: (starts) =>
    session.beginUnsafe(starts.map((start) => ({ ...start, offset: later(start.offset, startOf(start)) }))),
  commit: (entries) =>
    Effect.succeed(
      entries.map(({ epoch, partition, topic }) => ({ topic, partition, epoch, outcome: "committed" as const }))
    )
})
