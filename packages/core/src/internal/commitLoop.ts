/**
 * The committer's loop: triggers, one request in flight, what to do with each outcome.
 *
 * - A commit is due when `batchSize` records have joined the prefix or are done behind a gap, `batchInterval` after the first of them,
 *   at once for a flush. Two commits follow each other by `minCommitInterval` at least, flushes aside.
 * - A partition whose offset did not move is committed for its map alone `mapInterval` after its last map at the earliest. Of maps
 *   1 MiB a second goes out at most, flushes aside: all that a group commits is kept by one broker, and read again when that one is
 *   restarted (test/commitLoop.model.test.ts).
 * - A retriable outcome keeps its urgency: tried again with backoff (100 ms doubling to 5 s, 20 % jitter) and the newest state.
 * - A deferred one is decided again after a heartbeat interval, or when the consumer flushes after an assignment. It holds up no other:
 *   what becomes due meanwhile goes out, and takes it along, which the client answers by itself where nothing has changed. After a
 *   commit of which everything was deferred the next one goes out half a second later at the earliest, flushes aside.
 * - A request is cut to 256 KiB; one that the broker refuses whole is halved until a single entry is left. An entry that was refused for
 *   its map is sent again at once, with a shorter one, so that a flush does not end without it.
 * - A request without an answer may be applied late, after a newer one (the broker checks neither order nor ownership): after the
 *   next success its partitions are committed once more when the request can no longer be alive.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { BatchCommitter, CommitSource } from "../BatchCommitter.ts"
import { CommitterDied } from "../CommitterDied.ts"
import type { CommitEntry, CommitOutcome, EpochPartition, Session } from "../ConsumerSession.ts"
import { Traces } from "../Traces.ts"
import { tracedCommit } from "./commitSpans.ts"
import type { CommitterSettings } from "./options.ts"
import { keyOf } from "./state.ts"

const maxRequestBytes = 256 * 1024
/** below this an UNKNOWN_SERVER_ERROR is not about the size */
const suspectRequestBytes = 64 * 1024

/** after a commit of which everything was deferred, in milliseconds: two a second through a rebalance */
const deferredPause = 500
const mapBytesPerMilli = (1024 * 1024) / 1_000

interface Flush {
  readonly partitions: ReadonlyArray<EpochPartition> | undefined
  readonly answer: Deferred.Deferred<ReadonlyArray<CommitOutcome>, CommitterDied>
}

/** encoded, roughly; a topic's name counts once */
export const encodedBytes = (entries: ReadonlyArray<Pick<CommitEntry, "topic" | "metadata">>): number => {
  let bytes = 0
  const topics = new Set<string>()
  for (const entry of entries) {
    if (!topics.has(entry.topic)) {
      topics.add(entry.topic)
      bytes += entry.topic.length + 8
    }
    bytes += 18 + entry.metadata.length
  }
  return bytes
}

/** into requests of at most 256 KiB */
export const cut = (entries: ReadonlyArray<CommitEntry>): Array<ReadonlyArray<CommitEntry>> => {
  if (entries.length < 2 || encodedBytes(entries) <= maxRequestBytes) return entries.length === 0 ? [] : [entries]
  return halves(entries).flatMap(cut)
}

const halves = (entries: ReadonlyArray<CommitEntry>): [ReadonlyArray<CommitEntry>, ReadonlyArray<CommitEntry>] => {
  const middle = entries.length >> 1
  return [entries.slice(0, middle), entries.slice(middle)]
}

/** Worth another try: also an entry that was too large by itself, or what it carries would wait for the next record. */
const again = (o: CommitOutcome): boolean =>
  o.outcome === "retriable" ||
  (o.outcome === "rejected" && (o.code === "REQUEST_TOO_LARGE" || o.code === "OFFSET_METADATA_TOO_LARGE"))

