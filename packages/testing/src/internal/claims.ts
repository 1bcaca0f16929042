/**
 * What a member of an eager group tells the leader of the partitions that it holds: user data of its JoinGroup, which the coordinator
 * does not look into. It has a version: a leader reads the versions up to its own, and takes who it cannot read for one who owns nothing.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"

/** The version of a member's release; or it says what nobody can read. */
export type ClaimVersion = number | "unreadable"

export interface Ownership {
  readonly owned: ReadonlyArray<TopicPartition>
  /** as of which generation */
  readonly generation: number
}

const nothing: Ownership = { owned: [], generation: -1 }
/** the first that names the generation: what an older one says cannot be weighed against others */
const leastVersion = 1

export const encodeClaim = (version: ClaimVersion, { generation, owned }: Ownership): string =>
  version === "unreadable"
    ? '{"v":'
    : JSON.stringify({ v: version, g: generation, o: owned.map(({ partition, topic }) => [topic, partition]) })

interface Encoded {
  readonly v: number
  readonly g: number
  readonly o: ReadonlyArray<readonly [topic: string, partition: number]>
}

/** As a leader of this version reads it. */
export const decodeClaim = (version: ClaimVersion, userData: string): Ownership => {
  let claim: Encoded
  try {
    claim = JSON.parse(userData) as Encoded
  } catch {
    return nothing
  }
  const newest = version === "unreadable" ? leastVersion : version
  if (claim.v < leastVersion || claim.v > newest) return nothing
  return { generation: claim.g, owned: claim.o.map(([topic, partition]) => ({ topic, partition })) }
}
