/**
 * Topics by name. A topic that was deleted and created again has another id: by it members and groups see that it is
 * another one.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { PartitionLog } from "./log.ts"

export interface Topic {
  readonly name: string
  readonly id: number
  readonly compaction: boolean
  readonly partitions: Array<PartitionLog>
  /** where the next record without a key goes */
  next: number
}

/** A misuse by the test that drives the cluster. It is a defect: nobody is meant to handle it. */
export class MisuseError extends Error {
  override readonly name = "MemoryKafkaMisuse"
}

export const keyOf = (partition: TopicPartition): string => `${partition.topic}/${partition.partition}`

export class Topics {
  private readonly byName = new Map<string, Topic>()
  private lastId = 0
  /** Called when topics or partitions come or go. */
  readonly watchers = new Set<() => void>()

  create(name: string, partitions: number, compaction: boolean, start: bigint): Topic {
    if (this.byName.has(name)) throw new MisuseError(`topic ${name} is there already`)
    if (!Number.isSafeInteger(partitions) || partitions < 1) throw new MisuseError(`${partitions} partitions`)
    const topic: Topic = {
      name,
      id: ++this.lastId,
      compaction,
      partitions: Array.from({ length: partitions }, (_, partition) => new PartitionLog(name, partition, start)),
      next: 0
    }
    this.byName.set(name, topic)
    this.changed()
    return topic
  }

  /** Up to `total` partitions. */
  grow(name: string, total: number): void {
    const topic = this.get(name)
    if (total <= topic.partitions.length)
      throw new MisuseError(`${name} has ${topic.partitions.length} partitions already`)
    while (topic.partitions.length < total) topic.partitions.push(new PartitionLog(name, topic.partitions.length, 0n))
    this.changed()
  }

  delete(name: string): Topic {
    const topic = this.get(name)
    this.byName.delete(name)
    for (const log of topic.partitions) log.changed("cut")
    this.changed()
    return topic
  }

  find(name: string): Topic | undefined {
    return this.byName.get(name)
  }

  get(name: string): Topic {
    const topic = this.byName.get(name)
    if (topic === undefined) throw new MisuseError(`there is no topic ${name}`)
    return topic
  }

  log(partition: TopicPartition): PartitionLog | undefined {
    return this.byName.get(partition.topic)?.partitions[partition.partition]
  }

  getLog(topic: string, partition: number): PartitionLog {
    const log = this.get(topic).partitions[partition]
    if (log === undefined) throw new MisuseError(`${topic} has no partition ${partition}`)
    return log
  }

  /** All partitions of those of the topics that are there. */
  partitionsOf(names: Iterable<string>): Array<TopicPartition> {
    const all: Array<TopicPartition> = []
    for (const name of names) {
      const topic = this.byName.get(name)
      if (topic !== undefined) topic.partitions.forEach((_, partition) => all.push({ topic: name, partition }))
    }
    return all
  }

  private changed(): void {
    for (const watcher of this.watchers) watcher()
  }
}
