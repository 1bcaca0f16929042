/**
 * The broker's half of the classic (eager) group protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, as Kafka's group
 * coordinator answers them. The assignment is the leader's; here it is only passed on.
 *
 *     Empty -> PreparingRebalance -> CompletingRebalance -> Stable -> PreparingRebalance -> ...
 *                (JoinGroups wait)      (SyncGroups wait)
 *
 * Commits of the old generation are taken until the last JoinGroup has come, which is why a member may flush before it
 * rejoins. Only Stable (and Empty) is written down: a coordinator that fails in between comes back with the generation
 * before.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Code, JoinRequest, JoinResponse, SyncResponse } from "./protocol.ts"
import { Deadline, type Time } from "./time.ts"

interface Member {
  readonly id: string
  request: JoinRequest
  assignment: ReadonlyArray<TopicPartition>
  synced: boolean
  joining: ((response: JoinResponse) => void) | undefined
  syncing: ((response: SyncResponse) => void) | undefined
  readonly session: Deadline
}

export type ClassicState = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable"

export interface ClassicHooks {
  readonly time: Time
  readonly initialRebalanceDelay: number
  readonly newMemberId: (clientId: string) => string
  /** for the trace */
  readonly log: (event: () => string) => void
}

const refusedJoin = (error: Code, memberId = ""): JoinResponse => ({
  error,
  memberId,
  generation: -1,
  leader: "",
  members: []
})
const refusedSync = (error: Code): SyncResponse => ({ error, assignment: [] })

export class ClassicGroup {
  private readonly hooks: ClassicHooks
  state: ClassicState = "Empty"
  generation = 0
  leader = ""
  private members = new Map<string, Member>()
  /** ids given out by MEMBER_ID_REQUIRED and not used yet */
  private readonly announced = new Set<string>()
  /** the first members of an empty group are waited for, so that they start together */
  private gathering = false
  private readonly rebalance: Deadline
  private readonly syncs: Deadline
  private written: {
    generation: number
    leader: string
    members: Array<Pick<Member, "id" | "request" | "assignment">>
  } = {
    generation: 0,
    leader: "",
    members: []
  }

  constructor(hooks: ClassicHooks) {
    this.hooks = hooks
    this.rebalance = new Deadline(hooks.time, () => this.complete())
    this.syncs = new Deadline(hooks.time, () => this.expelUnsynced())
  }

  get isEmpty(): boolean {
    return this.members.size === 0
  }

  get memberIds(): ReadonlyArray<string> {
    return [...this.members.keys()]
  }

  describe() {
    return [...this.members.values()].map((member) => ({
      memberId: member.id,
      clientId: member.request.clientId,
      epoch: this.generation,
      assignment: member.assignment
    }))
  }

  join(request: JoinRequest, answer: (response: JoinResponse) => void): void {
    let member = this.members.get(request.memberId)
    if (member === undefined) {
      if (request.memberId === "") {
        const memberId = this.hooks.newMemberId(request.clientId)
        this.announced.add(memberId)
        return answer(refusedJoin("MEMBER_ID_REQUIRED", memberId))
      }
      if (!this.announced.has(request.memberId)) return answer(refusedJoin("UNKNOWN_MEMBER_ID"))
      for (const other of this.members.values()) {
        if (!request.protocols.some((protocol) => other.request.protocols.includes(protocol))) {
          return answer(refusedJoin("INCONSISTENT_GROUP_PROTOCOL", request.memberId))
        }
      }
      this.announced.delete(request.memberId)
      const id = request.memberId
      member = {
        id,
        request,
        assignment: [],
        synced: false,
        joining: undefined,
        syncing: undefined,
        session: new Deadline(this.hooks.time, () => this.remove(id, "session timeout"))
      }
      this.members.set(id, member)
    } else if (
      (this.state === "CompletingRebalance" || (this.state === "Stable" && member.id !== this.leader)) &&
      sameRequest(member.request, request)
    ) {
      // Nothing has changed with it, its answer was lost: it is told again, and the group does not start anew.
      this.touch(member)
      return answer(this.joinResponse(member))
    }
    member.request = request
    member.joining = answer
    // A member that waits for an answer of ours is alive as long as its connection is.
    member.session.stop()
    if (this.state !== "PreparingRebalance") this.prepare(`${request.memberId} joins`)
    else this.completeWhenAllAreHere()
  }

  sync(
    memberId: string,
    generation: number,
    assignments: ReadonlyMap<string, ReadonlyArray<TopicPartition>> | undefined,
    answer: (response: SyncResponse) => void
  ): void {
    const member = this.members.get(memberId)
    if (member === undefined) return answer(refusedSync("UNKNOWN_MEMBER_ID"))
    if (generation !== this.generation) return answer(refusedSync("ILLEGAL_GENERATION"))
    if (this.state === "PreparingRebalance") return answer(refusedSync("REBALANCE_IN_PROGRESS"))
    member.synced = true
    if (this.state === "CompletingRebalance") {
      member.syncing = answer
      member.session.stop()
      if (memberId === this.leader) this.assigned(assignments ?? new Map())
      return
    }
    this.touch(member)
    answer({ assignment: member.assignment })
  }

  heartbeat(memberId: string, generation: number): Code | undefined {
    const member = this.members.get(memberId)
    if (member === undefined) return "UNKNOWN_MEMBER_ID"
    if (generation !== this.generation) return "ILLEGAL_GENERATION"
    this.touch(member)
    return this.state === "PreparingRebalance" ? "REBALANCE_IN_PROGRESS" : undefined
  }

