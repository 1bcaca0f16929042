/**
 * What is seen of a program from outside: what its groups have committed, which dead letters there are, how its consumers are, and
 * whether its groups are at rest.
 */
import type { ConsumerRecord, TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import type { HealthCode } from "@concurrent-kafka/core/Health"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Cluster } from "../MemoryKafka.ts"
import type { CommittedView, DeadLetterView } from "../TestKit.ts"

/** Codes with which a consumer is on its way somewhere. */
const unsettled: ReadonlySet<HealthCode> = new Set<HealthCode>(["starting", "opening", "rebalancing"])
/** Codes with which it will not join its group any more. */
const over: ReadonlySet<HealthCode> = new Set<HealthCode>(["failed", "committerDead", "idle"])

export class Views {
  /** topics that were created */
  readonly topics = new Set<string>()
  private readonly cluster: Cluster
  private readonly snapshots: () => ReadonlyArray<Snapshot>
  /** what each group reads, or has read */
  private readonly reads = new Map<string, Set<string>>()

  constructor(cluster: Cluster, snapshots: () => ReadonlyArray<Snapshot>) {
    this.cluster = cluster
    this.snapshots = snapshots
  }

  get groups(): Iterable<string> {
    this.look()
    return this.reads.keys()
  }

  /** The group is going to read these. */
  willRead(groupId: string, topics: ReadonlyArray<string>): void {
    const known = this.reads.get(groupId) ?? new Set<string>()
    for (const topic of topics) known.add(topic)
    this.reads.set(groupId, known)
  }

  private look(): void {
    for (const groupId of new Set(this.cluster.sessionsUnsafe().map((session) => session.groupId))) {
      const { members } = this.cluster.groupUnsafe(groupId)
      this.willRead(
        groupId,
        members.flatMap(({ assignment }) => assignment.map(({ topic }) => topic))
      )
    }
  }

  /** Also while the broker is down: a test may look then, too. */
  partitionsOf(topic: string): ReadonlyArray<TopicPartition> {
    const all: Array<TopicPartition> = []
    for (;;) {
      const partition = all.length
      try {
        this.cluster.logOffsetsUnsafe(topic, partition)
      } catch {
        // there is no such partition, or no such topic any more
        return all
      }
      all.push({ topic, partition })
    }
  }

  recordsOf(topic: string): ReadonlyArray<ConsumerRecord> {
    return this.partitionsOf(topic).flatMap(({ partition }) => this.cluster.recordsUnsafe(topic, partition))
  }

  committed(): ReadonlyArray<CommittedView> {
    this.look()
    return [...this.reads].flatMap(([groupId, names]) =>
      [...names]
        .flatMap((topic) => this.partitionsOf(topic))
        .map(({ partition, topic }) => ({
          groupId,
          topic,
          partition,
          committed: this.cluster.committedUnsafe(groupId, topic, partition)?.offset,
          end: this.cluster.logOffsetsUnsafe(topic, partition).end
        }))
    )
  }

  isBehind({ committed, end, partition, topic }: CommittedView): boolean {
    return committed === undefined ? this.cluster.recordsUnsafe(topic, partition).length > 0 : committed < end
  }

  line({ committed, end, groupId, partition, topic }: CommittedView): string {
    const group = this.reads.size > 1 ? ` of ${groupId}` : ""
    return `${topic}/${partition}${group} is committed to ${committed ?? "nothing"} of ${end}`
  }

  /** What of everything that was produced is not committed. */
  lag(): string | undefined {
    const behind = this.committed().filter((view) => this.isBehind(view))
    return behind.length === 0 ? undefined : behind.map((view) => this.line(view)).join(", ")
  }

  /** Whether a record is done, as it is now, whatever comes after. */
  doneNow(): (record: ConsumerRecord) => boolean {
    const committed = this.committed()
    const partitions = this.snapshots().flatMap((snapshot) => snapshot.partitions)
    return ({ offset, partition, topic }) => {
      const isHere = (at: TopicPartition) => at.topic === topic && at.partition === partition
      return (
        committed.some((view) => isHere(view) && view.committed !== undefined && view.committed > offset) ||
        partitions.some(
          (view) =>
            isHere(view) &&
            (view.committable > offset || view.doneBehindGap.some(([from, to]) => from <= offset && offset < to))
        )
      )
    }
  }

  /** Dead letters of records of this topic, whichever topic they lie in. */
  lettersOf(name: string): ReadonlyArray<Pick<DeadLetterView<never>, "topic" | "record" | "letter">> {
    return [...this.topics].flatMap((topic) =>
      this.recordsOf(topic).flatMap((record) => {
        const letter = DeadLetter.read(record)
        return letter?.topic === name ? [{ topic, record, letter }] : []
      })
    )
  }

  health(): ReadonlyArray<HealthCode> {
    const codes = this.snapshots().flatMap((snapshot) => snapshot.health.reasons.map(({ code }) => code))
    return [...new Set(codes)].sort()
  }

  /** Lines about commits and health, for who reads why an assertion failed. */
  state(topic: string | undefined): ReadonlyArray<string> {
    return [
      ...this.committed()
        .filter((view) => topic === undefined || view.topic === topic)
        .map((view) => this.line(view)),
      ...this.health().map((code) => `health says ${code}`)
    ]
  }

  /** Why the groups of these processes are not at rest. */
  unrest(processes: ReadonlySet<string>): string | undefined {
    const ended = new Set<string>()
    for (const { groupId, health, name } of this.snapshots()) {
      for (const { code, message } of health.reasons) {
        if (over.has(code)) ended.add(groupId)
        else if (unsettled.has(code)) return `${name} is ${code}: ${message}`
      }
    }
    for (const groupId of this.groups) {
      const group = this.cluster.groupUnsafe(groupId)
      const gone = group.members.find(({ clientId }) => !processes.has(clientId))
      if (gone !== undefined) return `the group ${groupId} waits for ${gone.clientId}`
      if (group.state !== "Stable" && group.state !== "Empty") return `the group ${groupId} is ${group.state}`
      if (ended.has(groupId)) continue
      for (const session of this.cluster.sessionsUnsafe()) {
        if (session.groupId !== groupId || !processes.has(session.clientId) || !session.isOpenUnsafe()) continue
        const member = group.members.find(({ memberId }) => memberId === session.memberIdUnsafe())
        if (member === undefined) return `${session.clientId} is not in the group ${groupId}`
        if (member.assignment.length !== session.heldUnsafe().length) {
          return `${session.clientId} has not got its partitions`
        }
      }
    }
    return undefined
  }
}
