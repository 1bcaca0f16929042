/**
 * Fetching: one loop to each broker that leads something we own. A round takes what may be fetched now, asks for it at once,
 * and puts one chunk a partition into the inbox.
 *
 * - What comes back is used only when the partition is still the same epoch at the same position ("a chunk never belongs to
 *   an ended epoch").
 * - An error of one partition is that partition's: the others of the answer are used. A moved leader is looked up; the
 *   group does not rejoin for it.
 * - While something this broker leads waits to be begun or resumed, the long poll is short: nothing can be added to a
 *   request that is on its way.
 */
import type { Chunk } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { classify, fromCode, isFatal } from "./classify.ts"
import { codeName } from "./codes.ts"
import type { Fetched, FetchedPartition } from "./fetchResponse.ts"
import { byTopic, isolationLevel, keyOf, leaderOf, logOffsets } from "./offsets.ts"
import { type Decoded, decodeRecords } from "./records.ts"
import { ask, backoff, epochOf, type Owned, type SessionState } from "./state.ts"

const maxBytesPerPartition = 1_048_576
const maxBytes = 10_485_760
/** how long a poll lasts while something may want to join it */
const shortWait = 20
/** decoding gives other work a turn after this long */
const turn = 5

export const fetcher = (state: SessionState): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const loops = yield* FiberMap.make<number, void>()
    const run = yield* FiberMap.runtime(loops)<never>()
    const latches = new Map<number, Latch.Latch>()
    state.wakeFetch = () => {
      for (const owned of state.owned.values()) {
        if (owned.position === undefined) continue
        const leader = leaderOf(state.cluster, owned.topic, owned.partition)
        if (leader < 0) state.look.openUnsafe()
        else if (!latches.has(leader)) {
          const latch = Latch.makeUnsafe(false)
          latches.set(leader, latch)
          run(leader, loop(state, leader, latch), { onlyIfMissing: true })
        }
      }
      for (const latch of latches.values()) latch.openUnsafe()
    }
    state.wakeFetch()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        state.wakeFetch = () => undefined
      })
    )
  })

const loop = (state: SessionState, node: number, latch: Latch.Latch): Effect.Effect<void> =>
  Effect.gen(function* () {
    const source = `broker ${node}`
    let failures = 0
    while (true) {
      latch.closeUnsafe()
      const round = pick(state, node)
      if (round.fetch.length === 0) {
        if (round.due === Infinity) yield* latch.await
        else yield* Effect.timeoutOption(latch.await, Math.max(1, round.due - performance.now()))
        continue
      }
      for (const owned of round.fetch) owned.fetching = true
      const result = yield* Effect.result(request(state, node, round)).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            for (const owned of round.fetch) owned.fetching = false
          })
        )
      )
      if (result._tag === "Failure") {
        if (isFatal(result.failure)) return state.fatal(result.failure)
        state.failed(source, result.failure)
        // the broker may be gone for good and another one lead its partitions
        state.look.openUnsafe()
        yield* Effect.sleep(backoff(++failures))
        continue
      }
      failures = 0
      state.works(source)
      yield* take(state, node, round, result.success)
    }
  }).pipe(Effect.catch((error: KafkaClientError) => Effect.sync(() => state.fatal(error))))

interface Round {
  readonly fetch: ReadonlyArray<Owned>
  readonly positions: ReadonlyArray<bigint>
  /** something of this broker is not fetched, but may be at any moment */
  readonly others: boolean
  /** when the next partition may be tried again */
  readonly due: number
}

const pick = (state: SessionState, node: number): Round => {
  const fetch: Array<Owned> = []
  const positions: Array<bigint> = []
  const now = performance.now()
  let others = false
  let due = Infinity
  for (const owned of state.owned.values()) {
    if (owned.stopped || leaderOf(state.cluster, owned.topic, owned.partition) !== node) continue
    if (owned.position === undefined || owned.paused) others = true
    else if (owned.retryAt > now) due = Math.min(due, owned.retryAt)
    else if (!owned.fetching) {
      fetch.push(owned)
      positions.push(owned.position)
    }
  }
  return { fetch, positions, others, due }
}

const request = (state: SessionState, node: number, round: Round): Effect.Effect<Fetched, KafkaClientError> => {
  const { isolation, maxWait } = state.settings
  const limit = Math.min(round.others ? shortWait : Infinity, Math.max(1, round.due - performance.now()))
  return ask(async () => {
    const { cluster } = state
    const answer = await cluster.use(await cluster.node(node), "fetch", (broker) =>
      broker.fetch({
        replicaId: -1,
        isolationLevel: isolationLevel(isolation),
        maxWaitTime: Math.round(Math.min(maxWait, limit)),
        minBytes: 1,
        maxBytes,
        topics: byTopic(
          round.fetch.map((owned, i) => ({ topic: owned.topic, partition: owned.partition, at: round.positions[i]! })),
          ({ at, partition }) => ({ partition, fetchOffset: String(at), maxBytes: maxBytesPerPartition })
        )
      })
    )
    const fetched = answer as Fetched
    if (fetched.errorCode !== 0) throw fromCode(codeName(fetched.errorCode), "fetch")
    return fetched
  })
}