/** Refused for its map, or, alone in its request, for its length. What takes part in no map any more is not among them. */
const refusedForMaps = (
  entries: ReadonlyArray<CommitEntry>,
  outcomes: ReadonlyArray<CommitOutcome>
): ReadonlyArray<CommitEntry> =>
  entries.filter(({ metadata }, i) => {
    const o = outcomes[i]
    return (
      metadata !== "" &&
      o?.outcome === "rejected" &&
      (o.code === "OFFSET_METADATA_TOO_LARGE" || (o.code === "REQUEST_TOO_LARGE" && entries.length === 1))
    )
  })

const always = (): boolean => true

const refusedWhole = (entries: ReadonlyArray<CommitEntry>, outcomes: ReadonlyArray<CommitOutcome>): boolean =>
  entries.length > 1 &&
  outcomes.every(
    (o) =>
      (o.outcome === "rejected" && o.code === "REQUEST_TOO_LARGE") ||
      (o.outcome === "retriable" && o.code === "UNKNOWN_SERVER_ERROR" && encodedBytes(entries) > suspectRequestBytes)
  )

export const makeCommitLoop = Effect.fnUntraced(function* (
  session: Session,
  settings: CommitterSettings
): Effect.fn.Return<BatchCommitter["Service"], never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const commit = (yield* Traces) === undefined ? session.commit : tracedCommit(session)
  // the time of day can be set back, and nothing would be committed until it has come round again
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const died = Deferred.makeUnsafe<never, CommitterDied>()
  const wake = Latch.makeUnsafe(false)
  let source: CommitSource | undefined
  let over: CommitterDied | undefined
  let flushes: Array<Flush> = []
  /** records since the last commit of all partitions, and when the first of them came */
  let count = 0
  let firstAt: number | undefined
  let lastAt = Number.NEGATIVE_INFINITY
  /** something waits to be tried again, not before this time */
  let urgent = false
  let notBefore = Number.NEGATIVE_INFINITY
  let failures = 0
  /** some partition was deferred, and is decided again then */
  let deferredAt = Number.POSITIVE_INFINITY
  /** by topic and partition, without the epoch: an earlier epoch's request may be applied over what this one has committed */
  const unanswered = new Set<string>()
  let repeats: Array<{ readonly at: number; readonly partition: EpochPartition }> = []
  /** when the map of a partition was sent last */
  const mapsAt = new Map<string, number>()
  /** some partition waits until then to be committed for its map alone */
  let mapDueAt = Number.POSITIVE_INFINITY
  /** of maps, in this cycle */
  let mapBytes = 0
  /**
   * No cycle begins before, for the maps that were sent; a flush does, and does not make it earlier. Nor much later, however many
   * flushes come: what they send is paid for at the same time. With the part of a millisecond that small maps take, not to wait for one.
   */
  let mapsPaidAt = Number.NEGATIVE_INFINITY

  const mapAlone = (p: EpochPartition): boolean => {
    const at = mapsAt.get(keyOf(p))
    if (at === undefined || at + settings.mapInterval <= lastAt) return true
    mapDueAt = Math.min(mapDueAt, at + settings.mapInterval)
    return false
  }

  const dueAt = (): number => {
    if (source === undefined) return Number.POSITIVE_INFINITY
    if (flushes.length > 0) return Number.NEGATIVE_INFINITY
    let at = repeats[0]?.at ?? Number.POSITIVE_INFINITY
    if (count >= settings.batchSize) at = Number.NEGATIVE_INFINITY
    else if (firstAt !== undefined) at = Math.min(at, firstAt + settings.batchInterval)
    at = Math.min(at, mapDueAt, deferredAt)
    if (urgent) at = Math.min(at, notBefore)
    return at === Number.POSITIVE_INFINITY
      ? at
      : Math.max(at, notBefore, lastAt + settings.minCommitInterval, Math.floor(mapsPaidAt))
  }

  const send = (entries: ReadonlyArray<CommitEntry>): Effect.Effect<ReadonlyArray<CommitOutcome>> =>
    Effect.suspend(() => {
      const sentAt = now()
      for (const entry of entries) {
        if (entry.metadata === "") continue
        mapBytes += entry.metadata.length
        mapsAt.set(keyOf(entry), sentAt)
      }
      return Effect.flatMap(commit(entries), (outcomes) => {
        source?.settled(outcomes, now() - sentAt)
        if (refusedWhole(entries, outcomes)) {
          // settled made them dirty again: take the halves anew
          return Effect.map(
            Effect.forEach(halves(entries), (half) =>
              Effect.suspend(() => sendAll(source?.take(half, false, always) ?? []))
            ),
            (parts) => parts.flat()
          )
        }
        const refused = new Set(refusedForMaps(entries, outcomes))
        if (refused.size === 0) return Effect.succeed(outcomes)
        // the source has cut them meanwhile; every try is shorter than the one before, and the last has no map
        return Effect.map(sendAll(source?.take([...refused], false, always) ?? []), (again) => [
          ...outcomes.filter((_, i) => !refused.has(entries[i]!)),
          ...again
        ])
      })
    })

  const sendAll = (entries: ReadonlyArray<CommitEntry>): Effect.Effect<ReadonlyArray<CommitOutcome>> =>
    Effect.map(Effect.forEach(cut(entries), send), (parts) => parts.flat())

  const judge = (outcomes: ReadonlyArray<CommitOutcome>, all: boolean): void => {
    let retriable = false
    let deferred = false
    let committed = false
    for (const outcome of outcomes) {
      if (again(outcome)) {
        retriable = true
        if (outcome.outcome === "retriable" && outcome.code === "NO_ANSWER") unanswered.add(keyOf(outcome))
      } else if (outcome.outcome === "deferred") deferred = true
      else if (outcome.outcome === "committed") {
        committed = true
        if (unanswered.delete(keyOf(outcome))) {
          repeats.push({ at: now() + session.capabilities.requestTimeout, partition: outcome })
        }
      }
    }
    if (committed && !retriable) failures = 0
    if (retriable) failures++
    if (retriable) urgent = true
    else if (all) urgent = false
    // put off says nothing of a broker that did not answer before
    if (!retriable && !deferred) notBefore = Number.NEGATIVE_INFINITY
    if (deferred) {
      const next = now() + session.settings.heartbeatInterval
      // a flush of some says nothing of when the others were put off
      deferredAt = all ? next : Math.min(deferredAt, next)
      // the group rebalances: what moves meanwhile would be asked for as often as it moves
      if (all && outcomes.every(({ outcome }) => outcome === "deferred")) {
        notBefore = Math.max(notBefore, now() + Math.min(deferredPause, session.settings.heartbeatInterval))
      }
    } else if (all) deferredAt = Number.POSITIVE_INFINITY
  }

  const backOff = (outcomes: ReadonlyArray<CommitOutcome>): Effect.Effect<void> => {
    if (!outcomes.some(again)) return Effect.void
    const delay = Math.min(5_000, 100 * 2 ** Math.min(failures - 1, 10))
    return Effect.map(Random.next, (random) => {
      // whole milliseconds: of a fraction a rest too small to be slept can be left, and the loop would turn without waiting
      notBefore = now() + Math.ceil(delay * (0.8 + 0.4 * random))
    })
  }

  const cycle = Effect.suspend(() => {
    const requests = flushes
    flushes = []
    lastAt = now()
    mapBytes = 0
    const only =
      requests.length > 0 && requests.every((r) => r.partitions !== undefined)
        ? requests.flatMap((r) => r.partitions!)
        : undefined
    if (only === undefined) {
      count = 0
      firstAt = undefined
      mapDueAt = Number.POSITIVE_INFINITY
      for (const [key, at] of mapsAt) if (at + settings.mapInterval <= lastAt) mapsAt.delete(key)
    }
    const due = repeats.filter((r) => r.at <= lastAt).map((r) => r.partition)
    if (due.length > 0) repeats = repeats.filter((r) => r.at > lastAt)
    const entries = source!.take(only, false, requests.length > 0 ? always : mapAlone)
    // what has moved is in this request anyway
    const taken = new Set(entries.map(keyOf))
    const unmoved = due.filter((p) => !taken.has(keyOf(p)))
    const repeated = unmoved.length === 0 ? [] : source!.take(unmoved, true, always)
    return sendAll([...entries, ...repeated]).pipe(
      Effect.tap((outcomes) => {
        const paid = requests.length > 0 ? lastAt : Math.max(mapsPaidAt, lastAt)
        mapsPaidAt = Math.max(mapsPaidAt, paid + mapBytes / mapBytesPerMilli)
        judge(outcomes, only === undefined)
        return backOff(outcomes)
      }),
      Effect.map((outcomes) => {
        for (const request of requests) Deferred.doneUnsafe(request.answer, Effect.succeed(outcomes))
      }),
      // a flush that was taken but not answered must not wait for ever
      Effect.onError(() => Effect.sync(() => void flushes.push(...requests)))
    )
  })

  const loop = Effect.forever(
    Effect.suspend(() => {
      wake.closeUnsafe()
      const at = dueAt()
      const wait = at - now()
      if (wait <= 0) return cycle
      return wait === Number.POSITIVE_INFINITY ? wake.await : Effect.timeoutOption(wake.await, wait)
    })
  )

  const end = (error: CommitterDied): void => {
    over = error
    Deferred.doneUnsafe(died, Effect.fail(error))
    for (const flush of flushes) Deferred.doneUnsafe(flush.answer, Effect.fail(error))
    flushes = []
  }

  yield* Effect.forkScoped(
    Effect.onExit(loop, (exit) =>
      Effect.sync(() => {
        const cause = exit._tag === "Failure" ? exit.cause : Cause.empty
        const error = new CommitterDied({
          cause: Cause.hasInterruptsOnly(cause) ? "the committer was closed" : Cause.squash(cause)
        })
        // closed is not died: only who still waits is told
        if (Cause.hasInterruptsOnly(cause)) {
          over = error
          for (const flush of flushes) Deferred.doneUnsafe(flush.answer, Effect.fail(error))
          flushes = []
        } else end(error)
      })
    ).pipe(Effect.catchCause(() => Effect.void))
  )

  return {
    attach: (attached) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          source = attached
        }),
        () =>
          Effect.sync(() => {
            source = undefined
            // who came while a request was in flight: there is nothing to commit any more
            for (const flush of flushes) Deferred.doneUnsafe(flush.answer, Effect.succeed([]))
            flushes = []
            count = 0
            firstAt = undefined
            urgent = false
            notBefore = Number.NEGATIVE_INFINITY
            deferredAt = Number.POSITIVE_INFINITY
            failures = 0
            unanswered.clear()
            repeats = []
            mapsAt.clear()
            mapDueAt = Number.POSITIVE_INFINITY
            mapsPaidAt = Number.NEGATIVE_INFINITY
          })
      ),
    advancedUnsafe: (inPrefix, behindGap) => {
      const before = count
      count += inPrefix + behindGap
      if (firstAt === undefined) {
        firstAt = now()
        wake.openUnsafe()
      } else if (before < settings.batchSize && count >= settings.batchSize) wake.openUnsafe()
    },
    flush: (partitions) =>
      Effect.suspend(() => {
        if (over !== undefined) return Effect.fail(over)
        if (source === undefined) return Effect.succeed([])
        const answer = Deferred.makeUnsafe<ReadonlyArray<CommitOutcome>, CommitterDied>()
        flushes.push({ partitions, answer })
        wake.openUnsafe()
        return Deferred.await(answer)
      }),
    died: Deferred.await(died)
  }
})
