/**
 * Reads metadata again when it is old or when somebody has met something that contradicts it, and finds out what has become
 * of the topics:
 * - other partitions than the leader of the group has assigned by: the leader rejoins;
 * - another id: the topic was deleted and created again, `Gone` (recreated), and a rejoin that gives new epochs;
 * - unknown for a second, and more than twice: `Gone` (deleted), then the leader rejoins. Once is not enough: brokers learn of
 *   topics one after another. Should it come back, the leader rejoins again.
 *
 * Brokers learn of everything one after another, and one that is cut off from the others may answer for long as things were. So what
 * contradicts an assignment, or what is held, is a question to the coordinator, and what that one says counts: an assignment is made by what
 * it says, and it takes the commits ("a broker that is behind ends nothing, and nobody rejoins for it").
 * - Fewer partitions are old metadata: they do not go by themselves, and a topic that was created again with fewer has another id. Without ids it
 *   is believed when the coordinator has said so for a second, and more than twice.
 * - Nothing is fetched or committed, by a name that two topics may have, until it has answered: of a topic that some broker takes for another
 *   one, or does not know, whoever has asked it, in its metadata or in what it answers to a fetch. It may be the one that is behind: so it is asked
 *   for a second, and more than twice, before it is believed that nothing has happened, and further on now and then (`doubts.ts`; "nothing is
 *   committed for a topic of which it is not known whether it is another one").
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { TopicMetadata } from "../Broker.ts"
import { Absence, absencePause } from "./absence.ts"
import { fromCode, isFatal, topicMissing } from "./classify.ts"
import { isAnotherTopic, isCut } from "./doubts.ts"
import { type Layout, type Leadership, layoutOf } from "./membership.ts"
import { leaderOf } from "./offsets.ts"
import { ask, backoff, type Owned, type SessionState } from "./state.ts"

/** reads follow each other no closer */
const closest = 250
/** milliseconds between two questions while some broker says what the coordinator does not: it may be the one that is right */
const deniedPause = 2000
/** milliseconds that the coordinator is waited for: it may be away, and what others say of other topics counts */
const patience = 1000

/** What an answer says of a topic, beside what is held of it and what was assigned by. */
type Says = "nothing" | "as known" | "absent" | "another" | "cut" | "behind" | "grown"

const sayingOf = (
  found: TopicMetadata | undefined,
  held: ReadonlyArray<Owned>,
  layout: ReturnType<Layout["get"]>
): Says => {
  if (found === undefined || found.code === "UNKNOWN_TOPIC_OR_PARTITION") return "absent"
  if (found.code !== "NONE") return "nothing"
  if ([...held, { topicId: layout?.id }].some((one) => isAnotherTopic(one, found.id))) return "another"
  if (held.some((owned) => isCut(owned, found))) return "cut"
  const isFewer = layout !== undefined && found.leaders.size < layout.partitions
  if (isFewer && (layout.id === undefined || found.id === undefined)) return "cut"
  if (isFewer || held.some(({ partition }) => !found.leaders.has(partition))) return "behind"
  return layout !== undefined && found.leaders.size > layout.partitions ? "grown" : "as known"
}

