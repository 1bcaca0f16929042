/**
 * Fetching: one loop to each broker that leads something we own. A round takes what may be fetched now, asks for it at once,
 * and puts one chunk a partition into the inbox.
 *
 * - What comes back is used only when the partition is still the same epoch at the same position ("a chunk never belongs to
 *   an ended epoch").
 * - An error of one partition is that partition's: the others of the answer are used. A moved leader is looked up; the
 *   group does not rejoin for it. Whoever has read the metadata, the loop of the new one goes on at once ("a partition whose leader has
 *   moved").
 * - An answer may have no room for all: who was served last is asked for last ("partitions come in turn where an answer has no room for
 *   all of them"), also where that names a topic more than once: put together, its partitions would all be asked for where the first of them
 *   is, which may be one that never has anything ("a partition without records does not bring those of its topic before others").
 * - An answer has a limit of what it may unpack to before the engine has seen it and has had a chance to pause ("an answer that unpacks to
 *   far more than it was is unpacked as the engine takes it").
 * - Nothing can be added to a request that is on its way. So each broker has a second loop with connections of its own: what
 *   is begun or resumed while the first one polls is fetched by the second at once, until the poll is over.
 */
import type { Chunk } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { fromCode, isFatal } from "./classify.ts"
import { codeName } from "./codes.ts"
import type { Fetched, FetchedPartition } from "./fetchResponse.ts"
import { inOrder, isolationLevel, keyOf, leaderOf, logOffsets } from "./offsets.ts"
import { type Damage, damagedBatch, type Decoded, decodeRecords } from "./records.ts"
import { ask, backoff, epochOf, type Owned, type SessionState } from "./state.ts"

const maxBytesPerPartition = 1_048_576
const maxBytes = 10_485_760
/**
 * How much of an answer is unpacked before the engine has taken it, by weight; one batch may go beyond. As much as the engine holds by default.
 * What is not compressed stays below it: at 100 bytes a record, `maxBytes` weigh 29 MiB.
 */
const unpackedAtOnce = 32 * 1024 * 1024
/** what is left of a poll when the second loop leaves its partitions to the first */
const shortest = 10
/** how long the second loop waits: what is resumed while both are under way waits for it */
const sideWait = 30
/** decoding gives other work a turn after this long */
const turn = 5
/** an answer with a damaged batch is asked for again so often: most are damaged on their way, not in the log */
const damagedTimes = 3
/** this many signals that nobody has taken are enough */
const backlog = 64

interface Node {
  readonly id: number
  readonly source: string
  readonly latches: readonly [poll: Latch.Latch, side: Latch.Latch]
  /** when the poll that is under way ends at the latest; 0 without one */
  pollsUntil: number
}

export const fetcher = (state: SessionState): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const loops = yield* FiberMap.make<string, void>()
    const run = yield* FiberMap.runtime(loops)<never>()
    const nodes = new Map<number, Node>()
    state.wakeFetch = () => {
      for (const owned of state.owned.values()) {
        if (owned.position === undefined) continue
        const leader = leaderOf(state.cluster, owned.topic, owned.partition)
        if (leader < 0) state.look.openUnsafe()
        else if (!nodes.has(leader)) {
          const node: Node = {
            id: leader,
            source: `broker ${leader}`,
            latches: [Latch.makeUnsafe(false), Latch.makeUnsafe(false)],
            pollsUntil: 0
          }
          nodes.set(leader, node)
          run(`poll ${leader}`, guarded(state, poll(state, node)))
          run(`side ${leader}`, guarded(state, side(state, node)))
        }
      }
      for (const { latches } of nodes.values()) {
        latches[0].openUnsafe()
        latches[1].openUnsafe()
      }
    }
    const { cluster } = state
    cluster.onMoved = () => state.wakeFetch()
    state.wakeFetch()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        cluster.onMoved = () => undefined
        state.wakeFetch = () => undefined
      })
    )
  })

const guarded = (state: SessionState, loop: Effect.Effect<never, KafkaClientError>): Effect.Effect<void> =>
  Effect.catchCause(loop, (cause) =>
    Effect.sync(() => (Cause.hasInterruptsOnly(cause) ? undefined : state.fatal(cause)))
  )

/** Asks for everything that may be fetched, and waits for new records. */
const poll = (state: SessionState, node: Node): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const [latch] = node.latches
    let failures = 0
    while (true) {
      yield* brake(state)
      latch.closeUnsafe()
      const round = pick(state, node)
      if (round.fetch.length === 0) {
        // its partitions have another leader now: whether it works is of no interest
        if (failures > 0) state.works(node.source)
        failures = 0
        if (round.due === Infinity) yield* latch.await
        else yield* Effect.timeoutOption(latch.await, Math.max(1, round.due - performance.now()))
        continue
      }
      const wait = Math.max(1, Math.min(state.settings.maxWait, round.due - performance.now()))
      const failure = yield* exclusively(
        state,
        node,
        round,
        Effect.gen(function* () {
          node.pollsUntil = performance.now() + wait
          const result = yield* Effect.result(request(state, node, "", round, wait))
          node.pollsUntil = 0
          if (result._tag === "Failure") return result.failure
          state.works(node.source)
          yield* take(state, node, round, result.success)
          return undefined
        })
      )
      failures = failure === undefined ? 0 : failures + 1
      if (failure !== undefined) yield* unanswered(state, node, failure, failures)
    }
  })

