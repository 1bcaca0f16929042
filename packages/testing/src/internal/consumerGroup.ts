/**
 * The broker's half of the incremental group protocol (KIP-848): one request, ConsumerGroupHeartbeat, in which a member says
 * what it holds and is told what it should hold.
 *
 * - Each change of members or topics raises the group's epoch and makes a new target assignment.
 * - A member reaches it on its own, in its own heartbeats: first it gives up what is not its any more and says so, then its
 *   epoch becomes the group's and it gets what is free; what others still hold comes later.
 * - A member whose partitions do not change gets a new epoch and no new assignment.
 * - Who does not give up within the rebalance timeout, or is silent for the session timeout, is out.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { assign } from "./assignor.ts"
import type { Code, GroupHeartbeatRequest, GroupHeartbeatResponse } from "./protocol.ts"
import { Deadline, type Time } from "./time.ts"

type Owned = TopicPartition & { readonly topicId: number }

interface Member {
  readonly id: string
  clientId: string
  topics: ReadonlyArray<string>
  sessionTimeout: number
  rebalanceTimeout: number
  epoch: number
  previousEpoch: number
  /** what it may use */
  assigned: Map<string, Owned>
  /** what it was told to give up and has not said that it did */
  revoking: Map<string, Owned>
  target: Map<string, Owned>
  readonly session: Deadline
  readonly revocation: Deadline
}

export interface ConsumerHooks {
  readonly time: Time
  /** all partitions of those of the topics that are there */
  readonly partitions: (topics: Iterable<string>) => ReadonlyArray<Owned>
  readonly log: (event: () => string) => void
}

const keyOf = (partition: Owned): string => `${partition.topicId}:${partition.topic}/${partition.partition}`
const byKey = (partitions: Iterable<Owned>): Map<string, Owned> => new Map([...partitions].map((p) => [keyOf(p), p]))
const refused = (error: Code): GroupHeartbeatResponse => ({
  error,
  epoch: -1,
  assignment: [],
  joined: false
})

export class ConsumerGroup {
  private readonly hooks: ConsumerHooks
  private readonly members = new Map<string, Member>()
  epoch = 0
  /** the partitions for which the target was made */
  private known = ""
  /** by member: one that asks again does not listen to the question before any more */
  private waiting = new Map<string, () => void>()

  constructor(hooks: ConsumerHooks) {
    this.hooks = hooks
  }

  get isEmpty(): boolean {
    return this.members.size === 0
  }

  get memberIds(): ReadonlyArray<string> {
    return [...this.members.keys()]
  }

  /** Whether everybody has what it should have. */
  get isStable(): boolean {
    for (const member of this.members.values()) {
      if (member.epoch !== this.epoch || member.revoking.size > 0 || member.assigned.size !== member.target.size)
        return false
    }
    return true
  }

  /** Whether all have heard of the epoch of now, and have given up what they had to. */
  get isJoined(): boolean {
    for (const member of this.members.values()) if (member.epoch !== this.epoch) return false
    return true
  }

  /** As JoinGroup is answered when the last member has sent its own. */
  whenJoined(memberId: string, then: () => void): void {
    this.waiting.set(memberId, then)
    this.answer()
  }

  private answer(): void {
    if (!this.isJoined) return
    const { waiting } = this
    this.waiting = new Map()
    for (const then of waiting.values()) then()
  }

  describe() {
    return [...this.members.values()].map((member) => ({
      memberId: member.id,
      clientId: member.clientId,
      epoch: member.epoch,
      assignment: [...member.assigned.values()].map(({ partition, topic }) => ({ topic, partition }))
    }))
  }

  heartbeat(request: GroupHeartbeatRequest): GroupHeartbeatResponse {
    if (request.epoch === -1) {
      this.remove(request.memberId, "left")
      return { epoch: -1, assignment: [], joined: false }
    }
    const known = this.members.get(request.memberId)
    if (known === undefined && request.epoch !== 0) return refused("UNKNOWN_MEMBER_ID")
    const owned = byKey(request.owned)
    if (known !== undefined && request.epoch !== 0 && request.epoch !== known.epoch) {
      // The answer that told it of its epoch was lost: then it still says the one before, and holds nothing that it should not.
      const answerLost =
        request.epoch === known.previousEpoch && [...owned.keys()].every((key) => known.assigned.has(key))
      if (!answerLost) return refused("FENCED_MEMBER_EPOCH")
    }
    const member = known ?? this.add(request)
    member.session.set(member.sessionTimeout)
    if (request.epoch === 0) {
      // It (re)joins and holds nothing.
      member.epoch = 0
      member.previousEpoch = 0
      member.assigned.clear()
      member.revoking.clear()
    }
    if (known === undefined || known.topics.join() !== request.topics.join()) {
      member.topics = request.topics
      this.retarget(known === undefined ? `${member.id} joins` : `${member.id} subscribes to other topics`)
    }
    this.reconcile(member, owned)
    this.answer()
    return { epoch: member.epoch, assignment: [...member.assigned.values()], joined: this.isJoined }
  }

