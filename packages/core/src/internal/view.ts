/**
 * Snapshot and health: read from the state when somebody asks, at no cost to who does not.
 */
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { Session } from "../ConsumerSession.ts"
import type { Health, HealthCode, HealthReason, LoopDelay } from "../Health.ts"
import type { HotLane, OldestRecord, PartitionSnapshot, Snapshot } from "../Snapshot.ts"
import { printable } from "./describe.ts"
import { type PartitionEpoch, pauseNames } from "./epoch.ts"
import type { Lane } from "./lanes.ts"
import type { Bystander, LateLooks } from "./lateLooks.ts"
import type { Permits } from "./permits.ts"
import { RecordState, recordStateNames } from "./recordMachine.ts"
import type { ConsumerRun, RunFailure } from "./run.ts"
import type { Slot } from "./slot.ts"
import { type ConsumerSettings, type Counters, keyOf } from "./state.ts"

const runsShown = 256
const hotLanesShown = 5
/** lanes that bind for a moment are what they are for */
const laneBoundShownMillis = 10_000
/** a producer tries for minutes by itself before it fails */
const sendingShownMillis = 10_000
const lostShownMillis = 60 * 60 * 1000
/** a second keeps no group waiting, but what takes one takes more at times: the session, and what probes wait for, end after some */
const loopBlockedMillis = 1_000
/** a commit that fails once or twice is nothing to wake anybody for */
const failuresShown = 3

/** Of a consumer, over its runs. */
export interface Viewed {
  readonly name: string
  readonly session: Session
  readonly settings: ConsumerSettings
  readonly counters: Counters
  readonly permits: Permits
  readonly zombies: ReadonlySet<Slot>
  readonly loopDelay: LoopDelay | undefined
  readonly lateLooks: LateLooks | undefined
  readonly startedAt: number
  readonly run: ConsumerRun | undefined
  /** a run ended by interruption at this time, and none followed */
  readonly idleSince: number | undefined
  readonly failed: { readonly at: number; readonly error: RunFailure } | undefined
  readonly userPausedSince: number | undefined
}

interface Verdict {
  readonly status: Health["status"]
  readonly live: boolean
  readonly ready: boolean
}
const ok: Verdict = { status: "ok", live: true, ready: true }
const degraded: Verdict = { status: "degraded", live: true, ready: true }

const severity = { ok: 0, degraded: 1, down: 2 } as const

