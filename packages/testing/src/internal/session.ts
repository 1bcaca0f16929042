/**
 * A session as the engine sees it, put together from its parts: membership, fetcher, committer.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type {
  EpochPartition,
  LogOffsets,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { type Capabilities, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { Broker } from "./broker.ts"
import { committer } from "./committer.ts"
import { eager } from "./eager.ts"
import { fetcher } from "./fetcher.ts"
import { incremental } from "./incremental.ts"
import { fatal } from "./membership.ts"
import { type ClientSettings, type Held, SessionState } from "./state.ts"
import { keyOf } from "./topics.ts"

export const capabilitiesOf = (client: ClientSettings): Capabilities => ({
  awaitedRevoke: client.awaitedRevoke,
  incremental: client.protocol === "incremental",
  commitMetadata: client.commitMetadata,
  perPartitionCommitResult: client.perPartitionCommitResult,
  staticMembership: false,
  groupProtocols: ["classic", "consumer"],
  assignors: ["sticky", "cooperative-sticky"],
  requestTimeout: client.requestTimeout
})

/** The log's ends of these partitions; fails when one of them is not there. */
export const logOffsets = (
  broker: Broker,
  partitions: ReadonlyArray<TopicPartition>,
  isolation: SessionSettings["isolation"]
): ReadonlyArray<LogOffsets> | KafkaClientError => {
  const all: Array<LogOffsets> = []
  for (const partition of partitions) {
    const log = broker.topics.log(partition)
    if (log === undefined) {
      return new KafkaClientError({ reason: "TopicMissing", detail: `there is no ${keyOf(partition)}` })
    }
    all.push({
      topic: partition.topic,
      partition: partition.partition,
      start: log.start,
      end: log.visibleEnd(isolation)
    })
  }
  return all
}

/** A session under cooperative rebalances is told what one is told under KIP-848, in rounds: who assigns makes no difference to it. */
const settingsOf = (client: ClientSettings, { assignor, groupProtocol }: SessionSettings): ClientSettings => {
  if (groupProtocol === "consumer") return { ...client, protocol: "incremental" }
  if (assignor === "cooperative-sticky") return { ...client, protocol: "incremental", cooperative: true }
  return groupProtocol === undefined && assignor === undefined ? client : { ...client, protocol: "eager" }
}

interface MetadataResponse {
  readonly error?: string | undefined
  readonly missing: ReadonlyArray<string>
}

