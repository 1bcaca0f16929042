/**
 * What both group protocols have in common on the client's side: announcing what goes, and assigning what has come.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { AssignedPartition, Committed } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { epochsOf, type Held, type SessionState } from "./state.ts"
import { keyOf } from "./topics.ts"

/** Why a hold is over. */
export type HoldEnd = "acknowledged" | "over" | "evicted"

/**
 * Announces that partitions go, and holds them until the answer, for `revokeTimeout` at most. `beat` sends the heartbeats
 * meanwhile; it ends only when the broker has thrown the member out.
 */
export const revoke = (
  state: SessionState,
  going: ReadonlyArray<Held>,
  exact: boolean,
  beat: Effect.Effect<void, KafkaClientError>
): Effect.Effect<HoldEnd, KafkaClientError> =>
  Effect.gen(function* () {
    if (going.length === 0) return "acknowledged"
    const waits = state.client.awaitedRevoke
    const hold = waits ? state.settings.revokeTimeout : 0
    const acknowledged = Deferred.makeUnsafe<void>()
    for (const held of going) held.revoking = true
    state.signal({
      _tag: "Revoking",
      partitions: epochsOf(going),
      exact,
      hold,
      // Not at once: the engine calls this from the middle of its own work.
      acknowledgeUnsafe: () => state.broker.time.defer(() => Deferred.doneUnsafe(acknowledged, Effect.void))
    })
    if (!waits) return "over"
    return yield* Effect.raceAllFirst([
      Effect.as(Deferred.await(acknowledged), "acknowledged" as const),
      Effect.as(state.broker.time.sleep(hold), "over" as const),
      Effect.as(beat, "evicted" as const)
    ])
  })

/**
 * Makes `assignment` what the session holds, and says so. A partition is retained when it was held in the generation before
 * and nobody else has committed for it; else it gets a new epoch.
 */
export const assigned = (
  state: SessionState,
  assignment: ReadonlyArray<TopicPartition & { readonly topicId: number }>,
  generation: number,
  offsets: ReadonlyArray<TopicPartition & Committed>,
  isUnbroken: (held: Held) => boolean
): void => {
  const committed = new Map(offsets.map((entry) => [keyOf(entry), { offset: entry.offset, metadata: entry.metadata }]))
  const topicsCommitted = new Set(offsets.map((entry) => entry.topic))
  const before = new Map(state.held)
  state.held.clear()
  const all: Array<AssignedPartition> = []
  for (const partition of assignment) {
    const key = keyOf(partition)
    const own = committed.get(key)
    const held = before.get(key)
    // what was said to be gone does not come back; an answer that was on its way still has it
    if (held?.gone === true && held.topicId === partition.topicId) continue
    const retained =
      held !== undefined && held.topicId === partition.topicId && isUnbroken(held) && state.isOurs(held, own)
    let now: Held
    if (retained) {
      now = held
      now.generation = generation
      now.revoking = false
      state.held.set(key, now)
    } else {
      now = state.open(partition, partition.topicId, generation, own)
    }
    all.push({
      topic: now.topic,
      partition: now.partition,
      epoch: now.epoch,
      retained,
      committed: own,
      topicCommitted: topicsCommitted.has(partition.topic)
    })
  }
  state.generation = generation
  state.joining = false
  state.signal({ _tag: "Assigned", all })
  state.wakeFetcher()
}

/** The error that ends a session when the broker answers with this code. */
export const fatal = (code: string): KafkaClientError | undefined => {
  switch (code) {
    case "FENCED_INSTANCE_ID":
      return new KafkaClientError({ reason: "FencedInstance", detail: "another process uses the same instance id" })
    case "GROUP_AUTHORIZATION_FAILED":
    case "TOPIC_AUTHORIZATION_FAILED":
      return new KafkaClientError({ reason: "Authorization", detail: `the broker answers ${code}` })
    case "SASL_AUTHENTICATION_FAILED":
      return new KafkaClientError({ reason: "Authentication", detail: `the broker answers ${code}` })
    default:
      return undefined
  }
}

export const mismatch = (groupId: string): KafkaClientError =>
  new KafkaClientError({
    reason: "ProtocolMismatch",
    detail: `group ${groupId} is used with another protocol or without a common assignor`
  })
