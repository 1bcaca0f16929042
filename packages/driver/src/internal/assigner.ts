/**
 * `concurrent-kafka-sticky` and `concurrent-kafka-cooperative`: every member keeps what it owns as far as balance allows.
 *
 * What a member owns is told in its JoinGroup with the generation that it was owned in: with the first name in the user data, as JSON with
 * a version; with the second in the subscription itself, where the protocol has a place for it.
 * - The highest generation wins where two members claim a partition (one of them has slept through a generation).
 * - What cannot be read, or is user data of another version, owns nothing.
 *
 * Members of the first kind know the second one too: a group where some are cooperative has that in common, so that it can change from one
 * to the other member by member.
 *
 * A claim decides only about who is given a partition. Whether the owner may go on where it was is decided by the session
 * from generations and committed offsets; here nothing is trusted for that.
 */
import type { MemberOfGroup } from "../Broker.ts"
import { type Assignment, decodeSubscription, encodeAssignment, encodeOwning, encodeSubscription } from "./groupData.ts"
import { another, withhold } from "./withholding.ts"

export const stickyName = "concurrent-kafka-sticky"
export const cooperativeName = "concurrent-kafka-cooperative"
export const roundRobinName = "RoundRobinAssigner"

export interface Claim {
  readonly generation: number
  readonly owned: Assignment
}

const dataVersion = 1
const nothing: Claim = { generation: -1, owned: {} }

export const encodeClaim = (claim: Claim): Buffer =>
  Buffer.from(JSON.stringify({ v: dataVersion, g: claim.generation, o: claim.owned }))

export const decodeClaim = (data: Buffer | null): Claim => {
  try {
    const { g, o, v } = JSON.parse(String(data ?? ""))
    if (v !== dataVersion || !Number.isInteger(g) || typeof o !== "object" || o === null || Array.isArray(o))
      return nothing
    for (const partitions of Object.values(o)) {
      if (!Array.isArray(partitions) || !partitions.every((p) => Number.isInteger(p) && p >= 0)) return nothing
    }
    return { generation: g, owned: o }
  } catch {
    return nothing
  }
}

interface Subscriber extends Claim {
  readonly memberId: string
  readonly topics: ReadonlySet<string>
}

const subscriber = (member: MemberOfGroup): Subscriber => {
  try {
    const { generation, owned, topics, userData } = decodeSubscription(member.memberMetadata)
    const claim = userData?.length === 0 ? { generation, owned } : decodeClaim(userData)
    return { memberId: member.memberId, topics: new Set(topics), ...claim }
  } catch {
    return { memberId: member.memberId, topics: new Set(), ...nothing }
  }
}

/** As JoinGroup wants them, in the order of preference. */
export type Protocols = ReadonlyArray<{ readonly name: string; readonly metadata: Buffer }>

export const cooperativeProtocols = (topics: ReadonlyArray<string>, { generation, owned }: Claim): Protocols => [
  { name: cooperativeName, metadata: encodeOwning(topics, owned, generation) }
]

export const protocols = (topics: ReadonlyArray<string>, claim: Claim): Protocols => [
  { name: stickyName, metadata: encodeSubscription(topics, encodeClaim(claim)) },
  { name: roundRobinName, metadata: encodeSubscription(topics, Buffer.alloc(0)) },
  ...cooperativeProtocols(topics, claim)
]

/** All topics that any member is subscribed to. */
export const subscribedTopics = (members: ReadonlyArray<MemberOfGroup>): ReadonlyArray<string> => [
  ...new Set(members.flatMap((member) => [...subscriber(member).topics]))
]

/**
 * Who gets what, by member id; `partitionsOf` knows the number of partitions of a topic.
 *
 * 1. Claims: each partition stays with its claimant of the highest generation.
 * 2. What is left goes to whoever has least.
 * 3. As long as somebody has at least two more than somebody else who is subscribed too, one partition moves.
 *
 * Deterministic: members by id, partitions by topic and number.
 */