/**
 * Asks for what has become fetchable while `poll` waits, for as long as it does. Both then end about the same time, and the
 * next poll takes all.
 */
const side = (state: SessionState, node: Node): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    const [, latch] = node.latches
    let failures = 0
    while (true) {
      yield* brake(state)
      latch.closeUnsafe()
      const wait = Math.min(sideWait, node.pollsUntil - performance.now())
      const round = wait < shortest ? undefined : pick(state, node)
      if (round === undefined || round.fetch.length === 0) {
        yield* latch.await
        continue
      }
      const failure = yield* exclusively(
        state,
        node,
        round,
        Effect.gen(function* () {
          const result = yield* Effect.result(request(state, node, "side", round, wait))
          if (result._tag === "Failure") return result.failure
          yield* take(state, node, round, result.success)
          return undefined
        })
      )
      failures = failure === undefined ? 0 : failures + 1
      if (failure !== undefined) yield* unanswered(state, node, failure, failures)
      // a poll that has ended meanwhile may have found nothing left to ask for
      node.latches[0].openUnsafe()
    }
  })

const unanswered = (
  state: SessionState,
  node: Node,
  error: KafkaClientError,
  failures: number
): Effect.Effect<void, KafkaClientError> => {
  if (isFatal(error)) return Effect.fail(error)
  state.failed(node.source, error)
  // the broker may be gone for good and another one lead its partitions
  state.look.openUnsafe()
  return Effect.sleep(backoff(failures))
}

/** The bound of the inbox is `pauseUnsafe`, but an engine that is busy with something else cannot pause. */
const brake = (state: SessionState): Effect.Effect<void> =>
  Queue.sizeUnsafe(state.inbox) < backlog
    ? Effect.void
    : Effect.suspend(() => Effect.andThen(Effect.sleep(5), brake(state)))

interface Round {
  readonly fetch: ReadonlyArray<Owned>
  readonly positions: ReadonlyArray<bigint>
  /** when the next partition may be tried again */
  readonly due: number
}

const pick = (state: SessionState, node: Node): Round => {
  const fetch: Array<Owned> = []
  const now = performance.now()
  let due = Infinity
  for (const owned of state.owned.values()) {
    if (owned.position === undefined || owned.paused || owned.stopped || owned.fetching) continue
    // what is handled of it could not be committed before the answer, which may be that it is another topic
    if (!state.isSettled(owned) || leaderOf(state.cluster, owned.topic, owned.partition) !== node.id) continue
    if (owned.retryAt > now) due = Math.min(due, owned.retryAt)
    else fetch.push(owned)
  }
  // a broker fills its answer in the order of the request: what comes last would wait for as long as what comes first has more
  fetch.sort((a, b) => a.servedAt - b.servedAt)
  return { fetch, positions: fetch.map(({ position }) => position!), due }
}

const request = (
  state: SessionState,
  node: Node,
  lane: string,
  round: Round,
  wait: number
): Effect.Effect<Fetched, KafkaClientError> =>
  ask(async () => {
    const { cluster } = state
    const fetched = await cluster.use(await cluster.node(node.id, lane), "fetch", (broker) =>
      broker.fetch({
        isolationLevel: isolationLevel(state.settings.isolation),
        maxWaitTime: Math.ceil(wait),
        minBytes: 1,
        maxBytes,
        topics: inOrder(
          round.fetch.map((owned, i) => ({ topic: owned.topic, partition: owned.partition, at: round.positions[i]! })),
          ({ at, partition }) => ({ partition, fetchOffset: at, maxBytes: maxBytesPerPartition })
        )
      })
    )
    if (fetched.errorCode !== 0) throw fromCode(codeName(fetched.errorCode), "fetch")
    return fetched
  })

/**
 * No partition is in two requests at a time, nor asked for again before its answer is decoded. Who leads it by then may have been woken
 * meanwhile and have left it alone for that: nobody else would wake it before metadata are old.
 */
const exclusively = <A>(
  state: SessionState,
  node: Node,
  round: Round,
  effect: Effect.Effect<A, KafkaClientError>
): Effect.Effect<A, KafkaClientError> => {
  for (const owned of round.fetch) owned.fetching = true
  return Effect.ensuring(
    effect,
    Effect.sync(() => {
      let hasMoved = false
      for (const owned of round.fetch) {
        owned.fetching = false
        hasMoved ||= leaderOf(state.cluster, owned.topic, owned.partition) !== node.id
      }
      if (hasMoved) state.wakeFetch()
    })
  )
}

/**
 * Puts the answer into the inbox, partition by partition. When it has unpacked to `unpackedAtOnce`, it goes on behind what the engine has
 * taken by then, and leaves out what it has paused: that keeps its position, and is fetched again when it is resumed. Before that nothing is
 * left out. What has come would be fetched again each time a limit of the engine is met, which with small records is a few times an answer.
 */
