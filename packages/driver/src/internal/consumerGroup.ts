/**
 * The membership under the `consumer` protocol (KIP-848): the broker assigns, partitions come and go one by one, and the others keep
 * flowing.
 *
 * Two loops:
 * - *heartbeats*, one under way at a time: at the interval that the broker says, and at once when `beat` opens. Each says what is owned,
 *   and its answer what should be; what is to come is owned from then on, not yet announced.
 * - *changes*, one at a time: what should go is held (`Revoking`, exact) until the engine has answered, and the next heartbeat, which
 *   goes out at once, says so; what has come is read from the committed offsets and announced (`Assigned`).
 *
 * Invariants:
 * - A partition is not said to be given up before the engine has answered, or the hold is over ("what goes is given up when the engine
 *   has answered").
 * - A partition is ours from the answer on that brings it: no heartbeat goes out behind it that does not claim it. The broker gives what is
 *   claimed to nobody before we have given it up, so nobody else has it as long as we may commit for it ("what is taken back before it
 *   was announced is never announced, and claimed until then").
 * - Who may wait for long to hear where something begins gives up meanwhile what he has to ("what goes does not wait for a transaction that
 *   what comes waits for").
 * - A commit is sent with the member epoch of that moment, and not while a heartbeat is under way, which may move it ("a commit waits for
 *   the heartbeat that may move the epoch").
 * - What goes is questioned from the answer on that says so until the coordinator has said what it is now, which may have to wait for a hold
 *   of others ("what goes during the hold of another is not committed before it was asked what it is now").
 * - Of a topic that was deleted nothing is committed ("a topic that was deleted is gone, and not given up"), nor while that is not known
 *   ("it is asked again until it answers, and nothing is committed before").
 * - Who is thrown out has lost everything at once, and joins anew with new epochs ("a fenced member has lost everything").
 * - Two members with one instance id do not take it from each other ("a second member with an instance id waits, and then fails").
 *
 * What is held without a break needs no look at its committed offset when others come: nobody else could commit for it.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { ConsumerGroupHeartbeatAnswer, TopicIdPartitions } from "../Broker.ts"
import { fromCode, isFatal } from "./classify.ts"
import { codeName } from "./codes.ts"
import { endGone, fenced, hold } from "./handover.ts"
import { keyOf } from "./offsets.ts"
import { announceAll, readCommitted, unannounced } from "./starts.ts"
import { ask, backoff, epochOf, makeOwned, type Owned, type SessionState } from "./state.ts"

const source = "group"

/**
 * A static member that was killed has not said that it goes: until its session times out nobody else gets its name. The longest session
 * of a broker is a minute, unless that was changed (`group.consumer.max.session.timeout.ms`).
 */
const unreleasedFor = 65_000

/** What the broker wants of us. */
interface Wanted {
  /** milliseconds between two heartbeats */
  interval: number
  /** of the newest answer; `undefined` before the first one of a membership */
  assignment: ReadonlyArray<TopicIdPartitions> | undefined
  /** counts the memberships: each that was thrown out begins another */
  life: number
}

export const consumerGroup = (state: SessionState): Effect.Effect<never, KafkaClientError> =>
  Effect.suspend(() => {
    // what is asked for after a leave is another member
    state.memberId = randomUUID()
    state.phase = "joining"
    state.rejoin.closeUnsafe()
    const wanted: Wanted = { interval: 0, assignment: undefined, life: 0 }
    return Effect.flatMap(
      Effect.all([heartbeats(state, wanted), changes(state, wanted)], { concurrency: "unbounded", discard: true }),
      () => Effect.never
    )
  })

// ---------------------------------------------------------------------------------------------------------------------
// Heartbeats
// ---------------------------------------------------------------------------------------------------------------------