export const healthOf = (view: Viewed, now: number): Health => {
  const { counters, run, session, settings } = view
  const reasons: Array<HealthReason> = []
  let verdict: Verdict = ok
  const { liveNeeds = [], readyNeeds = [] } = settings.health
  const add = (code: HealthCode, v: Verdict, reason: Omit<HealthReason, "code">): void => {
    reasons.push({ code, ...reason })
    verdict = {
      status: severity[v.status] > severity[verdict.status] ? v.status : verdict.status,
      live: verdict.live && v.live && !liveNeeds.includes(code),
      ready: verdict.ready && v.ready && !readyNeeds.includes(code)
    }
  }
  const epochs = run === undefined ? [] : [...run.state.epochs.values()]
  const everAssigned = run?.intake.everAssigned ?? false

  if (!session.enabled) {
    add("disabled", ok, {
      message: "Kafka is switched off (KAFKA_ENABLED=false); no record will come",
      since: view.startedAt,
      count: 1
    })
  }
  if (view.failed !== undefined) {
    const { at, error } = view.failed
    const code = error._tag === "CommitterDied" ? "committerDead" : "failed"
    add(code, { status: "down", live: false, ready: false }, { message: error.message, since: at, count: 1 })
  } else if (run?.closingSince !== undefined) {
    const running = epochs.reduce((n, epoch) => n + epoch.live.length, 0)
    add(
      "shuttingDown",
      { ...ok, ready: false },
      { message: `closing; ${running} records in flight`, since: run.closingSince, count: running }
    )
  } else if (view.idleSince !== undefined) {
    add("idle", ok, { message: "no handler runs: the last run was interrupted", since: view.idleSince, count: 1 })
  } else if (session.enabled && !everAssigned) {
    const first = run === undefined || counters.rebalanceCounts.assigned === 0
    add(
      "starting",
      { ...degraded, ready: false },
      {
        message: first
          ? "never had an assignment yet"
          : "joins the group again: no assignment yet since run was called",
        since: first ? view.startedAt : run.state.startedAt,
        count: 1
      }
    )
  } else if (session.enabled && epochs.length === 0 && run?.intake.gone.all.length === 0) {
    add("standby", ok, {
      message: "a member of the group without partitions: there are not more partitions than other members",
      since: counters.rebalances.at(-1)?.at ?? view.startedAt,
      count: 1
    })
  }

  const opening = epochs.filter((epoch) => epoch.state === "opening")
  if (opening.length > 0) {
    const failing = opening.some((epoch) => epoch.startFailedOnce)
    add("opening", failing ? degraded : ok, {
      message: failing
        ? "where to start could not be read or committed yet; trying again"
        : "establishing where to start",
      since: Math.min(...opening.map((epoch) => epoch.openedAt)),
      count: opening.length,
      at: place(opening[0]!)
    })
  }
  const leaving = epochs.filter(
    (e) => !e.closing && (e.state === "holding" || e.state === "flushing" || e.state === "suspended")
  )
  if (leaving.length > 0) {
    add("rebalancing", ok, {
      message: "partitions are being taken away, or wait for their next owner to be known",
      since: Math.min(...leaving.map(({ leavingSince }) => leavingSince ?? now)),
      count: leaving.length,
      at: place(leaving[0]!)
    })
  }
  const paused = epochs.filter((epoch) => pauseNames(epoch.pauses).includes("user"))
  if (view.userPausedSince !== undefined || paused.length > 0) {
    add("paused", ok, {
      message: view.userPausedSince === undefined ? "some partitions are paused" : "paused",
      since: view.userPausedSince ?? Math.min(...paused.map(({ userPausedAt }) => userPausedAt ?? now)),
      count: paused.length,
      ...(paused[0] === undefined ? {} : { at: place(paused[0]) })
    })
  }
  stuck(view, epochs, run?.state.ticks() ?? 0, (reason) => add("stuck", degraded, reason))
  if (view.zombies.size > 0) {
    const oldest = [...view.zombies].reduce((a, b) => (b.startedAt < a.startedAt ? b : a))
    const all = view.permits.limit !== "unbounded" && view.permits.byZombies >= view.permits.limit
    add("zombie", all ? { status: "down", live: false, ready: true } : degraded, {
      message: all
        ? "handlers that ignore their interruption hold all permits: nothing can start until the process is restarted"
        : "handlers ignore their interruption; each keeps its permit until it ends",
      since: oldest.startedAt,
      count: view.zombies.size,
      at: { topic: oldest.topic, partition: oldest.partition, offset: oldest.offset }
    })
  }
  const blocked = view.loopDelay?.longestUnsafe()
  if (blocked !== undefined && blocked.millis >= loopBlockedMillis) {
    // nothing may have come since that looked at a clock
    run?.pump.turn.look()
    const those = view.lateLooks?.during(blocked.millis, blocked.at) ?? []
    add("eventLoopBlocked", degraded, {
      message: `the event loop stood still for ${Math.round(blocked.millis)} ms: heartbeats, commits and probes stand still with it${inHandlers(those)}`,
      since: blocked.at,
      count: Math.max(1, those.length),
      ...(those[0] === undefined ? {} : { at: { ...place(those[0]), offset: those[0].offset } })
    })
  }
  const retried = oldestSlot(epochs, retrying, (slot) => slot.past!.firstFailedAt)
  if (retried !== undefined) {
    add("retrying", degraded, {
      message:
        "records have failed and wait for their retry, or run again; what lies behind them is committed only with the offset map",
      ...retried
    })
  }
  const parked = oldestSlot(epochs, (epoch) => epoch.parked)
  if (parked !== undefined) {
    add("parked", degraded, {
      message: "records have failed and are parked; they come again with the next assignment, or at the park limit",
      ...parked
    })
  }
  const laneBound = run?.pump.laneBoundSince
  if (laneBound !== undefined && now - laneBound >= laneBoundShownMillis) {
    const hot = hotLanes(epochs, settings)
    add("laneBound", degraded, {
      message: `permits are free, and records wait for others with the same key: ${hot.map(({ lane, waiting }) => `${waiting} in ${lane}`).join(", ")}`,
      since: laneBound,
      count: epochs.reduce((n, { backlog }) => n + (backlog.lanes?.waiting ?? 0), 0),
      ...(hot[0] === undefined ? {} : { at: place(hot[0]) })
    })
  }
  const lost = counters.lostToRetentionAt
  if (lost !== undefined && now - lost.at < lostShownMillis) {
    add("lostToRetention", degraded, {
      message: `the broker deleted ${counters.lostToRetention} offsets before they were read: raise the topic's retention or the throughput`,
      since: lost.at,
      count: Number(counters.lostToRetention),
      at: place(lost.where)
    })
  }
  const down: Verdict = { status: "down", live: true, ready: everAssigned }
  if (counters.commitFailures >= failuresShown) {
    add("commitsFailing", down, {
      message: "commits fail; what is done meanwhile would be delivered again after a restart",
      since: counters.commitFailingSince!,
      count: counters.commitFailures
    })
  }
  const failing = oldestSlot(epochs, ({ sending }) =>
    [...sending].filter((slot) => slot.sendFailures > 0 || now - slot.since >= sendingShownMillis)
  )
  if (failing !== undefined) {
    add("deadLetterFailing", down, {
      message: "the brokers do not take dead letters; they are sent again, and their records are not done",
      ...failing
    })
  }
  const trouble = run?.intake.trouble
  if (trouble !== undefined) {
    const reason = trouble.error?.reason
    const code =
      reason === "ProtocolMismatch" ? "protocolMismatch" : reason === "TopicMissing" ? "topicMissing" : "disconnected"
    add(code, down, {
      message: trouble.error?.message ?? "no connection to the brokers",
      since: trouble.since,
      count: 1
    })
  }
  const gone = run?.intake.gone.all ?? []
  if (gone.length > 0) {
    add("topicMissing", down, {
      message:
        gone[0]!.signal.why === "deleted" ? "a topic or partition is not there any more" : "a topic was created anew",
      since: gone[0]!.at,
      count: gone.length,
      at: place(gone[0]!.signal)
    })
  }
  return { ...verdict, reasons }
}

