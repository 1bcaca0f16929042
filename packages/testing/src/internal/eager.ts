/**
 * The client's half of the classic protocol, as kafkajs speaks it: at each rebalance everything is announced, the rejoin
 * waits for the answer, and what comes back may have been kept.
 *
 *     join -> sync -> offsets -> Assigned -> heartbeats -> Revoking, hold -> join ...
 *
 * A round that does not reach Assigned is a missed generation: what was held before it is not retained after it. Each further
 * join of such a round announces again, as kafkajs's hook is called before every JoinGroup.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import { assign } from "./assignor.ts"
import { decodeClaim, encodeClaim } from "./claims.ts"
import { assigned, fatal, mismatch, revoke } from "./membership.ts"
import type { JoinResponse, SyncResponse } from "./protocol.ts"
import type { SessionState } from "./state.ts"

export const eager = (state: SessionState): Effect.Effect<never, KafkaClientError> => {
  const { broker, client, settings } = state
  const group = () => broker.coordinator.group(settings.groupId)
  const latency = broker.settings.requestLatency
  /** the leader's view of the partitions when it assigned last; other members do not look */
  let seen: { readonly topics: ReadonlyArray<string>; readonly partitions: string } | undefined

  const join: Effect.Effect<JoinResponse, KafkaClientError> = Effect.gen(function* () {
    for (;;) {
      const response = yield* state.retrying<JoinResponse>("coordinator", () => {
        const request = {
          clientId: client.clientId,
          memberId: state.memberId,
          sessionTimeout: settings.sessionTimeout,
          rebalanceTimeout: settings.rebalanceTimeout,
          protocols: client.assignors,
          topics: settings.topics,
          userData: encodeClaim(client.claims, {
            owned: [...state.held.values()].map(({ partition, topic }) => ({ topic, partition })),
            generation: Math.max(-1, ...[...state.held.values()].map((held) => held.generation))
          })
        }
        return {
          api: "join",
          latency,
          serve: (answer) => broker.coordinator.join(settings.groupId, request, answer),
          refuse: (error) => ({ error, memberId: "", generation: -1, leader: "", members: [] })
        }
      })
      if (response.error === undefined) {
        state.mended("protocol")
        return response
      }
      const end = fatal(response.error)
      if (end !== undefined) return yield* end
      if (response.error === "MEMBER_ID_REQUIRED") {
        state.memberId = response.memberId
      } else if (response.error === "UNKNOWN_MEMBER_ID") {
        state.memberId = ""
        state.lose()
      } else if (response.error === "INCONSISTENT_GROUP_PROTOCOL") {
        state.trouble("protocol", mismatch(settings.groupId))
        yield* state.pause
      } else {
        yield* state.pause
      }
    }
  })

  const assignments = (joined: JoinResponse): ReadonlyMap<string, ReadonlyArray<TopicPartition>> | undefined => {
    seen = undefined
    if (joined.leader !== joined.memberId) return undefined
    const topics = [...new Set(joined.members.flatMap((member) => member.topics))]
    seen = { topics, partitions: partitionsNow(topics) }
    return assign(
      joined.members.map(({ memberId, topics, userData }) => ({
        memberId,
        topics,
        ...decodeClaim(client.claims, userData)
      })),
      broker.topics.partitionsOf(topics)
    )
  }

  /** undefined when the member has to join again */
  const sync = (joined: JoinResponse): Effect.Effect<ReadonlyArray<TopicPartition> | undefined, KafkaClientError> =>
    Effect.gen(function* () {
      const plan = assignments(joined)
      for (;;) {
        const response = yield* state.retrying<SyncResponse>("coordinator", () => ({
          api: "sync",
          latency,
          serve: (answer) => group().classic.sync(joined.memberId, joined.generation, plan, answer),
          refuse: (error) => ({ error, assignment: [] })
        }))
        if (response.error === undefined) return response.assignment
        const end = fatal(response.error)
        if (end !== undefined) return yield* end
        if (response.error === "UNKNOWN_MEMBER_ID") {
          state.memberId = ""
          state.lose()
          return undefined
        }
        if (response.error === "REBALANCE_IN_PROGRESS" || response.error === "ILLEGAL_GENERATION") return undefined
        yield* state.pause
      }
    })

  /** Heartbeats until the group wants something else. */
  const beat = (
    { generation, memberId }: JoinResponse,
    rebalanceIsHealthy: boolean
  ): Effect.Effect<"rebalance" | "evicted" | "fenced", KafkaClientError> =>
    Effect.gen(function* () {
      for (;;) {
        yield* broker.time.sleep(settings.heartbeatInterval)
        const { code } = yield* state.retrying<{ readonly code: string | undefined }>("coordinator", () => ({
          api: "heartbeat",
          latency,
          serve: (answer) => answer({ code: group().classic.heartbeat(memberId, generation) }),
          refuse: (error) => ({ code: error })
        }))
        if (code === undefined) continue
        const end = fatal(code)
        if (end !== undefined) return yield* end
        if (code === "UNKNOWN_MEMBER_ID") return "evicted"
        // The group went on without this member: it is still known, but nothing that it holds is its own any more.
        if (code === "ILLEGAL_GENERATION") return "fenced"
        if (code === "REBALANCE_IN_PROGRESS" && !rebalanceIsHealthy) return "rebalance"
      }
    })

  const lost = (why: "evicted" | "fenced") =>
    Effect.sync(() => {
      if (why === "evicted") state.memberId = ""
      state.lose()
    })

  /** Announces everything and waits; afterwards the session may join. */
  const giveBack = (joined: JoinResponse): Effect.Effect<void, KafkaClientError> =>
    Effect.gen(function* () {
      let why: "evicted" | "fenced" = "evicted"
      const gone = Effect.map(beat(joined, true), (end) => {
        why = end === "fenced" ? "fenced" : "evicted"
      })
      const end = yield* revoke(state, [...state.held.values()], false, gone)
      if (end === "evicted") yield* lost(why)
    })

  const partitionsNow = (topics: ReadonlyArray<string>): string =>
    broker.topics
      .partitionsOf(topics)
      .map((p) => `${p.topic}:${broker.topics.get(p.topic).id}/${p.partition}`)
      .join()

  /** New and deleted partitions are the leader's to notice. */
  const watchTopics: Effect.Effect<never> = Effect.gen(function* () {
    for (;;) {
      yield* broker.time.sleep(settings.metadataMaxAge)
      yield* state.link.gate.await
      if (seen === undefined || !state.link.isReachable || partitionsNow(seen.topics) === seen.partitions) continue
      seen = undefined
      state.askToRejoin()
    }
  })

  const rounds: Effect.Effect<never, KafkaClientError> = Effect.gen(function* () {
    for (;;) {
      state.joining = true
      const joined = yield* join
      const assignment = yield* sync(joined)
      if (assignment === undefined) {
        yield* giveBack(joined)
        continue
      }
      const topics = [...new Set(assignment.map((partition) => partition.topic))]
      const offsets = yield* Effect.raceFirst(state.offsets(topics), beat(joined, false))
      if (typeof offsets === "string") {
        if (offsets === "rebalance") yield* giveBack(joined)
        else yield* lost(offsets)
        continue
      }
      state.rejoin.closeUnsafe()
      assigned(
        state,
        // What was deleted since the leader assigned it is not there to be held.
        assignment.flatMap((partition) => {
          const topic = broker.topics.find(partition.topic)
          return topic?.partitions[partition.partition] === undefined ? [] : [{ ...partition, topicId: topic.id }]
        }),
        joined.generation,
        offsets,
        (held) => held.generation >= joined.generation - 1
      )
      const why = yield* Effect.raceFirst(beat(joined, false), Effect.as(state.rejoin.await, "rebalance" as const))
      if (why === "rebalance") yield* giveBack(joined)
      else yield* lost(why)
    }
  })

  return Effect.raceFirst(rounds, watchTopics)
}