const heartbeats = (state: SessionState, wanted: Wanted): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const { groupId, instanceId } = state.settings
    let failures = 0
    /** in a row, without a heartbeat of a member in between */
    let evictions = 0
    let unreleasedSince: number | undefined
    while (true) {
      const joining = state.generation < 0
      const pause = joining ? 0 : wanted.interval
      const retry = failures > 0 ? backoff(failures) : evictions > 1 ? backoff(evictions - 1) : undefined
      if (retry !== undefined) yield* Effect.sleep(joining ? retry : Math.min(retry, pause))
      else if (pause > 0) yield* Effect.timeoutOption(state.beat.await, pause)
      state.beat.closeUnsafe()
      const result = yield* Effect.result(ask(() => heartbeat(state, wanted)))
      if (result._tag === "Failure") {
        if (isFatal(result.failure)) return yield* unsupported(result.failure)
        failures++
        state.failed("heartbeat", result.failure)
        continue
      }
      state.works("heartbeat")
      const { code, message } = result.success
      if (code !== "UNRELEASED_INSTANCE_ID") unreleasedSince = undefined
      switch (code) {
        case "NONE":
          failures = 0
          if (!joining) evictions = 0
          state.works(source)
          break
        case "UNKNOWN_MEMBER_ID":
        case "FENCED_MEMBER_EPOCH":
          failures = 0
          evictions++
          evict(state, wanted)
          break
        case "FENCED_INSTANCE_ID":
          return yield* fenced(state)
        case "UNRELEASED_INSTANCE_ID": {
          const error = fromCode(code, `another member of group ${groupId} has the instance id ${instanceId}`)
          const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
          unreleasedSince ??= now
          if (now - unreleasedSince >= unreleasedFor) return yield* error
          failures++
          state.failed(source, error)
          break
        }
        // there is a group of that name, and it is no such one, or not any more
        case "GROUP_ID_NOT_FOUND":
        case "INCONSISTENT_GROUP_PROTOCOL":
          if (!joining) evict(state, wanted)
          failures++
          state.failed(source, mismatch(groupId, message))
          break
        case "UNSUPPORTED_VERSION":
          return yield* withoutProtocol()
        case "INVALID_REQUEST":
          return yield* new KafkaClientError({
            reason: "UnsupportedClient",
            detail: `heartbeat of group ${groupId}: INVALID_REQUEST (${message})`
          })
        default: {
          const error = fromCode(code, `heartbeat of group ${groupId}${message === "" ? "" : ` (${message})`}`)
          if (isFatal(error)) return yield* error
          failures++
          state.failed(source, error)
        }
      }
    }
  })

/**
 * One heartbeat. What its answer says is in the state before anybody hears of it: a commit that has waited for it goes out in the epoch
 * that it has brought.
 */
const heartbeat = (
  state: SessionState,
  wanted: Wanted
): Promise<{ readonly code: string; readonly message: string }> => {
  const { groupId, instanceId, rebalanceTimeout, topics } = state.settings
  const { memberId } = state
  const under = async () => {
    const coordinator = await state.findCoordinator()
    // left meanwhile: it would join as a member that nobody is
    if (state.memberId !== memberId) throw new KafkaClientError({ reason: "Closed", detail: "the group was left" })
    const answer = await state.cluster.use(coordinator, "heartbeat", (broker) => {
      if (broker.consumerGroupHeartbeat === undefined) throw withoutProtocol()
      return broker.consumerGroupHeartbeat({
        groupId,
        memberId,
        memberEpoch: Math.max(0, state.generation),
        instanceId,
        rebalanceTimeout,
        topics,
        owned: claims(state)
      })
    })
    const code = codeName(answer.errorCode)
    if (code === "NOT_COORDINATOR" || code === "COORDINATOR_NOT_AVAILABLE") state.dropCoordinator(coordinator)
    // left meanwhile: nothing of it counts any more
    if (code === "NONE" && state.memberId === memberId) take(state, wanted, answer)
    return { code, message: answer.errorMessage ?? "" }
  }
  const moving = under()
  const end = () => {
    if (state.moving === moving) state.moving = undefined
  }
  state.moving = moving
  moving.then(end, end)
  return moving
}

const claims = (state: SessionState): ReadonlyArray<TopicIdPartitions> => {
  const byId = Map.groupBy(state.owned.values(), ({ topicId }) => topicId ?? "")
  return [...byId].map(([topicId, owned]) => ({ topicId, partitions: owned.map(({ partition }) => partition) }))
}