const bystandersNamed = 5

/** One of them has blocked it, if it was a handler; nobody knows which. */
const inHandlers = (those: ReadonlyArray<Bystander>): string => {
  if (those.length === 0) return ""
  const named = those.slice(0, bystandersNamed).map((p) => `${p.topic}/${p.partition} @ ${p.offset}`)
  const more = those.length - named.length
  return `; in handlers meanwhile: ${named.join(", ")}${more === 0 ? "" : ` and ${more} more`}`
}

/** a hash of a key can be guessed by hashing keys, unless every process hashes in its own way */
const salt = `${Math.random()}`

const hashed = (name: string): string => {
  let hash = 0x811c9dc5
  for (const text of [salt, name]) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return (hash >>> 0).toString(16).padStart(8, "0")
}

const utf8 = /* @__PURE__ */ new TextDecoder()

const revealed = (name: string, ordering: ConsumerSettings["ordering"]): string => {
  // the lane of a key is named by its bytes
  const text = ordering === "key" ? utf8.decode(Uint8Array.from(name, (byte) => byte.charCodeAt(0))) : name
  return printable(text)
}

const hotLanes = (
  epochs: ReadonlyArray<PartitionEpoch>,
  { ordering, revealRecords }: Pick<ConsumerSettings, "ordering" | "revealRecords">
): ReadonlyArray<HotLane> => {
  const hottest: Array<{ readonly epoch: PartitionEpoch; readonly lane: Lane }> = []
  for (const epoch of epochs) {
    for (const lane of epoch.backlog.lanes?.all ?? []) {
      if (lane.waiting <= (hottest.length < hotLanesShown ? 0 : hottest.at(-1)!.lane.waiting)) continue
      hottest.push({ epoch, lane })
      hottest.sort((a, b) => b.lane.waiting - a.lane.waiting)
      if (hottest.length > hotLanesShown) hottest.pop()
    }
  }
  return hottest.map(({ epoch, lane }) => ({
    ...place(epoch),
    lane: revealRecords ? revealed(lane.name, ordering) : hashed(lane.name),
    waiting: lane.waiting
  }))
}

