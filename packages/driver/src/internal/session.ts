/**
 * A session: the contract's calls, and the life of the loops behind them.
 *
 * Order at the end (`leave`, or the scope): the loops are stopped, the group is left, the connections are closed. Nothing of it
 * asks the engine: it has drained and flushed before, or there is none any more.
 */
import type {
  CommitEntry,
  CommitOutcome,
  EpochPartition,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { type Capabilities, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { commitOutcome, fromCode, isFatal, topicMissing } from "./classify.ts"
import type { Cluster } from "./cluster.ts"
import { codeName } from "./codes.ts"
import { consumerGroup } from "./consumerGroup.ts"
import { cooperative } from "./cooperative.ts"
import { fetcher } from "./fetcher.ts"
import { heartbeats, type Leadership, membership } from "./membership.ts"
import { byTopicId, isolationLevel, keyOf, logOffsets } from "./offsets.ts"
import { ask, backoff, makeOwned, type Owned, SessionState, written } from "./state.ts"
import { watcher } from "./watcher.ts"
import type { Broker, Connector } from "../Broker.ts"

export const capabilities = (
  requestTimeout: number,
  { assignor, groupProtocol }: SessionSettings,
  { groupProtocols, staticMembership }: Pick<Connector, "groupProtocols" | "staticMembership">
): Capabilities => ({
  awaitedRevoke: true,
  incremental: groupProtocol === "consumer" || assignor === "cooperative-sticky",
  commitMetadata: true,
  perPartitionCommitResult: true,
  staticMembership,
  groupProtocols,
  assignors: ["sticky", "cooperative-sticky"],
  requestTimeout
})

/** What the library cannot send is said before anybody joins anything. */
const refusal = (
  { groupProtocol = "classic", instanceId }: SessionSettings,
  { groupProtocols, staticMembership }: Connector
): KafkaClientError | undefined => {
  const detail = !groupProtocols.includes(groupProtocol)
    ? `groupProtocol "${groupProtocol}": this client library has only ${groupProtocols.map((p) => `"${p}"`).join(", ")}`
    : instanceId !== undefined && !staticMembership
      ? "instanceId: this client library has no static membership"
      : undefined
  return detail === undefined ? undefined : new KafkaClientError({ reason: "UnsupportedClient", detail })
}

/** What a string in the protocol can hold; kafkajs would throw. */
const longestText = 32_767
/** how long leaving may take */
const leaveTimeout = 2000

export interface SessionParts {
  readonly settings: SessionSettings
  readonly requestTimeout: number
  /** a new set of connections; made once more after `leave` */
  readonly openCluster: () => Cluster
}

export const makeSession = (parts: SessionParts): Effect.Effect<Session, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const { openCluster, requestTimeout, settings } = parts
    const scope = yield* Effect.scope
    const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    const cluster = openCluster()
    const refused = refusal(settings, cluster.connector)
    if (refused !== undefined) return yield* refused
    const state = new SessionState(settings, cluster, inbox)
    const one = yield* Semaphore.make(1)
    let running: Fiber.Fiber<void> | undefined
    /** counts the calls of `leave`: a `join` that was still waiting for topics then does not start */
    let left = 0

    const leave = Effect.suspend(() => {
      const fiber = running
      running = undefined
      left++
      return fiber === undefined ? Effect.void : Fiber.interrupt(fiber)
    })

    yield* Scope.addFinalizer(
      scope,
      Effect.andThen(
        leave,
        Effect.sync(() => {
          state.cluster.close()
          Queue.endUnsafe(inbox)
        })
      )
    )

    const join = one.withPermit(
      Effect.gen(function* () {
        if (running !== undefined) return
        const before = left
        yield* topicsThere(state)
        yield* Effect.uninterruptible(
          Effect.gen(function* () {
            if (left === before) running = yield* Effect.forkIn(run(state, openCluster), scope)
          })
        )
      })
    )

    return {
      settings,
      capabilities: capabilities(requestTimeout, settings, cluster.connector),
      enabled: true,
      join,
      inbox,
      generationUnsafe: () => state.announcedGeneration,
      beginUnsafe: (starts) => {
        for (const start of starts) {
          const owned = state.current(start)
          if (owned !== undefined && owned.position === undefined) owned.position = start.offset
        }
        state.wakeFetch()
      },
      pauseUnsafe: (partitions) => {
        for (const p of partitions) {
          const owned = state.current(p)
          if (owned !== undefined) owned.paused = true
        }
      },
      resumeUnsafe: (partitions) => {
        for (const p of partitions) {
          const owned = state.current(p)
          if (owned !== undefined) owned.paused = false
        }
        state.wakeFetch()
      },
      reopenUnsafe: (partition) => reopen(state, partition),
      commit: (entries) => commit(state, entries, requestTimeout),
      logOffsets: (partitions) =>
        retrying(requestTimeout, (again) =>
          logOffsets(state.cluster, partitions, isolationLevel(settings.isolation), again)
        ),
      leave
    }
  })

