/**
 * Reads metadata again when it is old or when somebody has met something that contradicts it, and finds out what has become
 * of the topics:
 * - other partitions than the leader of the group has assigned by: the leader rejoins;
 * - another id: the topic was deleted and created again, `Gone` (recreated), and a rejoin that gives new epochs;
 * - unknown for a second, and more than twice: `Gone` (deleted), then the leader rejoins. Once is not enough: brokers learn of
 *   topics one after another. Should it come back, the leader rejoins again.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import { Absence, absencePause } from "./absence.ts"
import { fromCode, isFatal, topicMissing } from "./classify.ts"
import { type Leadership, layoutOf } from "./membership.ts"
import { leaderOf } from "./offsets.ts"
import { ask, backoff, type SessionState } from "./state.ts"

/** reads follow each other no closer */
const closest = 250

export const watcher = (state: SessionState, leadership: Leadership): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const missing = new Map<string, Absence>()
    let failures = 0
    while (true) {
      const doubtful = [...missing.values()].some(({ believed }) => !believed)
      const wait = failures > 0 ? backoff(failures) : doubtful ? absencePause : state.settings.metadataMaxAge
      yield* Effect.timeoutOption(state.look.await, wait)
      state.look.closeUnsafe()
      const topics = new Set(state.settings.topics)
      for (const topic of leadership.layout?.keys() ?? []) topics.add(topic)
      const read = yield* Effect.result(ask(() => state.cluster.refresh([...topics])))
      if (read._tag === "Failure") {
        if (isFatal(read.failure)) return yield* read.failure
        state.failed("metadata", read.failure)
        failures++
        continue
      }
      failures = 0
      state.works("metadata")
      for (const topic of state.settings.topics) {
        const found = read.success.get(topic)
        if (found?.code === "TOPIC_AUTHORIZATION_FAILED") return yield* fromCode(found.code, `metadata of ${topic}`)
        if (found === undefined || found.code === "UNKNOWN_TOPIC_OR_PARTITION") {
          const absence = missing.get(topic) ?? new Absence()
          missing.set(topic, absence)
          absence.again()
          if (absence.believed) state.gone("deleted", (o) => o.topic === topic)
          continue
        }
        missing.delete(topic)
        if (found.code !== "NONE") continue
        state.gone(
          "recreated",
          (o) =>
            o.topic === topic &&
            (!found.leaders.has(o.partition) ||
              (o.topicId !== undefined && found.id !== undefined && o.topicId !== found.id))
        )
        // the group believes that we have our part of it: the next assignment brings it as a new epoch
        if (state.orphaned.delete(topic)) state.rejoin.openUnsafe()
      }
      const absent = [...missing].filter(([, { believed }]) => believed).map(([topic]) => topic)
      if (absent.length === 0) state.works("topics")
      else state.failed("topics", topicMissing(absent))
      const layout = leadership.layout
      if (layout !== undefined && state.phase === "member") {
        const now = layoutOf(state, [...layout.keys()])
        for (const [topic, { id, partitions }] of layout) {
          if (missing.get(topic)?.believed === false) continue
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

/** A partition whose brokers are all away is an outage, though others answer. */
const leaderless = (state: SessionState): void => {
  for (const { partition, position, stopped, topic } of state.owned.values()) {
    if (position === undefined || stopped || leaderOf(state.cluster, topic, partition) >= 0) continue
    const detail = `partition ${partition} of ${topic} has no leader`
    return state.failed("leader", new KafkaClientError({ reason: "Connection", detail }))
  }
  state.works("leader")
}
