/**
 * Where what has come begins: what the group has committed of it is read, then it is announced.
 *
 * What a transaction is about to replace is waited for, alone: what comes beside it, and what is held, are announced without it ("what waits
 * for a transaction waits alone", for each protocol). Until then it is claimed, and the engine does not know of it.
 */
import type { AssignedPartition, Committed } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import { fromCode } from "./classify.ts"
import { atOnce } from "./handover.ts"
import { fetchCommitted, idByName, keyOf, type Question, readingOf } from "./offsets.ts"
import { ask, epochOf, type Owned, persist, type SessionState } from "./state.ts"

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

/** What is claimed, and where it begins is not known yet. */
export const unannounced = (state: SessionState): ReadonlyArray<Owned> =>
  [...state.owned.values()].filter(({ announced }) => !announced)

/**
 * Reads where what has come begins, and announces all that is there with it: without `waits` also where nothing of it begins yet, since
 * transactions are open.
 */
export const acquire = (
  state: SessionState,
  known: Set<string>,
  waits: boolean
): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const { generation } = state
    const fresh = unannounced(state)
    const { committed, ids, withOffset } = yield* readCommitted(
      state,
      () => fresh.filter((one) => state.isCurrent(one)),
      ({ topic }) => idByName(state.cluster, topic),
      waits
    )
    // thrown out meanwhile
    if (state.generation !== generation) return
    for (const topic of withOffset) known.add(topic)
    const begun = new Set<Owned>()
    for (const one of fresh) {
      const key = keyOf(one.topic, one.partition)
      if (!state.isCurrent(one) || !ids.has(key)) continue
      one.committed = committed.get(key)
      // nothing was fetched or committed of it before: it is of the topic that this is of
      one.topicId = ids.get(key) ?? one.topicId
      one.announced = true
      begun.add(one)
    }
    announceAll(state, known, begun)
    state.wakeFetch()
  })

/** Announces what waits, as its transactions end. */
export const acquireRest = (state: SessionState, known: Set<string>): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    while (unannounced(state).length > 0) yield* acquire(state, known, true)
  })

export interface CommittedOffsets {
  /** by topic and partition, as `keyOf` has it */
  readonly committed: ReadonlyMap<string, Committed>
  /** topics with an offset of any partition, or soon with one, by a transaction */
  readonly withOffset: ReadonlySet<string>
  /** the ids of their topics that those which were wanted were asked for by; of others than these nothing is known */
  readonly ids: ReadonlyMap<string, string | undefined>
  /** of what was wanted, what a transaction is about to replace */
  readonly pending: ReadonlySet<string>
}

/**
 * What the group has committed for the topics of what is wanted; tried until it works, each time for what is wanted by then, so that nobody
 * waits for what he has lost meanwhile.
 *
 * - It is of the topics that have the ids `idOf` at the end: when one has another by then, it is read again. The coordinator is asked which ids
 *   there are: who takes the commits knows best which topic they would be for, and another broker may be behind.
 * - What a transaction is about to replace is left out where it has come: nothing is known of it before that has ended. With `waits` it is read
 *   again until there is one of which something is known.
 * - What is held has the offset that stands now, whatever a transaction is about to make of it. It belongs to nobody else, so that one is of
 *   somebody who should not have begun it, and a commit of ours that comes behind it stands, as it does behind any other.
 * - Of other partitions, which belong to others, it is enough to know that there is about to be an offset: their transactions may stay open for
 *   as long as they like.
 */
export const readCommitted = (
  state: SessionState,
  wanted: () => ReadonlyArray<Owned>,
  idOf: (owned: Owned) => string | undefined,
  waits: boolean
): Effect.Effect<CommittedOffsets, KafkaClientError> =>
  Effect.gen(function* () {
    const { groupId } = state.settings
    const named = [...new Set(wanted().map(({ topic }) => topic))]
    if (named.length > 0) yield* lookAt(state, named)
    return yield* persist(state, "committed", async (): Promise<CommittedOffsets> => {
      while (true) {
        const these = wanted()
        if (these.length === 0) {
          return { committed: new Map(), withOffset: new Set(), ids: new Map(), pending: new Set() }
        }
        const coordinator = await state.findCoordinator()
        const idsOf = () => new Map(these.map((owned) => [keyOf(owned.topic, owned.partition), idOf(owned)]))
        const ids = idsOf()
        const questions = questionsOf(state, these, idOf)
        const read = async (questions: ReadonlyArray<Question>, requireStable: boolean) => {
          try {
            return await fetchCommitted(state.cluster, coordinator, groupId, questions, requireStable)
          } catch (error) {
            const detail = (error as KafkaClientError).detail
            if (/: (NOT_COORDINATOR|COORDINATOR_NOT_AVAILABLE)$/.test(detail)) state.dropCoordinator(coordinator)
            throw error
          }
        }
        const { committed, pending } = await read(questions, true)
        const unstable = these.filter(({ partition, topic }) => pending.has(keyOf(topic, partition)))
        const held = unstable.filter(({ announced }) => announced)
        const standing = await read(
          held.map((owned) => ({ topic: owned.topic, partition: owned.partition, topicId: idOf(owned) })),
          false
        )
        const now = idsOf()
        if ([...ids].some(([key, id]) => now.get(key) !== id)) continue
        for (const { announced, partition, topic } of unstable) if (!announced) ids.delete(keyOf(topic, partition))
        if (ids.size === 0 && waits) throw fromCode("UNSTABLE_OFFSET_COMMIT", readingOf(groupId))
        const withOffset = new Set<string>()
        for (const { partition, topic } of questions) {
          const key = keyOf(topic, partition)
          if (committed.has(key) || pending.has(key)) withOffset.add(topic)
        }
        return {
          committed: new Map([...committed, ...standing.committed]),
          withOffset,
          ids,
          pending: new Set(unstable.map(({ partition, topic }) => keyOf(topic, partition)))
        }
      }
    })
  })

/** Reads what the coordinator knows of these topics, or another broker, where that one does not answer at once. */
const lookAt = (state: SessionState, topics: ReadonlyArray<string>): Effect.Effect<unknown, KafkaClientError> => {
  const asked = ask(async () => state.cluster.refresh(topics, await state.findCoordinator()))
  return Effect.timeoutOption(asked, atOnce).pipe(
    Effect.flatMap(Effect.fromOption),
    Effect.catch(() => persist(state, "metadata", () => state.cluster.refresh(topics)))
  )
}

/** These, and all other partitions of their topics: whether the group has an offset of any other decides where a new one starts. */
const questionsOf = (
  { cluster }: SessionState,
  these: ReadonlyArray<Owned>,
  idOf: (owned: Owned) => string | undefined
): ReadonlyArray<Question> => {
  const questions = new Map<string, Question>()
  for (const owned of these) {
    const { partition, topic } = owned
    questions.set(keyOf(topic, partition), { topic, partition, topicId: idOf(owned) })
  }
  for (const [topic, [first]] of Map.groupBy(these, ({ topic }) => topic)) {
    const topicId = idOf(first!)
    for (const partition of cluster.metadata.topics.get(topic)?.leaders.keys() ?? []) {
      const key = keyOf(topic, partition)
      if (!questions.has(key)) questions.set(key, { topic, partition, topicId })
    }
  }
  return [...questions.values()]
}
