/**
 * The client's half of the incremental protocol (KIP-848): partitions come and go one by one, the others keep flowing.
 *
 * What goes is announced exactly, held, and then said to the broker in the next heartbeat, which is sent at once. What comes
 * is read from the committed offset. The epoch of the member may move without any of both.
 *
 * A cooperative member (KIP-429) is told the same in rounds: when it has nothing to give up, or has done so, it joins. Until the last
 * member has, its records flow and nothing of it is committed. Then it is told what it has, also where that is what it had.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import { assigned, fatal, mismatch, revoke } from "./membership.ts"
import type { GroupHeartbeatResponse } from "./protocol.ts"
import { epochsOf, type Held, type SessionState } from "./state.ts"
import { keyOf } from "./topics.ts"

export const incremental = (state: SessionState): Effect.Effect<never, KafkaClientError> => {
  const { broker, client, settings } = state
  let epoch = 0
  /** whether the membership has been told of its first assignment, maybe an empty one */
  let told = false
  /** of the last answer, which may come while the one before is being carried out */
  let newest: GroupHeartbeatResponse["assignment"] = []

  const heartbeat: Effect.Effect<GroupHeartbeatResponse, KafkaClientError> = Effect.gen(function* () {
    for (;;) {
      const response = yield* state.retrying<GroupHeartbeatResponse>("coordinator", () => {
        const request = {
          clientId: client.clientId,
          memberId: state.memberId,
          epoch,
          sessionTimeout: settings.sessionTimeout,
          rebalanceTimeout: settings.rebalanceTimeout,
          topics: settings.topics,
          owned: [...state.held.values()].map(({ partition, topic, topicId }) => ({ topic, partition, topicId }))
        }
        return {
          api: "heartbeat",
          latency: broker.settings.requestLatency,
          serve: (answer) => answer(broker.coordinator.groupHeartbeat(settings.groupId, request)),
          refuse: (error) => ({ error, epoch: -1, assignment: [], joined: false })
        }
      })
      if (response.error === undefined) {
        state.mended("protocol")
        epoch = response.epoch
        newest = response.assignment
        state.generation = response.epoch
        return response
      }
      const end = fatal(response.error)
      if (end !== undefined) return yield* end
      if (isFenced(response)) return response
      if (response.error === "INCONSISTENT_GROUP_PROTOCOL") state.trouble("protocol", mismatch(settings.groupId))
      yield* state.pause
    }
  })

  /** Heartbeats while something else goes on; ends when the broker has thrown the member out. */
  const beat: Effect.Effect<void, KafkaClientError> = Effect.gen(function* () {
    for (;;) {
      yield* broker.time.sleep(settings.heartbeatInterval)
      if (isFenced(yield* heartbeat)) return
    }
  })

  const fenced = Effect.sync(() => {
    epoch = 0
    told = false
    state.joining = false
    state.lose()
  })

  /** What is not this member's any more. The result says whether the membership still stands. */
  const release = (going: ReadonlyArray<Held>): Effect.Effect<boolean, KafkaClientError> =>
    Effect.gen(function* () {
      const end = yield* revoke(state, going, true, beat)
      if (end === "evicted") {
        yield* fenced
        return false
      }
      for (const held of going) if (state.held.get(keyOf(held)) === held) state.held.delete(keyOf(held))
      // Who did not answer in time is told that the epochs are over by an assignment without them.
      if (end === "over") {
        const left = [...state.held.values()]
        const offsets = yield* offsetsOf(left)
        if (offsets === undefined) return false
        take(left, offsets)
      }
      return true
    })

  /** undefined when the membership ended meanwhile */
  const offsetsOf = (partitions: ReadonlyArray<TopicPartition>) =>
    Effect.gen(function* () {
      const topics = [...new Set(partitions.map((partition) => partition.topic))]
      const offsets = yield* Effect.raceFirst(state.offsets(topics), beat)
      if (offsets === undefined) yield* fenced
      return offsets as Exclude<typeof offsets, void>
    })

  const take = (
    assignment: ReadonlyArray<TopicPartition & { readonly topicId: number }>,
    offsets: Exclude<Effect.Success<ReturnType<typeof offsetsOf>>, undefined>
  ): void => {
    // Held without a break, and still somebody else has committed for it: its epoch ends without a warning.
    const foreign = [...state.held.values()].filter((held) => {
      const committed = offsets.find((entry) => keyOf(entry) === keyOf(held))
      return !state.isOurs(held, committed)
    })
    if (foreign.length > 0) {
      for (const held of foreign) state.held.delete(keyOf(held))
      state.signal({ _tag: "Lost", partitions: epochsOf(foreign) })
    }
    assigned(state, assignment, epoch, offsets, () => true)
    told = true
  }

  const joined = Effect.gen(function* () {
    const { error } = yield* state.retrying<{ readonly error: string | undefined }>("coordinator", () => ({
      api: "join",
      latency: broker.settings.requestLatency,
      serve: (answer) =>
        broker.coordinator
          .group(settings.groupId)
          .consumer.whenJoined(state.memberId, () => answer({ error: undefined })),
      refuse: (code) => ({ error: code })
    }))
    const end = error === undefined ? undefined : fatal(error)
    if (end !== undefined) return yield* end
    if (error !== undefined) yield* Effect.never
  })

  /** Waits for the last member, until a heartbeat is due. */
  const joins = Effect.suspend(() => {
    state.joining = true
    return Effect.raceFirst(joined, broker.time.sleep(settings.heartbeatInterval))
  })

  return Effect.gen(function* () {
    if (state.memberId === "") state.memberId = broker.coordinator.newMemberId(client.clientId)
    for (;;) {
      const response = yield* heartbeat
      if (response.error !== undefined) {
        yield* fenced
        continue
      }
      const target = new Map(response.assignment.map((partition) => [keyOf(partition), partition]))
      const going = [...state.held.values()].filter((held) => target.get(keyOf(held))?.topicId !== held.topicId)
      if (going.length > 0) {
        state.joining = false
        const stands = yield* release(going)
        state.joining = stands && client.cooperative
        continue
      }
      if (client.cooperative && !response.joined) {
        yield* joins
        continue
      }
      const isAnswered = state.joining
      state.joining = false
      const coming = response.assignment.filter((partition) => !state.held.has(keyOf(partition)))
      if (coming.length > 0 || !told || isAnswered) {
        const offsets = yield* offsetsOf(response.assignment)
        if (offsets === undefined) continue
        // What was taken away before it was taken has another owner by now: nobody has waited for it.
        const still = new Map(newest.map((partition) => [keyOf(partition), partition.topicId]))
        take(
          response.assignment.filter((partition) => still.get(keyOf(partition)) === partition.topicId),
          offsets
        )
        continue
      }
      yield* broker.time.sleep(settings.heartbeatInterval)
    }
  })
}

const isFenced = (response: GroupHeartbeatResponse): boolean =>
  response.error === "UNKNOWN_MEMBER_ID" || response.error === "FENCED_MEMBER_EPOCH"