/** The next epoch of a partition that is ours, without an assignment. What is committed stays known. */
const reopen = (state: SessionState, partition: EpochPartition): EpochPartition | undefined => {
  const old = state.current(partition)
  if (old === undefined) return undefined
  const owned = makeOwned(old.topic, old.partition, old.heldIn, old.topicId)
  owned.announced = true
  owned.committed = old.committed
  owned.paused = old.paused
  for (const one of old.doubtful) owned.doubtful.add(one)
  state.owned.set(keyOf(owned.topic, owned.partition), owned)
  return { topic: owned.topic, partition: owned.partition, epoch: owned.epoch }
}

/** All loops of a membership, until one fails for good or it is left. */
const run = (state: SessionState, openCluster: () => Cluster): Effect.Effect<void> => {
  const leadership: Leadership = { layout: undefined }
  return Effect.scoped(
    Effect.gen(function* () {
      yield* fetcher(state)
      const member =
        state.settings.groupProtocol === "consumer"
          ? [consumerGroup(state)]
          : [
              state.settings.assignor === "cooperative-sticky"
                ? cooperative(state, leadership)
                : membership(state, leadership),
              heartbeats(state)
            ]
      yield* Effect.all([...member, watcher(state, leadership), Deferred.await(state.failure)], {
        concurrency: "unbounded",
        discard: true
      })
    })
  ).pipe(
    Effect.catchCause((cause) =>
      Effect.sync(() => {
        if (!Cause.hasInterruptsOnly(cause)) Queue.failCauseUnsafe(state.inbox, cause)
      })
    ),
    Effect.ensuring(Effect.suspend(() => depart(state, openCluster)))
  )
}

/**
 * Leaves the group, without waiting longer than `leaveTimeout` for a broker, and closes all connections. A static member only goes: under
 * the classic protocol without a word, under the other with one that keeps its partitions and lets its name be taken up again.
 */
const depart = (state: SessionState, openCluster: () => Cluster): Effect.Effect<void> => {
  const { cluster, memberId, settings } = state
  state.owned.clear()
  state.question([])
  state.generation = -1
  state.announcedGeneration = -1
  state.memberId = ""
  state.phase = "out"
  state.orphaned.clear()
  state.doubts.clear()
  state.forgetTrouble()
  const { groupId, groupProtocol, instanceId, rebalanceTimeout } = settings
  const isStatic = instanceId !== undefined
  const leaveGroup = async () => {
    if (memberId === "" || (groupProtocol !== "consumer" && isStatic)) return
    const coordinator = await state.findCoordinator()
    if (groupProtocol !== "consumer") return await coordinator.leaveGroup({ groupId, memberId })
    const memberEpoch = isStatic ? -2 : -1
    const rest = { instanceId, rebalanceTimeout, topics: [], owned: [] }
    return await coordinator.consumerGroupHeartbeat?.({ groupId, memberId, memberEpoch, ...rest })
  }
  return Effect.promise(async () => {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, leaveTimeout)
    })
    await Promise.race([leaveGroup().catch(() => undefined), limit])
    clearTimeout(timer)
    state.coordinator = undefined
    cluster.close()
    state.cluster = openCluster()
  })
}

