/**
 * The membership under the classic protocol: one generation after the other, until it is interrupted. Here is the eager one, and what the
 * cooperative one (`cooperative.ts`) does as well: joining, leading, heartbeats.
 *
 * A generation, in order:
 * 1. *hold*: when something is owned, the coordinator is asked whether it is still there, then `Revoking` is offered and waited for, while
 *    heartbeats keep the old generation alive;
 * 2. from here on nothing is committed: JoinGroup, and as leader the assignment, SyncGroup;
 * 3. what stays, what goes and what is new is decided from generations;
 * 4. the committed offsets of all assigned topics are read, which may turn a retained partition into a new epoch, as does another topic
 *    of the same name;
 * 5. `Assigned`, without what has come and waits for a transaction; commits go out again;
 * 6. until the group rebalances; what has waited is announced meanwhile.
 *
 * Invariants:
 * - Nothing is called retained over a generation that this member has not held it in ("a missed generation gives new epochs").
 * - Nothing is retained over a topic that was deleted and created again, nor is its next one begun where this session has committed for it
 *   by name ("created again in the hold: another epoch, which does not begin where the old one was committed").
 * - Nothing is committed between JoinGroup and `Assigned` ("commits wait for the new assignment").
 * - In a group with cooperative members, too, nobody else gets what this one claims: it joins again without what it was not given ("a
 *   group changes from eager to cooperative members, and back, one by one").
 * - A member id is never thrown away unless the coordinator has forgotten it, or a ghost would hold up the group.
 * - Who has lost its instance id to another member ends, and does not take it back ("D36: an instance id that is used twice").
 */
import type { AssignedPartition } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Assigner from "./assigner.ts"
import { fromCode, isFatal } from "./classify.ts"
import { codeName } from "./codes.ts"
import { type Assignment, readAssignment } from "./groupData.ts"
import { isAnotherTopic } from "./doubts.ts"
import { endRecreated, fenced, hold } from "./handover.ts"
import { idByName, keyOf } from "./offsets.ts"
import { rebalances } from "./rebalances.ts"
import { acquireRest, readCommitted } from "./starts.ts"
import { ask, backoff, epochOf, makeOwned, type Owned, type SessionState, written } from "./state.ts"
import { isAnother } from "./withholding.ts"

const source = "group"

/** What the leader has assigned by: when it changes, the leader rejoins. */
export type Layout = ReadonlyMap<string, { readonly partitions: number; readonly id: string | undefined }>

export const layoutOf = (state: SessionState, topics: ReadonlyArray<string>): Layout =>
  new Map(
    topics.map((topic) => {
      const found = state.cluster.metadata.topics.get(topic)
      return [topic, { partitions: found?.code === "NONE" ? found.leaders.size : 0, id: found?.id }]
    })
  )

export interface Leadership {
  /** `undefined` while another member leads */
  layout: Layout | undefined
}

/** How a member takes part in the generations of its group. */
export interface Way {
  /** What it offers, with what it claims. */
  readonly protocols: (state: SessionState) => Assigner.Protocols
  /** What it was given becomes its own. Returns what it has claimed and was not given. */
  readonly take: (state: SessionState, assignment: Assignment) => ReadonlyArray<Owned>
}

/** A generation that this member is in. */
export interface Joined {
  readonly protocol: string
  readonly leaving: ReadonlyArray<Owned>
  /** something was withheld: another generation has to follow */
  readonly another: boolean
}

const eager: Way = {
  protocols: (state) => Assigner.protocols(state.settings.topics, claimOf(state)),
  take: (state, assignment) => reconcile(state, assignment)
}

export const membership = (state: SessionState, leadership: Leadership): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const untilRebalance = rebalances(state)
    /** topics of which the group has committed something */
    const known = new Set<string>()
    let held = false
    while (true) {
      state.rejoin.closeUnsafe()
      // Once a generation: what was Suspended by it stays so until `Assigned`, however often the join has to be repeated.
      if (!held) {
        const within = yield* endRecreated(state)
        yield* hold(state, state.announced(), false, within)
        held = true
      }
      const { another, leaving, protocol } = yield* joining(state, leadership, eager)
      // heartbeats go on while the committed offsets are read; a new rebalance meanwhile makes them worthless
      const announced = yield* Effect.raceFirst(announce(state, known), Effect.as(state.rejoin.await, false))
      if (!announced) continue
      held = false
      // what was claimed and not given again goes to nobody before it is claimed no more
      if (leaving.length > 0 && protocol === Assigner.cooperativeName) continue
      yield* Effect.raceFirst(Effect.andThen(acquireRest(state, known), Effect.never), untilRebalance(another))
    }
  })