const place = (p: TopicPartition): TopicPartition => ({ topic: p.topic, partition: p.partition })

/** Those that wait for their retry, and those whose retry runs: it may fail as the attempt before, and nothing is better meanwhile. */
function* retrying({ live, waiting }: PartitionEpoch): Iterable<Slot> {
  yield* waiting
  // what was acknowledged only has to end
  for (const slot of live)
    if (slot.past !== undefined && slot.attempt > 1 && slot.state !== RecordState.done) yield slot
}

const oldestSlot = (
  epochs: ReadonlyArray<PartitionEpoch>,
  of: (epoch: PartitionEpoch) => Iterable<Slot>,
  sinceOf: (slot: Slot) => number = (slot) => slot.since
): Omit<HealthReason, "code" | "message"> | undefined => {
  let oldest: Slot | undefined
  let since = Number.POSITIVE_INFINITY
  let count = 0
  for (const epoch of epochs) {
    for (const slot of of(epoch)) {
      count++
      const began = sinceOf(slot)
      if (oldest !== undefined && began >= since) continue
      oldest = slot
      since = began
    }
  }
  return oldest === undefined
    ? undefined
    : { since, count, at: { topic: oldest.topic, partition: oldest.partition, offset: oldest.offset } }
}

const stuck = (
  view: Viewed,
  epochs: ReadonlyArray<PartitionEpoch>,
  ticks: number,
  add: (reason: Omit<HealthReason, "code">) => void
): void => {
  let oldest: Slot | undefined
  let count = 0
  for (const epoch of epochs) {
    for (const slot of epoch.live) {
      // nothing of one that waits for its turn runs
      if (slot.waitsForTurn || ticks - slot.ticks < view.settings.stuckAfter) continue
      count++
      if (oldest === undefined || slot.ticks < oldest.ticks) oldest = slot
    }
  }
  if (oldest === undefined) return
  add({
    message: `an attempt has been running for ${ticks - oldest.ticks} ms; what lies behind it cannot be committed`,
    since: oldest.startedAt,
    count,
    at: { topic: oldest.topic, partition: oldest.partition, offset: oldest.offset }
  })
}

const oldestOf = (epoch: PartitionEpoch): OldestRecord | undefined => {
  let oldest: Slot | undefined
  for (const slots of [epoch.live, epoch.waiting, epoch.sending, epoch.parked]) {
    for (const slot of slots) if (oldest === undefined || slot.seq < oldest.seq) oldest = slot
  }
  const buffered = epoch.backlog.oldest
  if (oldest !== undefined && (buffered === undefined || oldest.seq < buffered.seq)) {
    const inFlight = oldest.index >= 0
    return {
      offset: oldest.offset,
      state: shownState(oldest, inFlight),
      attempt: oldest.attempt,
      since: inFlight ? oldest.startedAt : oldest.since,
      receivedAt: oldest.receivedAt,
      firstFailedAt: oldest.past?.firstFailedAt,
      timestamp: oldest.timestamp
    }
  }
  return buffered === undefined
    ? undefined
    : {
        offset: buffered.record.offset,
        state: "buffered",
        attempt: 0,
        since: buffered.at,
        receivedAt: buffered.at,
        firstFailedAt: undefined,
        timestamp: buffered.record.timestamp
      }
}

const shownState = (slot: Slot, inFlight: boolean): OldestRecord["state"] => {
  const name = recordStateNames[slot.state]
  return inFlight
    ? name === "stopping"
      ? name
      : "running"
    : name === "waiting" || name === "sending" || name === "parked"
      ? name
      : "buffered"
}

/** By topic and partition, whatever their epoch: those of one that is over are in no epoch's records. */
export type ZombieCounts = ReadonlyMap<string, number>

