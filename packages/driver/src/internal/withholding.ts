/**
 * What makes `concurrent-kafka-cooperative` of the sticky assignment: members keep what they have while the group rebalances, so nobody is
 * given a partition that another one may still work on. It is withheld: it goes to nobody in this generation. Its owner sees that it is
 * not given it any more, gives it up, and joins again without it; the next generation gives it to who was meant.
 *
 * Invariants:
 * - No partition is given to a member while another one claims it, unless that claim is older than its own ("no partition is ever given to
 *   a member while another one claims it").
 * - A claim of a generation that is over holds a partition back as one of the last generation does: its member has slept through what came
 *   after, and still works on it.
 * - With nobody coming or going everything is given after the second generation ("everything is given out and balanced after two
 *   rounds").
 */
import type { Assignment } from "./groupData.ts"

export interface Claimant {
  readonly memberId: string
  readonly generation: number
  readonly owned: Assignment
}

export interface Cooperative {
  readonly assignments: ReadonlyMap<string, Assignment>
  /** something goes to nobody yet: there has to be another generation */
  readonly again: boolean
}

/** The newest claim to a partition that has one, and the only one of its generation. */
const newestOf = (claims: ReadonlyArray<Claimant>): Claimant | undefined => {
  const generation = Math.max(...claims.map((claim) => claim.generation))
  const [newest, other] = claims.filter((claim) => claim.generation === generation)
  return other === undefined ? newest : undefined
}

/**
 * `target`: who should have what in the end. A topic that the leader does not see (`partitionsOf` says 0) stays as it is: its broker may
 * have just started, and whether the topic is gone is found out by each member for itself.
 */
export const withhold = (
  members: ReadonlyArray<Claimant>,
  target: ReadonlyMap<string, Assignment>,
  partitionsOf: (topic: string) => number
): Cooperative => {
  const claims = new Map<string, Map<number, Array<Claimant>>>()
  for (const member of members) {
    for (const [topic, partitions] of Object.entries(member.owned)) {
      let ofTopic = claims.get(topic)
      if (ofTopic === undefined) claims.set(topic, (ofTopic = new Map()))
      for (const partition of new Set(partitions)) {
        const some = ofTopic.get(partition)
        if (some === undefined) ofTopic.set(partition, [member])
        else some.push(member)
      }
    }
  }
  let again = false
  const given = new Map<string, Record<string, Array<number>>>()
  for (const [memberId, assignment] of target) {
    const own: Record<string, Array<number>> = Object.create(null)
    given.set(memberId, own)
    for (const [topic, partitions] of Object.entries(assignment)) {
      const free = partitions.filter((partition) => {
        const of = claims.get(topic)?.get(partition)
        return of === undefined || newestOf(of)?.memberId === memberId
      })
      if (free.length < partitions.length) again = true
      if (free.length > 0) own[topic] = free
    }
  }
  for (const [topic, ofTopic] of claims) {
    if (partitionsOf(topic) > 0) continue
    for (const [partition, some] of ofTopic) {
      const own = given.get(newestOf(some)?.memberId ?? "")
      if (own !== undefined) (own[topic] ??= []).push(partition)
    }
  }
  return { assignments: given, again }
}

const dataVersion = 1

/** What the leader adds to every assignment of a generation that withholds something. */
export const another: Buffer = Buffer.from(JSON.stringify({ v: dataVersion, again: true }))

/** Whether another generation has to follow. What cannot be read says nothing. */
export const isAnother = (userData: Buffer): boolean => {
  try {
    const { again, v } = JSON.parse(String(userData))
    return v === dataVersion && again === true
  } catch {
    return false
  }
}