/** Joins until it is in a generation and has heard what it was given. */
export const joining = (
  state: SessionState,
  leadership: Leadership,
  way: Way
): Effect.Effect<Joined, KafkaClientError> =>
  Effect.gen(function* () {
    let failures = 0
    /** joins in a row that only lead to the next */
    let repeated = 0
    while (true) {
      state.rejoin.closeUnsafe()
      state.phase = "joining"
      const step = yield* Effect.result(join(state, leadership, way))
      if (step._tag === "Failure") {
        if (isFatal(step.failure)) return yield* step.failure
        state.failed(source, step.failure)
        yield* Effect.sleep(backoff(++failures))
        continue
      }
      if (step.success === "again") {
        // a new member joins twice, a forgotten one three times; a coordinator that goes on like this is asked with pauses
        if (++repeated > 3) yield* Effect.sleep(backoff(repeated - 3))
        continue
      }
      state.works(source)
      return step.success
    }
  })

const join = (
  state: SessionState,
  leadership: Leadership,
  way: Way
): Effect.Effect<Joined | "again", KafkaClientError> =>
  Effect.gen(function* () {
    const { groupId, instanceId: groupInstanceId, rebalanceTimeout, sessionTimeout, topics } = state.settings
    const coordinator = yield* ask(() => state.findCoordinator())
    state.joinUnderWay = true
    const groupProtocols = way.protocols(state)
    const names = groupProtocols.map(({ name }) => name).join(", ")
    const joined = yield* ask(() =>
      state.cluster.use(coordinator, "join the group", (broker) =>
        broker.joinGroup({
          groupId,
          sessionTimeout,
          rebalanceTimeout,
          memberId: state.memberId,
          groupInstanceId,
          groupProtocols
        })
      )
    )
    const joinCode = codeName(joined.errorCode)
    if (joinCode === "MEMBER_ID_REQUIRED") {
      state.memberId = joined.memberId
      return "again"
    }
    if (joinCode !== "NONE") return yield* refused(state, joinCode, "join", names)
    state.memberId = joined.memberId
    state.generation = joined.generationId

    leadership.layout = undefined
    // The coordinator is asked, since it has just answered: one broker after the other that does not could take longer than the session,
    // which no heartbeat renews meanwhile. And all others wait for what a leader assigns.
    const read = (of: ReadonlyArray<string>) =>
      Effect.timeoutOption(
        ask(() => state.cluster.refresh(of, coordinator)),
        sessionTimeout / 4
      )
    let groupAssignment: NonNullable<ReturnType<typeof Assigner.assign>> = []
    if (joined.leaderId === joined.memberId) {
      const all = Assigner.subscribedTopics(joined.members)
      // without an answer it assigns by what it knows; what that lacks, the watcher finds out, from whoever answers
      if (Option.isNone(yield* read(all))) state.look.openUnsafe()
      const layout = layoutOf(state, all)
      const sizeOf = (topic: string) => layout.get(topic)?.partitions ?? 0
      const assigned = Assigner.assign(joined.groupProtocol, joined.members, topics, sizeOf)
      // the coordinator chooses among what all have offered; nobody else's can come out
      if (assigned === undefined) return yield* fromCode("INCONSISTENT_GROUP_PROTOCOL", `lead group ${groupId}`)
      groupAssignment = assigned
      leadership.layout = layout
      // a broker that has just started may not know a topic yet: nobody is given it until the watcher has seen it
      if ([...layout.values()].some(({ partitions }) => partitions === 0)) state.look.openUnsafe()
    } else if (groupInstanceId !== undefined) {
      // A static leader that comes back is told that the one before it leads, and nobody else looks after the partitions: so each looks
      // after its own topics. When it is not the leader who joins again, the others do not notice. What the leader has just assigned by is
      // read first: it would be found to be another layout than the one of before, and rejoined for.
      yield* Effect.ignore(read(topics))
      leadership.layout = layoutOf(state, topics)
    }
    const synced = yield* ask(() =>
      state.cluster.use(coordinator, "sync the group", (broker) =>
        broker.syncGroup({
          groupId,
          generationId: state.generation,
          memberId: state.memberId,
          groupInstanceId,
          groupAssignment
        })
      )
    )
    const syncCode = codeName(synced.errorCode)
    if (syncCode !== "NONE") return yield* refused(state, syncCode, "sync", names)
    const { assignment, userData } = yield* readable(groupId, synced.memberAssignment, names)
    const leaving = way.take(state, assignment)
    // what heartbeats said of the generation before is answered by this one
    state.rejoin.closeUnsafe()
    return { protocol: joined.groupProtocol, leaving, another: isAnother(userData) }
  }).pipe(
    // left meanwhile: LeaveGroup would wait behind a request that the broker keeps until the others have joined
    Effect.onInterrupt(() => Effect.sync(() => state.dropCoordinator(state.coordinator))),
    Effect.ensuring(
      Effect.sync(() => {
        state.joinUnderWay = false
      })
    )
  )