  /** Whether a commit of this member is taken; Kafka asks no more than this. */
  refusal(memberId: string, generation: number): Code | undefined {
    const member = this.members.get(memberId)
    if (member === undefined) return "UNKNOWN_MEMBER_ID"
    if (generation !== this.generation) return "ILLEGAL_GENERATION"
    // Its JoinGroup was answered and its SyncGroup was not: it cannot know what it owns.
    if (this.state === "CompletingRebalance") return "REBALANCE_IN_PROGRESS"
    this.touch(member)
    return undefined
  }

  remove(memberId: string, why: string): boolean {
    const member = this.members.get(memberId)
    if (member === undefined) return this.announced.delete(memberId)
    this.hooks.log(() => `${memberId} is out: ${why}`)
    this.drop(member)
    if (this.state === "PreparingRebalance") this.completeWhenAllAreHere()
    else this.prepare(`${memberId} is out`)
    return true
  }

  /** Makes everybody join again, as a member that rejoins without need does. */
  disturb(): void {
    if (this.state === "Stable" || this.state === "CompletingRebalance") this.prepare("asked for")
  }

  /** The coordinator goes away: what it had only in memory is lost, and nobody who waits is answered. */
  stop(): void {
    this.gathering = false
    this.rebalance.stop()
    this.syncs.stop()
    for (const member of this.members.values()) member.session.stop()
    this.announced.clear()
  }

  /** The coordinator is back with what it had written down. Everybody gets a whole session timeout. */
  restart(): void {
    this.generation = this.written.generation
    this.leader = this.written.leader
    this.state = this.written.members.length === 0 ? "Empty" : "Stable"
    this.members = new Map()
    for (const { assignment, id, request } of this.written.members) {
      const member: Member = {
        id,
        request,
        assignment,
        synced: true,
        joining: undefined,
        syncing: undefined,
        session: new Deadline(this.hooks.time, () => this.remove(id, "session timeout"))
      }
      this.members.set(id, member)
      this.touch(member)
    }
  }

  private prepare(why: string): void {
    const fresh = this.state === "Empty"
    this.state = "PreparingRebalance"
    this.hooks.log(() => `rebalance: ${why}`)
    this.syncs.stop()
    for (const member of this.members.values()) {
      member.syncing?.(refusedSync("REBALANCE_IN_PROGRESS"))
      if (member.syncing !== undefined) this.touch(member)
      member.syncing = undefined
      member.synced = false
    }
    this.gathering = fresh && this.hooks.initialRebalanceDelay > 0
    if (this.gathering) return this.rebalance.set(this.hooks.initialRebalanceDelay)
    this.rebalance.set(Math.max(0, ...[...this.members.values()].map((member) => member.request.rebalanceTimeout)))
    this.completeWhenAllAreHere()
  }

  private completeWhenAllAreHere(): void {
    if (this.gathering && this.members.size > 0) return
    for (const member of this.members.values()) if (member.joining === undefined) return
    this.complete()
  }

  /** Everybody is here, or the time is over: who is not here is out. */
  private complete(): void {
    this.rebalance.stop()
    this.gathering = false
    for (const member of [...this.members.values()]) {
      if (member.joining !== undefined) continue
      this.hooks.log(() => `${member.id} is out: rebalance timeout`)
      this.drop(member)
    }
    this.generation++
    if (this.members.size === 0) {
      this.state = "Empty"
      this.leader = ""
      this.hooks.log(() => `generation ${this.generation}: empty`)
      return this.write()
    }
    this.state = "CompletingRebalance"
    if (!this.members.has(this.leader)) this.leader = this.members.keys().next().value!
    this.hooks.log(() => `generation ${this.generation}: ${[...this.members.keys()].join(" ")}, led by ${this.leader}`)
    for (const member of this.members.values()) {
      const answer = member.joining!
      member.joining = undefined
      this.touch(member)
      answer(this.joinResponse(member))
    }
    this.syncs.set(Math.max(...[...this.members.values()].map((member) => member.request.rebalanceTimeout)))
  }

  private joinResponse(member: Member): JoinResponse {
    return {
      memberId: member.id,
      generation: this.generation,
      leader: this.leader,
      members:
        member.id === this.leader
          ? [...this.members.values()].map(({ id, request }) => ({
              memberId: id,
              topics: request.topics,
              userData: request.userData
            }))
          : []
    }
  }

  private assigned(assignments: ReadonlyMap<string, ReadonlyArray<TopicPartition>>): void {
    this.state = "Stable"
    for (const member of this.members.values()) member.assignment = assignments.get(member.id) ?? []
    this.write()
    for (const member of this.members.values()) {
      const answer = member.syncing
      member.syncing = undefined
      if (answer === undefined) continue
      this.touch(member)
      answer({ assignment: member.assignment })
    }
  }

  /** Kafka gives a member the rebalance timeout for its SyncGroup too. */
  private expelUnsynced(): void {
    const late = [...this.members.values()].filter((member) => !member.synced)
    for (const member of late) {
      this.hooks.log(() => `${member.id} is out: no SyncGroup`)
      this.drop(member)
    }
    if (late.length > 0) this.prepare("a SyncGroup did not come")
  }

  private drop(member: Member): void {
    member.session.stop()
    this.members.delete(member.id)
    member.joining?.(refusedJoin("UNKNOWN_MEMBER_ID"))
    member.syncing?.(refusedSync("UNKNOWN_MEMBER_ID"))
  }

  private touch(member: Member): void {
    if (member.joining === undefined && member.syncing === undefined) member.session.set(member.request.sessionTimeout)
  }

  private write(): void {
    this.written = {
      generation: this.generation,
      leader: this.leader,
      members: [...this.members.values()].map(({ assignment, id, request }) => ({ id, request, assignment }))
    }
  }
}

const sameRequest = (a: JoinRequest, b: JoinRequest): boolean => JSON.stringify(a) === JSON.stringify(b)