/** Waits until all topics are there. */
const topicsThere = (state: SessionState): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const { topicTimeout, topics } = state.settings
    const began = performance.now()
    for (let failures = 0; ;) {
      const read = yield* Effect.result(ask(() => state.cluster.refresh(topics)))
      if (read._tag === "Failure") {
        if (isFatal(read.failure)) return yield* read.failure
        state.failed("metadata", read.failure)
        yield* Effect.sleep(backoff(++failures))
        continue
      }
      failures = 0
      state.works("metadata")
      const absent: Array<string> = []
      for (const topic of topics) {
        const code = read.success.get(topic)?.code ?? "UNKNOWN_TOPIC_OR_PARTITION"
        if (code === "TOPIC_AUTHORIZATION_FAILED") return yield* fromCode(code, `metadata of ${topic}`)
        if (code !== "NONE") absent.push(topic)
      }
      if (absent.length === 0) {
        state.works("topics")
        return
      }
      const error = topicMissing(absent)
      if (topicTimeout !== undefined && performance.now() - began >= topicTimeout) return yield* error
      state.failed("topics", error)
      const left = topicTimeout === undefined ? Infinity : topicTimeout - (performance.now() - began)
      yield* Effect.sleep(Math.max(1, Math.min(500, left)))
    }
  })

/** For a few times within the request timeout, with metadata read anew: leaders move. */
export const retrying = <A>(
  requestTimeout: number,
  attempt: (again: boolean) => Promise<A>
): Effect.Effect<A, KafkaClientError> =>
  Effect.gen(function* () {
    const end = performance.now() + requestTimeout
    for (let failures = 0; ;) {
      const result = yield* Effect.result(ask(() => attempt(failures > 0)))
      if (result._tag === "Success") return result.success
      const wait = backoff(++failures)
      const error = result.failure
      if (isFatal(error) || error.reason === "TopicMissing" || performance.now() + wait > end) return yield* error
      yield* Effect.sleep(wait)
    }
  })

/**
 * One OffsetCommit with generation and member id as they are when it is called. The outcome of each entry is what the broker
 * says of it.
 */