const take = (state: SessionState, node: Node, round: Round, fetched: Fetched): Effect.Effect<void, KafkaClientError> =>
  Effect.gen(function* () {
    const asked = new Map(
      round.fetch.map((owned, i) => [keyOf(owned.topic, owned.partition), { owned, at: round.positions[i]! }])
    )
    let began = performance.now()
    let room = unpackedAtOnce
    let isOver = false
    for (const answer of fetched.partitions) {
      const entry = asked.get(keyOf(answer.topic, answer.partition))
      if (entry === undefined || !isAt(state, entry.owned, entry.at)) continue
      const { owned } = entry
      if (answer.errorCode !== 0) {
        yield* troubled(state, node, owned, answer)
        continue
      }
      if (answer.batches.length === 0) {
        owned.errors = 0
        continue
      }
      for (let at = entry.at, isWhole = false; !isWhole;) {
        if (room <= 0) {
          yield* taken(state)
          room = unpackedAtOnce
          isOver = true
        }
        if (!isSame(state, owned, at) || (isOver && owned.paused)) break
        const damaged = at === entry.at ? damagedBatch(answer.batches) : undefined
        if (damaged !== undefined) {
          yield* refetched(node, owned, damaged)
          break
        }
        const decoded = yield* decode(state, answer, at, room)
        push(state, owned, at, answer, decoded)
        room -= decoded.weight
        at = decoded.next
        isWhole = decoded.isWhole
        if (performance.now() - began > turn) {
          yield* Effect.yieldNow
          began = performance.now()
        }
      }
    }
  })

/** Until the engine has taken what there is. It takes all at once, and pauses then what it has no more room for. */
const taken = (state: SessionState): Effect.Effect<void> =>
  Effect.suspend(() =>
    Queue.sizeUnsafe(state.inbox) === 0 ? Effect.void : Effect.andThen(Effect.sleep(1), taken(state))
  )

const isAt = (state: SessionState, owned: Owned, position: bigint): boolean =>
  state.isCurrent(owned) && owned.position === position && !owned.stopped

/** What has come of it may be used. */
const isSame = (state: SessionState, owned: Owned, position: bigint): boolean =>
  isAt(state, owned, position) && state.isSettled(owned)

const decode = (
  state: SessionState,
  answer: FetchedPartition,
  position: bigint,
  most: number
): Effect.Effect<Decoded, KafkaClientError> => {
  try {
    const decoded = decodeRecords({
      topic: answer.topic,
      partition: answer.partition,
      position,
      batches: answer.batches,
      decompress: state.cluster.connector.decompress,
      aborted: state.settings.isolation === "read_committed" ? answer.aborted : [],
      most
    })
    return decoded instanceof Promise ? ask(() => decoded) : Effect.succeed(decoded)
  } catch (error) {
    return Effect.fail(error as KafkaClientError)
  }
}

const refetched = (node: Node, owned: Owned, { offset, what }: Damage): Effect.Effect<void, KafkaClientError> => {
  owned.retryAt = performance.now() + backoff(++owned.damaged)
  const where = `the batch at offset ${offset} of ${keyOf(owned.topic, owned.partition)}, from broker ${node.id},`
  if (owned.damaged <= damagedTimes) {
    return Effect.logWarning(`${where} has ${what} and is fetched again`)
  }
  return Effect.fail(
    new KafkaClientError({
      reason: "CorruptData",
      detail: `${where} has ${what}, also when it is fetched again: the log or what lies between is damaged`
    })
  )
}

const push = (
  state: SessionState,
  owned: Owned,
  position: bigint,
  answer: FetchedPartition,
  { next, records }: Decoded
): void => {
  // decompressing takes turns: the partition may have gone or been reopened meanwhile
  if (!isSame(state, owned, position)) return
  if (next === position) {
    // bytes, and nothing beyond the position: asked at once the broker would answer the same at once
    owned.retryAt = performance.now() + backoff(++owned.errors)
    return
  }
  owned.errors = 0
  owned.damaged = 0
  owned.servedAt = performance.now()
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
  node: Node,
  owned: Owned,
  answer: FetchedPartition
): Effect.Effect<void, KafkaClientError> => {
  const code = codeName(answer.errorCode)
  if (code === "OFFSET_OUT_OF_RANGE") return outOfRange(state, owned)
  const error = fromCode(code, `fetch ${keyOf(owned.topic, owned.partition)} from broker ${node.id}`)
  if (isFatal(error)) return Effect.fail(error)
  owned.retryAt = performance.now() + backoff(++owned.errors)
  // the next one may be another topic of its name
  if (code === "UNKNOWN_TOPIC_OR_PARTITION" || code === "UNKNOWN_TOPIC_ID")
    state.doubt(owned.topic, { kind: "unknown" })
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
      }).pipe(Effect.mapError((error) => state.cluster.connector.classify(error, "list offsets")))
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
