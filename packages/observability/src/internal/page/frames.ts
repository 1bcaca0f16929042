/** Frames from snapshots: of every consumer a summary, of the one that is looked at everything. */
import type { HealthReason } from "@concurrent-kafka/core/Health"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Delays } from "../loopMonitor.ts"
import {
  consumersShown,
  type Detail,
  type Frame,
  membersShown,
  namesShown,
  type Point,
  type Reason,
  rebalancesShown,
  shown,
  type Summary,
  type Totals
} from "./frame.ts"
import { once } from "../series.ts"
import { lagOf, stripsOf } from "./strips.ts"

const totalsOf = (snapshot: Snapshot): Totals => {
  const partitions = once(snapshot.partitions)
  const totals = {
    lag: 0,
    unknown: 0,
    ahead: 0,
    gaps: 0,
    running: 0,
    buffered: 0,
    waiting: 0,
    sending: 0,
    parked: 0,
    zombies: 0
  }
  for (const p of partitions) {
    const lag = lagOf(p)
    if (lag === undefined) totals.unknown++
    else totals.lag += lag
    if (p.end !== undefined && p.end > p.delivered) totals.ahead += Number(p.end - p.delivered)
    totals.gaps += p.gaps
    totals.running += p.running
    totals.buffered += p.buffered
    totals.waiting += p.waiting
    totals.sending += p.sending
    totals.parked += p.parked
    totals.zombies += p.zombies
  }
  return { partitions: partitions.length, ...totals }
}

/** What is known of it: a line at 0 would say that there is none. */
const drawnLag = (snapshot: Snapshot): number | null => {
  const { lag, partitions, unknown } = totalsOf(snapshot)
  return partitions > 0 && unknown === partitions ? null : lag
}

const doneOf = ({ outcomes }: Snapshot): number => Object.values(outcomes).reduce((n, count) => n + count, 0)

export const pointOf = (snapshot: Snapshot, seq: number): Point => ({
  seq,
  at: snapshot.at,
  done: doneOf(snapshot),
  failed: snapshot.outcomes.skipped + snapshot.outcomes.deadLettered,
  retries: snapshot.retries,
  p50: snapshot.handlerTime.p50,
  p99: snapshot.handlerTime.p99,
  wait: snapshot.waitTime.p99,
  lag: drawnLag(snapshot)
})

const reasonOf = ({ at, code, count, members, message, since }: HealthReason): Reason => ({
  code,
  message: shown(message),
  since,
  count,
  ...(at === undefined
    ? {}
    : {
        at: {
          topic: shown(at.topic),
          partition: at.partition,
          ...(at.offset === undefined ? {} : { offset: String(at.offset) })
        }
      }),
  ...(members === undefined ? {} : { members: members.slice(0, namesShown).map(shown) })
})

const summaryOf = (snapshot: Snapshot): Summary => ({
  name: snapshot.name,
  group: shown(snapshot.groupId),
  status: snapshot.health.status,
  live: snapshot.health.live,
  ready: snapshot.health.ready,
  codes: [...new Set(snapshot.health.reasons.map(({ code }) => code))],
  permits: {
    limit: snapshot.permits.limit,
    used: snapshot.permits.used,
    byZombies: snapshot.permits.byZombies
  },
  totals: totalsOf(snapshot),
  done: doneOf(snapshot)
})

const detailOf = (snapshot: Snapshot, find: string): Detail => {
  const { commits, health } = snapshot
  return {
    name: snapshot.name,
    startedAt: snapshot.startedAt,
    generation: snapshot.generation,
    reasons: health.reasons.map(reasonOf),
    paused:
      health.reasons.some(({ code }) => code === "paused") &&
      snapshot.partitions.every(({ paused }) => paused.includes("user")),
    held: snapshot.held,
    outcomes: snapshot.outcomes,
    attempts: snapshot.attempts,
    retries: snapshot.retries,
    interrupted: snapshot.interrupted,
    fenced: snapshot.fenced,
    released: snapshot.released,
    lostToRetention: Number(snapshot.lostToRetention),
    unexpected: snapshot.unexpectedTransitions,
    handlerTime: { p50: snapshot.handlerTime.p50, p99: snapshot.handlerTime.p99 },
    waitTime: { p50: snapshot.waitTime.p50, p99: snapshot.waitTime.p99 },
    commits: {
      ok: commits.ok,
      failed: commits.failed,
      ...(commits.lastAt === undefined ? {} : { lastAt: commits.lastAt }),
      ...(commits.lastMillis === undefined ? {} : { lastMillis: commits.lastMillis })
    },
    rebalances: snapshot.rebalances.slice(-rebalancesShown),
    rebalanceCounts: snapshot.rebalanceCounts,
    hotLanes: snapshot.hotLanes.map(({ lane, partition, topic, waiting }) => ({
      topic: shown(topic),
      partition,
      lane: shown(lane),
      waiting
    })),
    sessions: Math.max(1, snapshot.members.length),
    members: snapshot.members.slice(0, membersShown).map(({ health, name, partitions }) => ({
      name: shown(name),
      status: health.status,
      partitions: partitions.length
    })),
    ...stripsOf(once(snapshot.partitions), snapshot.at, find)
  }
}

/** `name`: of the consumer that is looked at; the first one where there is none of this name. */
export const frameOf = (
  snapshots: ReadonlyArray<Snapshot>,
  loop: Delays | undefined,
  name: string,
  find: string
): Frame => {
  const selected = snapshots.find((snapshot) => snapshot.name === name) ?? snapshots[0]
  const listed = snapshots.slice(0, consumersShown)
  // it is asked for by name, and may be none of the first
  if (selected !== undefined && !listed.includes(selected)) listed.splice(-1, 1, selected)
  return {
    consumers: listed.map(summaryOf),
    more: Math.max(0, snapshots.length - consumersShown),
    detail: selected === undefined ? undefined : detailOf(selected, find),
    loop: loop === undefined ? undefined : { p50: loop.p50, p99: loop.p99, max: loop.max }
  }
}