/** Puts the answer into the inbox, partition by partition. */
const take = (
  state: SessionState,
  node: number,
  round: Round,
  fetched: Fetched
): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const asked = new Map(
      round.fetch.map((owned, i) => [keyOf(owned.topic, owned.partition), { owned, at: round.positions[i]! }])
    )
    let began = performance.now()
    for (const answer of fetched.partitions) {
      const entry = asked.get(keyOf(answer.topic, answer.partition))
      if (entry === undefined || !isSame(state, entry.owned, entry.at)) continue
      if (answer.errorCode !== 0) {
        yield* troubled(state, node, entry.owned, answer)
        continue
      }
      entry.owned.errors = 0
      if (answer.batches.length === 0) continue
      const decoded = decode(state, answer, entry.at)
      push(state, entry.owned, entry.at, answer, decoded instanceof Promise ? yield* ask(() => decoded) : decoded)
      if (performance.now() - began > turn) {
        yield* Effect.yieldNow
        began = performance.now()
      }
    }
  })

const isSame = (state: SessionState, owned: Owned, position: bigint): boolean =>
  state.isCurrent(owned) && owned.position === position && !owned.stopped

const decode = (state: SessionState, answer: FetchedPartition, position: bigint): Decoded | Promise<Decoded> =>
  decodeRecords({
    topic: answer.topic,
    partition: answer.partition,
    position,
    batches: answer.batches,
    aborted: state.settings.isolation === "read_committed" ? answer.aborted : []
  })

const push = (
  state: SessionState,
  owned: Owned,
  position: bigint,
  answer: FetchedPartition,
  { next, records }: Decoded
): void => {
  // decompressing takes turns: the partition may have gone or been reopened meanwhile
  if (!isSame(state, owned, position) || next === position) return
  owned.position = next
  const chunk: Chunk = {
    _tag: "Chunk",
    ...epochOf(owned),
    records,
    nextOffset: next,
    end: state.settings.isolation === "read_committed" ? answer.lastStable : answer.highWatermark
  }
  state.offer(chunk)
}

const troubled = (
  state: SessionState,
  node: number,
  owned: Owned,
  answer: FetchedPartition
): Effect.Effect<void, KafkaClientError> => {
  const code = codeName(answer.errorCode)
  if (code === "OFFSET_OUT_OF_RANGE") return outOfRange(state, owned)
  const error = fromCode(code, `fetch ${keyOf(owned.topic, owned.partition)} from broker ${node}`)
  if (isFatal(error)) return Effect.fail(error)
  owned.retryAt = performance.now() + backoff(++owned.errors)
  // a moved leader, a topic that is gone: the metadata tell
  state.look.openUnsafe()
  return Effect.void
}

/**
 * Retention has cut the log above our position: go on at its beginning, in the same epoch. Or the log ends below our position
 * (an unclean election, another topic of the same name): stop until the engine has decided.
 */
const outOfRange = (state: SessionState, owned: Owned): Effect.Effect<void> =>
  Effect.gen(function* () {
    const position = owned.position!
    const tp = { topic: owned.topic, partition: owned.partition }
    const isolation = isolationLevel(state.settings.isolation)
    const read = yield* Effect.result(
      ask(async () => {
        // a position between the last stable offset and the high watermark is inside of the log
        const [log] = await logOffsets(state.cluster, [tp], 0, owned.errors > 0)
        const [visible] = isolation === 0 ? [log] : await logOffsets(state.cluster, [tp], isolation, false)
        return { start: log!.start, highWatermark: log!.end, end: visible!.end }
      }).pipe(Effect.mapError((error) => classify(error, "list offsets")))
    )
    if (!isSame(state, owned, position)) return
    if (read._tag === "Failure" || (position >= read.success.start && position <= read.success.highWatermark)) {
      // a follower that has just become leader may be behind for a moment
      owned.retryAt = performance.now() + backoff(++owned.errors)
      state.look.openUnsafe()
      return
    }
    const { end, start } = read.success
    if (position < start) owned.position = start
    else owned.stopped = true
    owned.errors = 0
    state.offer({ _tag: "OutOfRange", ...epochOf(owned), start, end, position })
  })