const commit = (
  state: SessionState,
  entries: ReadonlyArray<CommitEntry>,
  requestTimeout: number
): Effect.Effect<ReadonlyArray<CommitOutcome>> =>
  Effect.suspend(() => {
    const outcomes: Array<CommitOutcome> = []
    const send: Array<{ readonly index: number; readonly entry: CommitEntry; readonly owned: Owned }> = []
    entries.forEach((entry, index) => {
      const { epoch, partition, topic } = entry
      const tp = { topic, partition, epoch }
      const owned = state.current(entry)
      if (owned === undefined) outcomes[index] = { ...tp, outcome: "stale", code: "EPOCH" }
      // no generation comes while nobody answers: who closes does not wait for one
      else if (state.phase === "joining" && state.isCutOff) {
        outcomes[index] = { ...tp, outcome: "retriable", code: "COORDINATOR_NOT_AVAILABLE" }
      } else if (state.phase !== "member" || !state.isSettled(entry)) {
        outcomes[index] = { ...tp, outcome: "deferred", code: "REBALANCE_IN_PROGRESS" }
      } else if (Buffer.byteLength(entry.metadata) > longestText) {
        outcomes[index] = { ...tp, outcome: "rejected", code: "OFFSET_METADATA_TOO_LARGE" }
      } else send.push({ index, entry, owned })
    })
    if (send.length === 0) return Effect.succeed(outcomes)
    const { generation, memberId } = state
    const { groupId, groupProtocol, instanceId: groupInstanceId } = state.settings
    const all = (result: ReturnType<typeof commitOutcome>) => {
      for (const { entry, index } of send) {
        const { epoch, partition, topic } = entry
        outcomes[index] = { topic, partition, epoch, ...result } as CommitOutcome
      }
      return outcomes
    }
    let broker: Broker | undefined
    let sent = false
    /** with the ids of their topics */
    const asked = new Map<Owned, string | undefined>()
    const request = async () => {
      broker = await state.findCoordinator()
      // It may move the member to another epoch. The broker serves it first, and would find the commit to be of the one before.
      while (state.moving !== undefined) await state.moving.catch(() => undefined)
      // generation and epochs may have ended meanwhile
      const isOver = groupProtocol === "consumer" ? state.memberId !== memberId : state.generation !== generation
      const isNow = !isOver && state.phase === "member"
      const live = send.filter(({ owned }) => isNow && state.isCurrent(owned) && state.isSettled(owned))
      if (live.length === 0) return { responses: [] }
      sent = true
      for (const { entry, owned } of live) {
        asked.set(owned, owned.topicId)
        owned.doubtful.add(written(entry))
      }
      return await state.cluster.use(broker, "commit offsets", (b) =>
        b.offsetCommit({
          groupId,
          groupGenerationId: state.generation,
          memberId,
          groupInstanceId,
          groupProtocol,
          topics: byTopicId(
            live.map(({ entry, owned }) => ({ ...entry, topicId: owned.topicId })),
            ({ topicId }) => topicId,
            ({ metadata, offset, partition }) => ({ partition, offset, metadata })
          )
        })
      )
    }
    return ask(request).pipe(
      // an answer that nobody waits for any more may still be on its way: nothing else goes over this connection
      Effect.onInterrupt(() => Effect.sync(() => sent && state.dropCoordinator(broker))),
      Effect.timeoutOrElse({
        duration: requestTimeout + 1000,
        orElse: () => Effect.fail(new KafkaClientError({ reason: "Timeout", detail: "commit offsets" }))
      }),
      Effect.match({
        onFailure: () => {
          // `use` has closed the connection; what the broker did with the request is not known
          state.beat.openUnsafe()
          return all({ outcome: "retriable", code: sent ? "NO_ANSWER" : "COORDINATOR_NOT_AVAILABLE" })
        },
        onSuccess: (answer) => {
          const codes = new Map<string, string>()
          for (const { partitions, topic } of answer.responses) {
            for (const { errorCode, partition } of partitions) codes.set(keyOf(topic, partition), codeName(errorCode))
          }
          let moved = false
          for (const { entry, index, owned } of send) {
            const { epoch, partition, topic } = entry
            const answered = codes.get(keyOf(topic, partition))
            if (answered === undefined && !state.isCurrent(owned)) {
              outcomes[index] = { topic, partition, epoch, outcome: "stale", code: "EPOCH" }
              continue
            }
            if (!asked.has(owned)) {
              outcomes[index] = { topic, partition, epoch, outcome: "deferred", code: "REBALANCE_IN_PROGRESS" }
              continue
            }
            const code = answered ?? "UNKNOWN_SERVER_ERROR"
            const result = commitOutcome(code)
            const isUnknown = result.outcome === "rejected" && result.code === "UNKNOWN_TOPIC_OR_PARTITION"
            outcomes[index] = { topic, partition, epoch, ...result } as CommitOutcome
            // a coordinator that answers so (replicas late, moving) may have written the offset, and it may come to light later
            if (result.outcome !== "retriable") owned.doubtful.delete(written(entry))
            if (result.outcome === "committed") owned.committed = { offset: entry.offset, metadata: entry.metadata }
            // the next heartbeat tells whether the membership is over or only changes
            if (result.outcome === "stale" || result.outcome === "deferred" || code === "GROUP_ID_NOT_FOUND") {
              state.beat.openUnsafe()
            }
            // Partitions do not go by themselves, so the others of the topic have gone too. Should it be created again before the
            // metadata are read, a commit for one of them would be taken for the new topic, which it is not about, where the request
            // has a name and no id. Should it be there after all, the group gives it again. An id is that of one topic: another one of
            // the same name, of which something has come meanwhile, was not refused.
            if (isUnknown) {
              const refused = asked.get(owned)
              state.gone("deleted", (o) => o.topic === topic && (code !== "UNKNOWN_TOPIC_ID" || o.topicId === refused))
              state.look.openUnsafe()
            }
            moved ||= code === "NOT_COORDINATOR" || code === "COORDINATOR_NOT_AVAILABLE"
          }
          if (moved) state.dropCoordinator(broker)
          return outcomes
        }
      })
    )
  })