/**
 * What is to come is ours from here on, so that the next heartbeat claims it: the broker has told nobody else, and does not before we
 * have given it up. It must happen before that heartbeat goes out. One that said nothing of it would let the broker give it to others,
 * while here its committed offset is read, and its first records are.
 */
const take = (state: SessionState, wanted: Wanted, answer: ConsumerGroupHeartbeatAnswer): void => {
  state.generation = answer.memberEpoch
  if (state.phase === "member") state.announcedGeneration = answer.memberEpoch
  const before = new Set(going(state, wanted))
  // none at all would be asked without a pause
  wanted.interval = Math.max(1, answer.heartbeatInterval)
  wanted.assignment = answer.assignment ?? wanted.assignment ?? []
  for (const { owned, partition, topic, topicId } of entries(state, wanted)) {
    // what was lost is not taken again before the topic has been seen; another one of the same name has to go first
    if (topic === undefined || owned !== undefined || state.orphaned.has(topic)) continue
    state.owned.set(keyOf(topic, partition), makeOwned(topic, partition, answer.memberEpoch, topicId))
  }
  // `release` may have to wait for what is held or read now: nothing of what goes is committed before it has asked
  const leaving = going(state, wanted)
  state.question(leaving.filter((one) => one.announced && (!before.has(one) || state.isQuestioned(one))))
  if (state.phase !== "member" || leaving.length > 0 || coming(state, wanted)) state.rejoin.openUnsafe()
}

const evict = (state: SessionState, wanted: Wanted): void => {
  wanted.assignment = undefined
  wanted.life++
  state.evict(false)
}

// ---------------------------------------------------------------------------------------------------------------------
// Changes
// ---------------------------------------------------------------------------------------------------------------------

interface Entry {
  readonly topicId: string
  readonly partition: number
  /** `undefined` while the metadata have no topic of that id */
  readonly topic: string | undefined
  /** what we own under this name, whatever its id */
  readonly owned: Owned | undefined
}

const entries = (state: SessionState, { assignment }: Wanted): Array<Entry> => {
  const names = new Map<string, string>()
  for (const topic of state.settings.topics) {
    const found = state.cluster.metadata.topics.get(topic)
    if (found?.code === "NONE" && found.id !== undefined) names.set(found.id, topic)
  }
  // by what is owned, too: metadata may have forgotten a topic for a moment
  for (const { topic, topicId } of state.owned.values()) if (topicId !== undefined) names.set(topicId, topic)
  return (assignment ?? []).flatMap(({ partitions, topicId }) => {
    const topic = names.get(topicId)
    return partitions.map((partition) => ({
      topicId,
      partition,
      topic,
      owned: topic === undefined ? undefined : state.owned.get(keyOf(topic, partition))
    }))
  })
}

/** What we own and should not. */
const going = (state: SessionState, wanted: Wanted): Array<Owned> => {
  const stays = new Set(
    (wanted.assignment ?? []).flatMap(({ partitions, topicId }) => partitions.map((p) => `${topicId} ${p}`))
  )
  return [...state.owned.values()].filter(({ partition, topicId }) => !stays.has(`${topicId} ${partition}`))
}

/** Something is ours that was not announced, or should be ours and is not. */
const coming = (state: SessionState, wanted: Wanted): boolean =>
  entries(state, wanted).some(({ owned, topicId }) => owned?.announced !== true || owned.topicId !== topicId)

const changes = (state: SessionState, wanted: Wanted): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    /** topics of which the group has committed something */
    const known = new Set<string>()
    while (true) {
      yield* state.rejoin.await
      state.rejoin.closeUnsafe()
      // the answer of the next heartbeat opens it again
      if (wanted.assignment === undefined) continue
      if (going(state, wanted).length > 0) yield* release(state, wanted, known)
      else if ([...state.owned.values()].some(({ announced }) => !announced) || state.phase !== "member") {
        yield* acquire(state, wanted, known)
      } else if (coming(state, wanted)) yield* lookUp(state, wanted)
    }
  })