/** The leader has written it, and may be anybody who calls his assigner as one of ours. */
const readable = (
  groupId: string,
  data: Buffer,
  names: string
): Effect.Effect<ReturnType<typeof readAssignment>, KafkaClientError> =>
  Effect.try({
    try: () => readAssignment(data),
    catch: () =>
      new KafkaClientError({
        reason: "ProtocolMismatch",
        detail: `the leader of group ${groupId} assigns what cannot be read; all members need one of ${names}`
      })
  })

const refused = (
  state: SessionState,
  code: string,
  what: "join" | "sync",
  names: string
): Effect.Effect<"again", KafkaClientError> =>
  Effect.suspend(() => {
    const { groupId } = state.settings
    switch (code) {
      case "FENCED_INSTANCE_ID":
        return Effect.fail(fenced(state))
      case "UNKNOWN_MEMBER_ID":
        state.evict(true)
        return Effect.succeed("again" as const)
      // the group went on without us; what we hold now is decided by the generation that we get next
      case "REBALANCE_IN_PROGRESS":
      case "ILLEGAL_GENERATION":
        return Effect.succeed("again" as const)
      case "NOT_COORDINATOR":
      case "COORDINATOR_NOT_AVAILABLE":
        state.dropCoordinator(state.coordinator)
        return Effect.fail(fromCode(code, `${what} group ${groupId}`))
      case "INCONSISTENT_GROUP_PROTOCOL":
        return Effect.fail(
          fromCode(
            code,
            `group ${groupId} is used with other assigners or another protocol than ours (${names}); ` +
              "all members need one in common"
          )
        )
      default:
        return Effect.fail(fromCode(code, `${what} group ${groupId}`))
    }
  })

/** What we hold, announced or not: who is given it has nothing to do with whether it is retained. */
export const claimOf = (state: SessionState) => {
  // without a prototype: a topic may be called "constructor"
  const owned: Record<string, Array<number>> = Object.create(null)
  let generation = -1
  for (const o of state.owned.values()) {
    ;(owned[o.topic] ??= []).push(o.partition)
    generation = Math.max(generation, o.heldIn)
  }
  return { generation, owned }
}

/**
 * What stays is what was held in the generation directly before. A generation that was missed in between may have given the
 * partition to somebody who has worked on it and committed.
 *
 * The event order that leads there: our SyncGroup is late, the others get theirs and work, one leaves, the group
 * rebalances, and the sticky assigner gives back to us what we claim.
 */
const reconcile = (state: SessionState, assignment: Assignment): ReadonlyArray<Owned> => {
  const { cluster, generation, owned } = state
  const keep = new Map<string, Owned>()
  for (const topic of state.settings.topics) {
    for (const partition of assignment[topic] ?? []) {
      const key = keyOf(topic, partition)
      const had = owned.get(key)
      const missed = had === undefined ? 0 : generation - had.heldIn
      if (had !== undefined && (missed === 0 || missed === 1)) {
        had.heldIn = generation
        keep.set(key, had)
      } else {
        keep.set(key, makeOwned(topic, partition, generation, cluster.metadata.topics.get(topic)?.id))
      }
    }
  }
  const leaving = [...owned].filter(([key]) => !keep.has(key)).map(([, o]) => o)
  owned.clear()
  for (const [key, o] of keep) owned.set(key, o)
  return leaving
}