export const assignSticky = (
  subscribers: ReadonlyArray<Subscriber>,
  partitionsOf: (topic: string) => number
): ReadonlyMap<string, Assignment> => {
  const members = [...subscribers]
    .sort((a, b) => (a.memberId < b.memberId ? -1 : 1))
    .map((subscriber) => ({ ...subscriber, has: [] as Array<{ topic: string; partition: number }> }))
  type Member = (typeof members)[number]
  const topics = [...new Set(members.flatMap((m) => [...m.topics]))].sort()
  const count = new Map(topics.map((topic) => [topic, partitionsOf(topic)]))

  const claims = new Map<string, { readonly member: Member; readonly topic: string; readonly partition: number }>()
  for (const member of members) {
    for (const [topic, partitions] of Object.entries(member.owned)) {
      if (!member.topics.has(topic)) continue
      for (const partition of partitions) {
        if (partition < 0 || partition >= (count.get(topic) ?? 0)) continue
        const key = `${topic}/${partition}`
        const other = claims.get(key)
        if (other === undefined || member.generation > other.member.generation)
          claims.set(key, { member, topic, partition })
      }
    }
  }
  for (const { member, partition, topic } of claims.values()) member.has.push({ topic, partition })

  const least = (topic: string): Member | undefined => {
    let best: Member | undefined
    for (const member of members) {
      if (member.topics.has(topic) && (best === undefined || member.has.length < best.has.length)) best = member
    }
    return best
  }
  for (const topic of topics) {
    for (let partition = 0; partition < count.get(topic)!; partition++) {
      if (!claims.has(`${topic}/${partition}`)) least(topic)?.has.push({ topic, partition })
    }
  }

  // one at a time from whoever has most then: who gave up several at once would give more than it has to, and be given others for it
  const moveOne = (): boolean => {
    for (const rich of members.toSorted((a, b) => b.has.length - a.has.length)) {
      const seen = new Set<string>()
      for (let i = rich.has.length - 1; i >= 0; i--) {
        const { topic } = rich.has[i]!
        if (seen.has(topic)) continue
        seen.add(topic)
        const poor = least(topic)
        if (poor === undefined || rich.has.length - poor.has.length < 2) continue
        poor.has.push(...rich.has.splice(i, 1))
        return true
      }
    }
    return false
  }
  while (moveOne());

  return new Map(
    members.map((member) => {
      const assignment: Record<string, Array<number>> = Object.create(null)
      for (const { partition, topic } of member.has) (assignment[topic] ??= []).push(partition)
      for (const partitions of Object.values(assignment)) partitions.sort((a, b) => a - b)
      return [member.memberId, assignment]
    })
  )
}

/**
 * As plain kafkajs members would with theirs, so that it does not matter who leads a group shared with them: the partitions of all
 * topics of the leader one after another to the members by id.
 */
const assignInTurn = (
  members: ReadonlyArray<MemberOfGroup>,
  topics: ReadonlyArray<string>,
  partitionsOf: (topic: string) => number
): ReadonlyMap<string, Assignment> => {
  const ids = members.map(({ memberId }) => memberId).sort()
  const result = new Map<string, Record<string, Array<number>>>()
  let turn = 0
  for (const topic of topics) {
    for (let partition = 0; partition < partitionsOf(topic); partition++) {
      const memberId = ids[turn++ % ids.length]!
      let assignment = result.get(memberId)
      if (assignment === undefined)
        result.set(memberId, (assignment = Object.create(null) as Record<string, Array<number>>))
      ;(assignment[topic] ??= []).push(partition)
    }
  }
  return result
}

/** The leader's part: what goes into SyncGroup. `undefined` when the group has settled on an assigner that is not ours. */
export const assign = (
  protocol: string,
  members: ReadonlyArray<MemberOfGroup>,
  ownTopics: ReadonlyArray<string>,
  partitionsOf: (topic: string) => number
): ReadonlyArray<{ readonly memberId: string; readonly memberAssignment: Buffer }> | undefined => {
  if (protocol === stickyName) {
    const result = assignSticky(members.map(subscriber), partitionsOf)
    return [...result].map(([memberId, assignment]) => ({ memberId, memberAssignment: encodeAssignment(assignment) }))
  }
  if (protocol === cooperativeName) {
    const subscribers = members.map(subscriber)
    const { again, assignments } = withhold(subscribers, assignSticky(subscribers, partitionsOf), partitionsOf)
    return [...assignments].map(([memberId, assignment]) => ({
      memberId,
      memberAssignment: encodeAssignment(assignment, again ? another : undefined)
    }))
  }
  if (protocol === roundRobinName) {
    const result = assignInTurn(members, ownTopics, partitionsOf)
    return [...result].map(([memberId, assignment]) => ({ memberId, memberAssignment: encodeAssignment(assignment) }))
  }
  return undefined
}