/** Gives up what is not ours any more; the next heartbeat says so. */
const release = (state: SessionState, wanted: Wanted, known: ReadonlySet<string>): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { partitions: leaving, within } = yield* endGone(state, () => going(state, wanted))
    // thrown out meanwhile: there is nothing any more
    if (wanted.assignment === undefined) return
    const end = yield* hold(state, leaving.filter(({ announced }) => announced).map(epochOf), true, within)
    if (end === "evicted") return
    let untold = end === "over"
    for (const one of leaving) {
      const key = keyOf(one.topic, one.partition)
      const now = state.owned.get(key)
      if (now?.topicId !== one.topicId) continue
      // opened anew meanwhile: of that epoch the engine has not heard that it goes
      untold ||= now !== one
      state.owned.delete(key)
    }
    if (untold) announceAll(state, known, new Set())
    state.beat.openUnsafe()
    // what came meanwhile is looked at now
    state.rejoin.openUnsafe()
  })

/** Reads where what has come begins, and announces it. */
const acquire = (state: SessionState, wanted: Wanted, known: Set<string>): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const { life } = wanted
    let read: ReadonlyArray<Owned> = []
    // What goes does not wait for what comes, which may wait for a transaction: nothing is read any more then, and it is tried again behind it.
    // What has come while others wait for theirs is read with them.
    const stays = () => (read = going(state, wanted).length > 0 ? [] : unannounced(state))
    // By the id that the broker has given them under: what it says of that one is the answer, whatever the metadata say meanwhile. Until a
    // heartbeat takes back what is of a topic that has gone.
    const { committed, ids, withOffset } = yield* readCommitted(state, stays, ({ topicId }) => topicId, true)
    // thrown out meanwhile
    if (wanted.life !== life) return
    for (const topic of withOffset) known.add(topic)
    const takenBack = new Set(going(state, wanted))
    const begun = new Set<Owned>()
    for (const one of unannounced(state)) {
      const key = keyOf(one.topic, one.partition)
      if (takenBack.has(one)) {
        // taken back before the engine knew of it
        state.owned.delete(key)
        state.beat.openUnsafe()
        continue
      }
      // it was left out of what was read, or waits for a transaction: next time
      if (!ids.has(key) || !read.includes(one)) continue
      one.committed = committed.get(key)
      one.announced = true
      begun.add(one)
    }
    announceAll(state, known, begun)
    // what was claimed meanwhile comes next
    state.rejoin.openUnsafe()
    state.wakeFetch()
  })

/** There is something for us that has no name here, or was gone. When it has one, the answer of the next heartbeat brings it. */
const lookUp = (state: SessionState, wanted: Wanted): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const ready = () =>
      entries(state, wanted).some(
        ({ owned, topic }) => topic !== undefined && owned === undefined && !state.orphaned.has(topic)
      )
    if (!ready()) {
      // by whose ids it assigns: another broker may be behind, or cut off for long
      const read = yield* Effect.result(
        ask(async () => state.cluster.refresh(state.settings.topics, await state.findCoordinator()))
      )
      if (read._tag === "Failure" && isFatal(read.failure)) return yield* read.failure
    }
    if (ready()) state.beat.openUnsafe()
  })

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

const mismatch = (groupId: string, message: string): KafkaClientError =>
  new KafkaClientError({
    reason: "ProtocolMismatch",
    detail:
      `the broker does not take members of the consumer protocol into group ${groupId} now; where it has members of the classic ` +
      `protocol, end all of them first${message === "" ? "" : ` (${message})`}`
  })

const withoutProtocol = (): KafkaClientError =>
  new KafkaClientError({
    reason: "UnsupportedClient",
    detail:
      "the broker does not offer the consumer group protocol (KIP-848): it takes Kafka 4.0 with the feature group.version 1 and " +
      '"consumer" in group.coordinator.rebalance.protocols; or use groupProtocol "classic"'
  })

/** A broker that has never heard of the protocol has no version of its request. */
const unsupported = (error: KafkaClientError): KafkaClientError =>
  error.reason === "UnsupportedClient" && error.detail.includes("ConsumerGroupHeartbeat") ? withoutProtocol() : error