/**
 * Reads what the group has committed and announces the assignment. Retained partitions are read too: another value than the
 * one that this session committed last means that somebody else has worked on it. Another id of its topic means that it is another one:
 *
 * A follower does not hear of it before metadata are old. Meanwhile it flushes, and the coordinator takes that by name: an offset of the old
 * topic, committed for the new one. Nobody else could commit for it, so that offset is not where the new one begins.
 *
 * What has come is left out while a transaction is about to replace its offset: it is announced when that has ended, and all else goes on.
 * What is retained is compared by the offset that stands; where somebody else has begun a transaction on it nonetheless, the next
 * rebalance finds what that has brought.
 */
const announce = (state: SessionState, known: Set<string>): Effect.Effect<boolean, KafkaClientError> =>
  Effect.gen(function* () {
    const { committed, ids, pending, withOffset } = yield* readCommitted(
      state,
      () => [...state.owned.values()],
      ({ topic }) => idByName(state.cluster, topic),
      false
    )
    known.clear()
    for (const topic of withOffset) known.add(topic)
    const all = [...state.owned].flatMap(([key, had]): ReadonlyArray<AssignedPartition> => {
      const id = ids.get(key)
      const recreated = isAnotherTopic(had, id)
      let found = committed.get(key)
      let owned = had
      const now = found && written(found)
      const unchanged =
        now === (had.committed && written(had.committed)) || (now !== undefined && had.doubtful.has(now))
      if (recreated && unchanged) found = undefined
      if (had.announced && (recreated || !unchanged)) {
        if (recreated) state.offer({ _tag: "Gone", ...epochOf(had), why: "recreated" })
        owned = makeOwned(had.topic, had.partition, had.heldIn, id)
        state.owned.set(key, owned)
      }
      const retained = owned.announced
      // what was held up to here, too: somebody else has worked on it, and may go on to
      if (!retained && pending.has(key)) return []
      owned.committed = found
      owned.announced = true
      owned.topicId = id ?? owned.topicId
      return [{ ...epochOf(owned), retained, committed: found, topicCommitted: withOffset.has(owned.topic) }]
    })
    state.phase = "member"
    state.announcedGeneration = state.generation
    state.offer({ _tag: "Assigned", all })
    state.wakeFetch()
    return true
  })

/**
 * Heartbeats on their own clock, whatever fetches and commits do, with the generation pinned. They find out about a rebalance,
 * and during a hold they keep the membership alive.
 */
export const heartbeats = (state: SessionState): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const { groupId, heartbeatInterval, instanceId: groupInstanceId } = state.settings
    let failures = 0
    while (true) {
      const pause = failures === 0 ? heartbeatInterval : Math.min(heartbeatInterval, backoff(failures))
      yield* Effect.timeoutOption(state.beat.await, pause)
      state.beat.closeUnsafe()
      const { generation, memberId } = state
      if (generation < 0 || memberId === "" || state.joinUnderWay) continue
      const result = yield* Effect.result(
        ask(async () => {
          const coordinator = await state.findCoordinator()
          const answer = await state.cluster.use(coordinator, "heartbeat", (broker) =>
            broker.heartbeat({ groupId, groupGenerationId: generation, memberId, groupInstanceId })
          )
          const code = codeName(answer.errorCode)
          if (code === "NOT_COORDINATOR" || code === "COORDINATOR_NOT_AVAILABLE") state.dropCoordinator(coordinator)
          return code
        })
      )
      if (result._tag === "Failure") {
        if (isFatal(result.failure)) return yield* result.failure
        failures++
        state.failed("heartbeat", result.failure)
        continue
      }
      // the answer is about the generation it was asked with
      if (state.generation !== generation || state.memberId !== memberId) continue
      const code = result.success
      switch (code) {
        case "NONE":
        case "REBALANCE_IN_PROGRESS":
          failures = 0
          state.works("heartbeat")
          if (code === "REBALANCE_IN_PROGRESS") state.rejoin.openUnsafe()
          break
        case "UNKNOWN_MEMBER_ID":
        case "ILLEGAL_GENERATION":
          failures = 0
          state.works("heartbeat")
          // A JoinGroup may have gone out while this was on its way: then it was answered for a generation that is over anyway.
          if (!state.joinUnderWay) state.evict(code === "UNKNOWN_MEMBER_ID")
          break
        case "FENCED_INSTANCE_ID":
          return yield* fenced(state)
        default: {
          const error = fromCode(code, `heartbeat of group ${groupId}`)
          if (isFatal(error)) return yield* error
          failures++
          state.failed("heartbeat", error)
        }
      }
    }
  })