export const zombieCounts = (views: ReadonlyArray<Pick<Viewed, "zombies">>): ZombieCounts => {
  const counts = new Map<string, number>()
  for (const { zombies } of views) {
    for (const slot of zombies) counts.set(keyOf(slot), (counts.get(keyOf(slot)) ?? 0) + 1)
  }
  return counts
}

const partitionOf = (epoch: PartitionEpoch, zombies: ZombieCounts): PartitionSnapshot | undefined => {
  if (epoch.state === "ended") return undefined
  const { tracker, unstarted } = epoch
  const start = epoch.start ?? 0n
  return {
    topic: epoch.topic,
    partition: epoch.partition,
    epoch: epoch.epoch,
    state: epoch.state,
    paused: pauseNames(epoch.pauses),
    committed: epoch.committed,
    committable: unstarted ? start : tracker.committable,
    delivered: unstarted ? start : tracker.delivered,
    end: epoch.end,
    done: tracker.done,
    behindGap: tracker.behindGap,
    doneUpTo: unstarted ? start : tracker.doneUpTo,
    doneBehindGap: tracker.runs(runsShown),
    gaps: tracker.gaps,
    mapBytes: tracker.behindGap > 0 || tracker.claiming ? epoch.map.size : 0,
    buffered: epoch.backlog.size,
    running: epoch.live.length,
    waiting: epoch.waiting.size,
    sending: epoch.sending.size,
    parked: epoch.parked.size,
    zombies: zombies.size === 0 ? 0 : (zombies.get(keyOf(epoch)) ?? 0),
    heldRecords: epoch.heldRecords,
    heldBytes: epoch.heldBytes,
    oldest: oldestOf(epoch)
  }
}

const waitingForTurn = (epochs: Iterable<PartitionEpoch>): number => {
  let count = 0
  for (const { live } of epochs) for (const slot of live) if (slot.waitsForTurn) count++
  return count
}

/** `zombies`: of this view and, where it is one of several members, of the others, whose partitions may have come to it. */
export const snapshotOf = (view: Viewed, now: number, zombies: ZombieCounts = zombieCounts([view])): Snapshot => {
  const { counters, permits, run, session, settings } = view
  return {
    name: view.name,
    groupId: session.settings.groupId,
    at: now,
    startedAt: view.startedAt,
    generation: session.generationUnsafe(),
    permits: {
      limit: permits.limit,
      used: permits.used,
      byZombies: permits.byZombies,
      waitingForTurn: run === undefined ? 0 : waitingForTurn(run.state.epochs.values())
    },
    held: {
      records: run?.held.records ?? 0,
      bytes: run?.held.bytes ?? 0,
      maxRecords: settings.maxHeldRecords,
      maxBytes: settings.maxHeldBytes
    },
    outcomes: {
      handled: counters.handled,
      skipped: counters.skipped,
      deadLettered: counters.deadLettered,
      filtered: counters.filtered,
      alreadyDone: counters.alreadyDone
    },
    attempts: counters.attempts,
    retries: counters.retries,
    interrupted: counters.interrupted,
    fenced: counters.fenced,
    released: counters.released,
    lostToRetention: counters.lostToRetention,
    unexpectedTransitions: counters.unexpected,
    handlerTime: { ...counters.handlerTime.percentiles(now), all: counters.handlerTime.all.distribution },
    failedTime: counters.failedTime.distribution,
    waitTime: { ...counters.waitTime.percentiles(now), all: counters.waitTime.all.distribution },
    commits: {
      ok: counters.commitsOk,
      failed: counters.commitsFailed,
      lastAt: counters.lastCommitAt,
      lastMillis: counters.lastCommitMillis,
      entries: { ...counters.commitEntries },
      time: counters.commitTime.distribution,
      size: counters.commitSize.distribution
    },
    rebalances: counters.rebalances,
    rebalanceCounts: { ...counters.rebalanceCounts },
    revokeTime: counters.revokeTime.distribution,
    hotLanes: run === undefined ? [] : hotLanes([...run.state.epochs.values()], settings),
    partitions: run === undefined ? [] : [...run.state.epochs.values()].flatMap((e) => partitionOf(e, zombies) ?? []),
    health: healthOf(view, now),
    members: []
  }
}
