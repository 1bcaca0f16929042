/**
 * The group coordinator: which groups there are, who is in them, what they have committed, and the history of every commit
 * that came.
 *
 * As on a real broker a commit is only asked whether its sender is a member of this generation. Neither whether it owns the
 * partition nor whether the offset moves forwards is looked at, so that a test sees what an engine does wrong.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Committed } from "@concurrent-kafka/core/ConsumerSession"
import { ClassicGroup } from "./classicGroup.ts"
import { ConsumerGroup } from "./consumerGroup.ts"
import type {
  Code,
  CommitRequest,
  CommitResponse,
  GroupHeartbeatRequest,
  GroupHeartbeatResponse,
  JoinRequest,
  JoinResponse
} from "./protocol.ts"
import type { Time } from "./time.ts"
import { keyOf, type Topics } from "./topics.ts"

export interface CoordinatorOptions {
  readonly initialRebalanceDelay: number
  readonly maxMetadataLength: number
  readonly maxCommitBytes: number
  readonly commitHistory: number
}

export interface CommitRecord {
  readonly at: number
  readonly groupId: string
  readonly clientId: string
  readonly memberId: string
  readonly generation: number
  readonly entries: ReadonlyArray<TopicPartition & Committed & { readonly code: Code | undefined }>
}

interface Group {
  readonly id: string
  readonly classic: ClassicGroup
  readonly consumer: ConsumerGroup
  readonly offsets: Map<string, TopicPartition & Committed>
}

const utf8 = new TextEncoder()

export class Coordinator {
  private readonly time: Time
  private readonly topics: Topics
  private readonly options: CoordinatorOptions
  private readonly trace: (event: () => string) => void
  private readonly groups = new Map<string, Group>()
  private members = 0
  readonly history: Array<CommitRecord> = []
  /** Called for each commit that came, also for one that was refused. */
  readonly watchers = new Set<(commit: CommitRecord) => void>()

  constructor(time: Time, topics: Topics, options: CoordinatorOptions, trace: (event: () => string) => void) {
    this.time = time
    this.topics = topics
    this.options = options
    this.trace = trace
    topics.watchers.add(() => {
      for (const group of this.groups.values()) group.consumer.refresh()
    })
  }

  group(id: string): Group {
    const known = this.groups.get(id)
    if (known !== undefined) return known
    const log = (event: () => string) => this.trace(() => `group ${id}: ${event()}`)
    const group: Group = {
      id,
      classic: new ClassicGroup({
        time: this.time,
        initialRebalanceDelay: this.options.initialRebalanceDelay,
        newMemberId: (clientId) => this.newMemberId(clientId),
        log
      }),
      consumer: new ConsumerGroup({
        time: this.time,
        partitions: (topics) =>
          this.topics.partitionsOf(topics).map((p) => ({ ...p, topicId: this.topics.get(p.topic).id })),
        log
      }),
      offsets: new Map()
    }
    this.groups.set(id, group)
    return group
  }

  /** Ids are counted, so that a run can be repeated. */
  newMemberId(clientId: string): string {
    return `${clientId}-${++this.members}`
  }

  join(groupId: string, request: JoinRequest, answer: (response: JoinResponse) => void): void {
    const group = this.group(groupId)
    if (!group.consumer.isEmpty) {
      return answer({
        error: "INCONSISTENT_GROUP_PROTOCOL",
        memberId: request.memberId,
        generation: -1,
        leader: "",
        members: []
      })
    }
    group.classic.join(request, answer)
  }

  groupHeartbeat(groupId: string, request: GroupHeartbeatRequest): GroupHeartbeatResponse {
    const group = this.group(groupId)
    if (!group.classic.isEmpty)
      return { error: "INCONSISTENT_GROUP_PROTOCOL", epoch: -1, assignment: [], joined: false }
    return group.consumer.heartbeat(request)
  }

  commit(request: CommitRequest): CommitResponse {
    const group = this.group(request.groupId)
    const refusal =
      request.groupId === ""
        ? "INVALID_GROUP_ID"
        : group.consumer.isEmpty
          ? group.classic.refusal(request.memberId, request.generation)
          : group.consumer.refusal(request.memberId, request.generation)
    // One record batch of the offsets topic takes them all, or none.
    const tooLarge = refusal === undefined && this.storedBytes(request) > this.options.maxCommitBytes
    const codes = request.entries.map((entry) => {
      if (this.topics.log(entry) === undefined) return "UNKNOWN_TOPIC_OR_PARTITION"
      if (refusal !== undefined) return refusal
      if (entry.metadata.length > this.options.maxMetadataLength) return "OFFSET_METADATA_TOO_LARGE"
      return tooLarge ? "UNKNOWN_SERVER_ERROR" : undefined
    })
    this.record(request, codes)
    request.entries.forEach((entry, index) => {
      if (codes[index] === undefined) this.store(group, entry)
    })
    return { codes }
  }

  /** A commit that was answered without being looked at; it is part of the history too. */
  record(request: CommitRequest, codes: ReadonlyArray<Code | undefined>): void {
    const commit: CommitRecord = {
      at: this.time.now(),
      groupId: request.groupId,
      clientId: request.clientId,
      memberId: request.memberId,
      generation: request.generation,
      entries: request.entries.map((entry, index) => ({
        topic: entry.topic,
        partition: entry.partition,
        offset: entry.offset,
        metadata: entry.metadata,
        code: codes[index]
      }))
    }
    this.history.push(commit)
    if (this.history.length > this.options.commitHistory * 1.1) {
      this.history.splice(0, this.history.length - this.options.commitHistory)
    }
    this.trace(
      () =>
        `commit ${request.memberId}@${request.generation}: ${commit.entries
          .map((entry) => `${keyOf(entry)}=${entry.offset}${entry.code === undefined ? "" : ` ${entry.code}`}`)
          .join(", ")}`
    )
    for (const watcher of this.watchers) watcher(commit)
  }

  /** Whatever the group is doing, as a tool would that resets offsets. */
  store(group: Group, entry: TopicPartition & Committed): void {
    group.offsets.set(keyOf(entry), {
      topic: entry.topic,
      partition: entry.partition,
      offset: entry.offset,
      metadata: entry.metadata
    })
  }

  /** Kafka forgets what was committed for a topic that is deleted. */
  forget(topic: string): void {
    for (const group of this.groups.values()) {
      for (const [key, entry] of group.offsets) if (entry.topic === topic) group.offsets.delete(key)
    }
  }

  all(): ReadonlyArray<Group> {
    return [...this.groups.values()]
  }

  stop(): void {
    for (const group of this.groups.values()) {
      group.classic.stop()
      group.consumer.stop()
    }
  }

  restart(): void {
    for (const group of this.groups.values()) {
      group.classic.restart()
      group.consumer.restart()
    }
  }

  private storedBytes(request: CommitRequest): number {
    let bytes = 0
    for (const entry of request.entries) {
      // key (group, topic, partition), value (offset, leader epoch, metadata, time) and what a record costs
      bytes += 40 + request.groupId.length + entry.topic.length + utf8.encode(entry.metadata).length
    }
    return bytes
  }
}
