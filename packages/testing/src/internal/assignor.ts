/**
 * Who gets which partition: balanced (nobody has two more than another who could take them), and with as little movement as
 * that allows. The same input gives the same result.
 *
 * Ownership is claimed together with the generation in which it was held. Of two claims the higher generation wins: the
 * lower one is of a member that missed something (KAFKA-12984).
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { keyOf } from "./topics.ts"

export interface Claim {
  readonly memberId: string
  readonly topics: ReadonlyArray<string>
  readonly owned: ReadonlyArray<TopicPartition>
  readonly generation: number
}

export const assign = (
  members: ReadonlyArray<Claim>,
  partitions: ReadonlyArray<TopicPartition>
): Map<string, Array<TopicPartition>> => {
  const subscribed = new Map(members.map((member) => [member.memberId, new Set(member.topics)]))
  const result = new Map<string, Array<TopicPartition>>(members.map((member) => [member.memberId, []]))
  if (members.length === 0) return result

  const owners = new Map<string, Claim>()
  for (const member of members) {
    for (const partition of member.owned) {
      const key = keyOf(partition)
      const other = owners.get(key)
      if (other === undefined || other.generation < member.generation) owners.set(key, member)
    }
  }
  const free: Array<TopicPartition> = []
  for (const partition of partitions) {
    const owner = owners.get(keyOf(partition))
    if (owner !== undefined && subscribed.get(owner.memberId)!.has(partition.topic)) {
      result.get(owner.memberId)!.push(partition)
    } else {
      free.push(partition)
    }
  }

  const size = (memberId: string) => result.get(memberId)!.length
  const least = (topic: string): string | undefined => {
    let found: string | undefined
    for (const { memberId } of members) {
      if (subscribed.get(memberId)!.has(topic) && (found === undefined || size(memberId) < size(found)))
        found = memberId
    }
    return found
  }
  for (const partition of free) {
    const to = least(partition.topic)
    if (to !== undefined) result.get(to)!.push(partition)
  }

  // Each move takes one partition from a member to one that has at least two less, so this ends.
  for (let moved = true; moved;) {
    moved = false
    const byLoad = [...members].sort((a, b) => size(b.memberId) - size(a.memberId))
    for (const { memberId } of byLoad) {
      const own = result.get(memberId)!
      for (let i = own.length - 1; i >= 0 && !moved; i--) {
        const to = least(own[i]!.topic)
        if (to !== undefined && size(to) + 1 < own.length) {
          result.get(to)!.push(...own.splice(i, 1))
          moved = true
        }
      }
      if (moved) break
    }
  }
  const order = new Map(partitions.map((partition, index) => [keyOf(partition), index]))
  for (const own of result.values()) own.sort((a, b) => order.get(keyOf(a))! - order.get(keyOf(b))!)
  return result
}