  /** Topics have changed. */
  refresh(): void {
    if (this.members.size > 0 && this.partitionKeys() !== this.known) this.retarget("topics have changed")
  }

  refusal(memberId: string, epoch: number): Code | undefined {
    const member = this.members.get(memberId)
    if (member === undefined) return "UNKNOWN_MEMBER_ID"
    return epoch === member.epoch ? undefined : "STALE_MEMBER_EPOCH"
  }

  remove(memberId: string, why: string): boolean {
    const member = this.members.get(memberId)
    if (member === undefined) return false
    this.hooks.log(() => `${memberId} is out: ${why}`)
    member.session.stop()
    member.revocation.stop()
    this.members.delete(memberId)
    this.waiting.delete(memberId)
    this.retarget(`${memberId} is out`)
    this.answer()
    return true
  }

  /** A new epoch of the group without any other change: every member's epoch moves, nobody is assigned anything. */
  disturb(): void {
    if (this.members.size > 0) this.retarget("asked for")
  }

  stop(): void {
    this.waiting.clear()
    for (const member of this.members.values()) {
      member.session.stop()
      member.revocation.stop()
    }
  }

  /** All of it is written down at each change, so a new coordinator knows everything; its clocks start again. */
  restart(): void {
    for (const member of this.members.values()) {
      member.session.set(member.sessionTimeout)
      if (member.revoking.size > 0) member.revocation.set(member.rebalanceTimeout)
    }
  }

  private add(request: GroupHeartbeatRequest): Member {
    const id = request.memberId
    const member: Member = {
      id,
      clientId: request.clientId,
      topics: request.topics,
      sessionTimeout: request.sessionTimeout,
      rebalanceTimeout: request.rebalanceTimeout,
      epoch: 0,
      previousEpoch: 0,
      assigned: new Map(),
      revoking: new Map(),
      target: new Map(),
      session: new Deadline(this.hooks.time, () => this.remove(id, "session timeout")),
      revocation: new Deadline(this.hooks.time, () => this.remove(id, "rebalance timeout"))
    }
    this.members.set(id, member)
    return member
  }

  private retarget(why: string): void {
    this.epoch++
    this.known = this.partitionKeys()
    const topicIds = new Map<string, Owned>()
    const partitions = this.hooks.partitions(this.subscribed())
    for (const partition of partitions) topicIds.set(`${partition.topic}/${partition.partition}`, partition)
    const targets = assign(
      [...this.members.values()].map((member) => ({
        memberId: member.id,
        topics: member.topics,
        owned: [...member.target.values()],
        generation: 0
      })),
      partitions
    )
    for (const member of this.members.values()) {
      member.target = byKey(targets.get(member.id)!.map((p) => topicIds.get(`${p.topic}/${p.partition}`)!))
    }
    this.hooks.log(() => `epoch ${this.epoch}: ${why}`)
  }

  private reconcile(member: Member, owned: ReadonlyMap<string, Owned>): void {
    if (member.revoking.size > 0) {
      for (const key of [...member.revoking.keys()]) if (!owned.has(key)) member.revoking.delete(key)
      if (member.revoking.size > 0) return
      member.revocation.stop()
    }
    for (const [key, partition] of [...member.assigned]) {
      if (member.target.has(key)) continue
      member.assigned.delete(key)
      if (owned.has(key)) member.revoking.set(key, partition)
    }
    if (member.revoking.size > 0) return member.revocation.set(member.rebalanceTimeout)
    for (const [key, partition] of member.target) {
      if (!member.assigned.has(key) && this.isFree(key, member)) member.assigned.set(key, partition)
    }
    if (member.epoch !== this.epoch) {
      member.previousEpoch = member.epoch
      member.epoch = this.epoch
    }
  }

  private isFree(key: string, by: Member): boolean {
    for (const other of this.members.values()) {
      if (other !== by && (other.assigned.has(key) || other.revoking.has(key))) return false
    }
    return true
  }

  private subscribed(): Set<string> {
    return new Set([...this.members.values()].flatMap((member) => member.topics))
  }

  private partitionKeys(): string {
    return this.hooks.partitions(this.subscribed()).map(keyOf).join()
  }
}