export const openSession = (
  broker: Broker,
  opened: ClientSettings,
  settings: SessionSettings
): Effect.Effect<Session, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    if (settings.instanceId !== undefined) {
      const detail = "the in-memory Kafka has no static membership: leave instanceId out"
      return yield* new KafkaClientError({ reason: "UnsupportedClient", detail })
    }
    const client = settingsOf(opened, settings)
    const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    const state = new SessionState(broker, client, settings, inbox)
    if (!state.link.isReachable) {
      return yield* new KafkaClientError({ reason: "Connection", detail: "no connection to the broker" })
    }
    broker.sessions.push(state)
    // Requests on their way and the membership's fibers end with the session, not with who called.
    const scope = yield* Effect.scope
    let membership: Scope.Closeable | undefined
    /** `leave` while `join` still waits for topics ends the wait */
    let leaves = 0

    const waitForTopics: Effect.Effect<boolean, KafkaClientError> = Effect.gen(function* () {
      const left = leaves
      const since = broker.time.now()
      for (let pause = Math.max(1, broker.settings.retryBackoff); left === leaves; pause = Math.min(1000, pause * 2)) {
        const { error: code, missing } = yield* state.retrying<MetadataResponse>("coordinator", () => ({
          api: "metadata",
          latency: 0,
          serve: (answer) =>
            answer({ missing: settings.topics.filter((topic) => broker.topics.find(topic) === undefined) }),
          refuse: (error) => ({ error, missing: settings.topics })
        }))
        const end = code === undefined ? undefined : fatal(code)
        if (end !== undefined) return yield* end
        if (code !== undefined) {
          yield* state.pause
          continue
        }
        if (missing.length === 0) {
          state.mended("topics")
          return left === leaves
        }
        const waited = broker.time.now() - since
        const error = new KafkaClientError({
          reason: "TopicMissing",
          detail: `waited ${waited} ms for ${missing.join(", ")}`
        })
        if (settings.topicTimeout !== undefined && waited >= settings.topicTimeout) return yield* error
        state.trouble("topics", error)
        const rest = settings.topicTimeout === undefined ? Infinity : settings.topicTimeout - waited
        yield* broker.time.sleep(Math.max(1, Math.min(pause, rest)))
      }
      return false
    })

    const endMembership = Effect.suspend(() => {
      const running = membership
      membership = undefined
      state.generation = -1
      state.joining = false
      state.held.clear()
      state.forgetTroubles()
      return running === undefined ? Effect.void : Scope.close(running, Exit.void)
    })

    const join = Effect.gen(function* () {
      if (state.failure !== undefined) return yield* state.failure
      if (membership !== undefined || state.closed || state.crashed) return
      if (!(yield* waitForTopics) || membership !== undefined || state.closed || state.crashed) return
      const running = Scope.forkUnsafe(scope)
      membership = running
      const member = client.protocol === "incremental" ? incremental(state) : eager(state)
      for (const loop of [member, fetcher(state)]) {
        yield* Effect.forkIn(
          Effect.catch(loop, (error) => Effect.sync(() => state.fail(error))),
          running
        )
      }
    })

    const leave = Effect.suspend(() => {
      leaves++
      const { memberId } = state
      state.memberId = ""
      // A process that stands still, or is dead, says nothing: the broker finds out by the session timeout.
      const says = memberId !== "" && state.link.gate.isOpen() && !state.crashed
      return Effect.andThen(
        endMembership,
        says
          ? Effect.ignore(
              state.link.call<void>(() => ({
                api: "leave",
                latency: 0,
                serve: (answer) => {
                  const group = broker.coordinator.group(settings.groupId)
                  if (!group.classic.remove(memberId, "left")) group.consumer.remove(memberId, "left")
                  answer()
                },
                refuse: () => undefined
              }))
            )
          : Effect.void
      )
    })

    // From outside, because a fiber of the membership may be the one that calls.
    state.endMembership = () => broker.time.fork(endMembership)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        leave,
        Effect.sync(() => {
          state.closed = true
          Queue.endUnsafe(inbox)
        })
      )
    )

    const each = (partitions: ReadonlyArray<EpochPartition>, change: (held: Held) => void) => {
      for (const partition of partitions) {
        const held = state.current(partition)
        if (held !== undefined) change(held)
      }
      state.wakeFetcher()
    }

    const session: Session = {
      settings,
      capabilities: capabilitiesOf(client),
      enabled: true,
      join,
      inbox,
      generationUnsafe: () => state.generation,
      beginUnsafe: (starts) => {
        for (const start of starts) {
          const held = state.current(start)
          if (held !== undefined) held.position = start.offset
        }
        state.wakeFetcher()
      },
      pauseUnsafe: (partitions) =>
        each(partitions, (held) => {
          held.paused = true
        }),
      resumeUnsafe: (partitions) =>
        each(partitions, (held) => {
          held.paused = false
        }),
      reopenUnsafe: (partition) => {
        const held = state.current(partition)
        if (held === undefined) return undefined
        const topicId = broker.topics.find(held.topic)?.id ?? held.topicId
        const next = state.open(held, topicId, held.generation, undefined)
        next.revoking = held.revoking
        next.ours = held.ours
        return { topic: next.topic, partition: next.partition, epoch: next.epoch }
      },
      commit: committer(state, scope),
      logOffsets: (partitions) =>
        Effect.flatMap(
          state.link.call<ReadonlyArray<LogOffsets> | KafkaClientError>(() => ({
            api: "listOffsets",
            latency: broker.settings.requestLatency,
            serve: (answer) => answer(logOffsets(broker, partitions, settings.isolation)),
            refuse: (code) => new KafkaClientError({ reason: "Connection", detail: `listOffsets: ${code}` })
          })),
          (response) => (response instanceof KafkaClientError ? Effect.fail(response) : Effect.succeed(response))
        ),
      leave
    }
    state.session = session
    return session
  })
