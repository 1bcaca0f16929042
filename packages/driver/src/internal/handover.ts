/**
 * What both group protocols have in common when partitions change hands: those that go are held until the engine has answered, and
 * what the group has committed is read before those that come are announced.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { AssignedPartition, Committed, EpochPartition } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { fromCode } from "./classify.ts"
import { fetchCommitted, keyOf } from "./offsets.ts"
import { ask, epochOf, type Owned, persist, type SessionState } from "./state.ts"

/** Another member has our instance id. It ends us, and we do not take it back: two of them would throw each other out for ever. */
export const fenced = ({ settings: { groupId, instanceId } }: SessionState): KafkaClientError =>
  fromCode("FENCED_INSTANCE_ID", `another member of group ${groupId} has the instance id ${instanceId}`)

/** How a hold has ended: by the engine's answer, by its time, or with the membership. */
export type HoldEnd = "answered" | "over" | "evicted"

/**
 * Waits until the engine has drained and flushed, at most `revokeTimeout`. Heartbeats go on meanwhile, in a loop of their own; they
 * renew the session. When they find the membership gone, `Lost` is offered and the hold ends.
 */
export const hold = (
  state: SessionState,
  partitions: ReadonlyArray<EpochPartition>,
  exact: boolean
): Effect.Effect<HoldEnd> =>
  Effect.suspend(() => {
    if (partitions.length === 0) return Effect.succeed("answered" as const)
    const acknowledged = Latch.makeUnsafe(false)
    const evicted = Deferred.makeUnsafe<void>()
    state.evicted = evicted
    state.offer({
      _tag: "Revoking",
      partitions,
      exact,
      hold: state.settings.revokeTimeout,
      acknowledgeUnsafe: () => {
        acknowledged.openUnsafe()
      }
    })
    return Effect.raceFirst(
      Effect.as(acknowledged.await, "answered" as const),
      Effect.as(Deferred.await(evicted), "evicted" as const)
    ).pipe(
      Effect.timeoutOption(state.settings.revokeTimeout),
      Effect.map(Option.getOrElse((): HoldEnd => "over")),
      Effect.ensuring(
        Effect.sync(() => {
          if (state.evicted === evicted) state.evicted = undefined
        })
      )
    )
  })

/**
 * Ends what is not there any more of what should be given up, before anything of it is committed.
 *
 * A topic that was deleted is taken back as one is that goes to another member. Of that one nothing may be committed any more: a commit
 * names the topic, and would be taken for the next one of that name. So the brokers are asked first what has become of them.
 */
export const endGone = (state: SessionState, leaving: () => ReadonlyArray<Owned>): Effect.Effect<void> =>
  Effect.gen(function* () {
    // without an answer nothing can be committed either
    yield* Effect.ignore(ask(() => state.cluster.refresh([...new Set(leaving().map(({ topic }) => topic))])))
    for (const one of leaving()) {
      const why = whyGone(state, one)
      if (why === undefined) continue
      state.gone(why, (o) => o === one)
      state.look.openUnsafe()
    }
  })

/** What the metadata say of a partition that is taken back; without topic ids a topic that was created again cannot be told. */
const whyGone = (state: SessionState, { partition, topic, topicId }: Owned): "deleted" | "recreated" | undefined => {
  const found = state.cluster.metadata.topics.get(topic)
  if (found?.code === "UNKNOWN_TOPIC_OR_PARTITION") return "deleted"
  if (found?.code !== "NONE") return undefined
  const isOther = topicId !== undefined && found.id !== undefined && found.id !== topicId
  return isOther || !found.leaders.has(partition) ? "recreated" : undefined
}

/** `Assigned`, of all of ours of which it is known where it begins. */
export const announceAll = (state: SessionState, known: ReadonlySet<string>, fresh: ReadonlySet<Owned>): void => {
  const all: Array<AssignedPartition> = []
  for (const owned of state.owned.values()) {
    if (!owned.announced) continue
    all.push({
      ...epochOf(owned),
      retained: !fresh.has(owned),
      committed: owned.committed,
      topicCommitted: owned.committed !== undefined || known.has(owned.topic)
    })
  }
  state.phase = "member"
  state.announcedGeneration = state.generation
  state.offer({ _tag: "Assigned", all })
}

export interface CommittedOffsets {
  /** by topic and partition, as `keyOf` has it */
  readonly committed: ReadonlyMap<string, Committed>
  /** topics with an offset of any partition */
  readonly withOffset: ReadonlySet<string>
}

/** What the group has committed for the topics of these; tried until it works. */
export const readCommitted = (
  state: SessionState,
  wanted: ReadonlyArray<TopicPartition>
): Effect.Effect<CommittedOffsets, KafkaClientError> =>
  Effect.gen(function* () {
    const { groupId } = state.settings
    const topics = [...new Set(wanted.map(({ topic }) => topic))]
    if (topics.length > 0) yield* persist(state, "metadata", () => state.cluster.refresh(topics))
    // all partitions of these topics: whether the group has an offset of any other decides where a new one starts
    const partitions = new Map<string, TopicPartition>()
    for (const { partition, topic } of wanted) partitions.set(keyOf(topic, partition), { topic, partition })
    for (const topic of topics) {
      for (const partition of state.cluster.metadata.topics.get(topic)?.leaders.keys() ?? []) {
        partitions.set(keyOf(topic, partition), { topic, partition })
      }
    }
    const committed = yield* persist(state, "committed", async () => {
      const coordinator = await state.findCoordinator()
      try {
        return await fetchCommitted(state.cluster, coordinator, groupId, [...partitions.values()])
      } catch (error) {
        const detail = (error as KafkaClientError).detail
        if (/: (NOT_COORDINATOR|COORDINATOR_NOT_AVAILABLE)$/.test(detail)) state.dropCoordinator(coordinator)
        throw error
      }
    })
    const withOffset = new Set<string>()
    for (const key of committed.keys()) withOffset.add(partitions.get(key)!.topic)
    return { committed, withOffset }
  })