export const watcher = (state: SessionState, leadership: Leadership): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    /** topics that are not there */
    const missing = new Map<string, Absence>()
    /** topics without ids that have fewer partitions than they had, as the coordinator says */
    const cut = new Map<string, Absence>()
    let unanswered = false
    let failures = 0
    while (true) {
      const unbelieved = [...missing.values(), ...cut.values()].some(({ believed }) => !believed)
      const { metadataMaxAge } = state.settings
      const usual = state.doubts.state === "denied" ? Math.min(metadataMaxAge, deniedPause) : metadataMaxAge
      const isOpen = unanswered || unbelieved || state.doubts.state === "open"
      const wait = failures > 0 ? backoff(failures) : isOpen ? absencePause : usual
      yield* Effect.timeoutOption(state.look.await, wait)
      state.look.closeUnsafe()
      const topics = new Set([...state.settings.topics, ...(leadership.layout?.keys() ?? [])])
      for (const map of [missing, cut]) for (const topic of map.keys()) if (!topics.has(topic)) map.delete(topic)
      state.doubts.keep(topics, performance.now())
      const read = yield* Effect.result(ask(() => state.cluster.refresh([...topics])))
      if (read._tag === "Failure") {
        if (isFatal(read.failure)) return yield* read.failure
        state.failed("metadata", read.failure)
        failures++
        continue
      }
      failures = 0
      state.works("metadata")

      const says = (topic: string, found: TopicMetadata | undefined) =>
        sayingOf(
          found,
          [...state.owned.values()].filter((owned) => owned.topic === topic),
          leadership.layout?.get(topic)
        )
      const first = new Map([...topics].map((topic) => [topic, says(topic, read.success.get(topic))] as const))
      /** topics that the coordinator is asked for: of which it contradicts what is known, or something is not known */
      const contrary = new Set<string>()
      const isHeld = (topic: string) => [...state.owned.values()].some((owned) => owned.topic === topic)
      for (const [topic, said] of first) {
        const isKnown = isHeld(topic) || (leadership.layout?.get(topic)?.partitions ?? 0) > 0
        const isRefused = read.success.get(topic)?.code === "TOPIC_AUTHORIZATION_FAILED"
        if (said === "absent" ? isKnown : (said !== "nothing" && said !== "as known") || isRefused) contrary.add(topic)
        if (state.doubts.has(topic) || state.orphaned.has(topic)) contrary.add(topic)
      }
      const askedAt = performance.now()
      const answer =
        contrary.size === 0 ? new Map<string, TopicMetadata>() : yield* askCoordinator(state, [...contrary])
      unanswered = answer === undefined

      const found = (topic: string) => (contrary.has(topic) ? answer?.get(topic) : read.success.get(topic))
      /** of these nothing is decided */
      const open = new Set<string>()
      const undecided = (topic: string, kind: "absent" | "cut") => {
        open.add(topic)
        if (isHeld(topic)) state.doubts.claim(topic, { kind }, performance.now())
      }
      for (const topic of topics) {
        if (answer === undefined && contrary.has(topic)) {
          open.add(topic)
          continue
        }
        const said = contrary.has(topic) ? says(topic, found(topic)) : first.get(topic)!
        if (said !== "absent") missing.delete(topic)
        if (said !== "cut") cut.delete(topic)
        switch (said) {
          case "nothing":
            open.add(topic)
            unanswered ||= contrary.has(topic)
            break
          case "absent":
            if (!isBelieved(missing, topic)) undecided(topic, "absent")
            else {
              state.gone("deleted", (owned) => owned.topic === topic)
              state.doubts.forget(topic)
            }
            break
          case "another":
            state.gone("recreated", (owned) => owned.topic === topic && isAnotherTopic(owned, found(topic)!.id))
            state.doubts.forget(topic)
            break
          case "cut":
            if (!isBelieved(cut, topic)) undecided(topic, "cut")
            else {
              state.gone("recreated", (owned) => owned.topic === topic)
              state.doubts.forget(topic)
            }
            break
          default: {
            // "as known", "behind" or "grown": it is the topic that it was
            if (said === "behind") open.add(topic)
            if (!contrary.has(topic)) break
            state.doubts.deny(topic, askedAt, performance.now())
            if (state.doubts.has(topic)) open.add(topic)
          }
        }
      }

      const absent: Array<string> = []
      for (const topic of state.settings.topics) {
        const code = found(topic)?.code
        if (code === "TOPIC_AUTHORIZATION_FAILED") return yield* fromCode(code, `metadata of ${topic}`)
        if (missing.get(topic)?.believed === true) absent.push(topic)
        // the group believes that we have our part of it: the next assignment brings it as a new epoch
        else if (code === "NONE" && state.orphaned.delete(topic)) state.rejoin.openUnsafe()
      }
      if (absent.length === 0) state.works("topics")
      else state.failed("topics", topicMissing(absent))
      const layout = leadership.layout
      if (layout !== undefined && state.phase === "member") {
        const now = layoutOf(state, [...layout.keys()])
        for (const [topic, { id, partitions }] of layout) {
          if (open.has(topic)) continue
          const other = now.get(topic)!
          if (other.partitions !== partitions || (id !== undefined && other.id !== undefined && other.id !== id)) {
            state.rejoin.openUnsafe()
          }
        }
      }
      leaderless(state)
      state.wakeFetch()
      yield* Effect.sleep(closest)
    }
  })

const isBelieved = (absences: Map<string, Absence>, topic: string): boolean => {
  const absence = absences.get(topic) ?? new Absence()
  absences.set(topic, absence)
  absence.again()
  return absence.believed
}

/** What the coordinator says is no claim, but what is made of those of others. */
const judged = () => true

/** `undefined` when it does not answer now: its connection may be taken by a JoinGroup, which others hold up. */
const askCoordinator = (
  state: SessionState,
  topics: ReadonlyArray<string>
): Effect.Effect<ReadonlyMap<string, TopicMetadata> | undefined> =>
  Effect.suspend(() =>
    state.joinUnderWay
      ? Effect.succeed(undefined)
      : ask(async () => {
          const coordinator = await state.findCoordinator()
          // the metadata would come behind the answer to it, and end its connection by their time
          if (state.joinUnderWay) return undefined
          return state.cluster.refresh(topics, coordinator, judged)
        }).pipe(
          Effect.timeoutOption(patience),
          Effect.match({ onFailure: () => undefined, onSuccess: Option.getOrUndefined })
        )
  )

/** A partition whose brokers are all away is an outage, though others answer. */
const leaderless = (state: SessionState): void => {
  for (const { partition, position, stopped, topic } of state.owned.values()) {
    if (position === undefined || stopped || leaderOf(state.cluster, topic, partition) >= 0) continue
    const detail = `partition ${partition} of ${topic} has no leader`
    return state.failed("leader", new KafkaClientError({ reason: "Connection", detail }))
  }
  state.works("leader")
}
