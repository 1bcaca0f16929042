/**
 * Snapshot and health of a consumer with several members, put together from theirs.
 *
 * What counts is summed; what is a state of one member keeps the member's name, because whoever reads it has to find that one.
 */
import type { Health, HealthCode, HealthReason } from "../Health.ts"
import type { Snapshot } from "../Snapshot.ts"
import { LatencyWindow } from "./latencyWindow.ts"
import { distributionOf } from "./tally.ts"
import { snapshotOf, type Viewed, zombieCounts } from "./view.ts"

const rebalancesShown = 100
const hotLanesShown = 5

const worst = (statuses: ReadonlyArray<Health["status"]>): Health["status"] =>
  statuses.includes("down") ? "down" : statuses.includes("degraded") ? "degraded" : "ok"

/** One reason of one code, from each member that has it: the oldest speaks for all. */
const together = (
  having: ReadonlyArray<{ readonly name: string; readonly reason: HealthReason }>,
  count: number
): HealthReason => {
  const oldest = having.reduce((a, b) => (b.reason.since < a.reason.since ? b : a))
  const names = [...new Set(having.map(({ name }) => name))]
  const who =
    names.length === 1
      ? `1 of ${count} members (${oldest.name})`
      : `${names.length === count ? "all" : `${names.length} of`} ${count} members, the longest ${oldest.name}`
  return {
    ...oldest.reason,
    message: `${who}: ${oldest.reason.message}`,
    count: having.reduce((n, { reason }) => n + reason.count, 0),
    members: names
  }
}

/** The worst status; live and ready only when all members are. One reason a code. */
export const healthOfMembers = (members: ReadonlyArray<Pick<Snapshot, "name" | "health">>): Health => {
  const byCode = new Map<HealthCode, Array<{ readonly name: string; readonly reason: HealthReason }>>()
  for (const { health, name } of members) {
    for (const reason of health.reasons) {
      const having = byCode.get(reason.code)
      if (having === undefined) byCode.set(reason.code, [{ name, reason }])
      else having.push({ name, reason })
    }
  }
  // one has failed and ended the others with it: that these have no handler any more says nothing new
  if (byCode.has("failed") || byCode.has("committerDead")) byCode.delete("idle")
  return {
    status: worst(members.map(({ health }) => health.status)),
    live: members.every(({ health }) => health.live),
    ready: members.every(({ health }) => health.ready),
    reasons: [...byCode.values()].map((having) => together(having, members.length))
  }
}

export const snapshotOfMembers = (name: string, views: ReadonlyArray<Viewed>, now: number): Snapshot => {
  const zombies = zombieCounts(views)
  const members = views.map((view) => snapshotOf(view, now, zombies))
  const sum = (of: (snapshot: Snapshot) => number): number => members.reduce((n, member) => n + of(member), 0)
  const [first] = members
  const limits = members.map(({ permits }) => permits.limit)
  const lastCommit = members
    .map(({ commits }) => commits)
    .reduce((a, b) => ((b.lastAt ?? -Infinity) > (a.lastAt ?? -Infinity) ? b : a))
  return {
    name,
    groupId: first!.groupId,
    at: now,
    startedAt: Math.min(...members.map(({ startedAt }) => startedAt)),
    generation: Math.max(...members.map(({ generation }) => generation)),
    permits: {
      limit: limits.reduce((a, b) => (a === "unbounded" || b === "unbounded" ? "unbounded" : a + b)),
      used: sum(({ permits }) => permits.used),
      byZombies: sum(({ permits }) => permits.byZombies),
      waitingForTurn: sum(({ permits }) => permits.waitingForTurn)
    },
    held: {
      records: sum(({ held }) => held.records),
      bytes: sum(({ held }) => held.bytes),
      maxRecords: sum(({ held }) => held.maxRecords),
      maxBytes: sum(({ held }) => held.maxBytes)
    },
    outcomes: {
      handled: sum(({ outcomes }) => outcomes.handled),
      skipped: sum(({ outcomes }) => outcomes.skipped),
      deadLettered: sum(({ outcomes }) => outcomes.deadLettered),
      filtered: sum(({ outcomes }) => outcomes.filtered),
      alreadyDone: sum(({ outcomes }) => outcomes.alreadyDone)
    },
    attempts: sum(({ attempts }) => attempts),
    retries: sum(({ retries }) => retries),
    interrupted: sum(({ interrupted }) => interrupted),
    fenced: sum(({ fenced }) => fenced),
    released: sum(({ released }) => released),
    lostToRetention: members.reduce((n, { lostToRetention }) => n + lostToRetention, 0n),
    unexpectedTransitions: sum(({ unexpectedTransitions }) => unexpectedTransitions),
    handlerTime: {
      ...LatencyWindow.percentilesOf(
        views.map(({ counters }) => counters.handlerTime),
        now
      ),
      all: distributionOf(members.map(({ handlerTime }) => handlerTime.all))
    },
    failedTime: distributionOf(members.map(({ failedTime }) => failedTime)),
    waitTime: {
      ...LatencyWindow.percentilesOf(
        views.map(({ counters }) => counters.waitTime),
        now
      ),
      all: distributionOf(members.map(({ waitTime }) => waitTime.all))
    },
    commits: {
      ok: sum(({ commits }) => commits.ok),
      failed: sum(({ commits }) => commits.failed),
      lastAt: lastCommit.lastAt,
      lastMillis: lastCommit.lastMillis,
      entries: {
        committed: sum(({ commits }) => commits.entries.committed),
        retriable: sum(({ commits }) => commits.entries.retriable),
        deferred: sum(({ commits }) => commits.entries.deferred),
        stale: sum(({ commits }) => commits.entries.stale),
        rejected: sum(({ commits }) => commits.entries.rejected)
      },
      time: distributionOf(members.map(({ commits }) => commits.time)),
      size: distributionOf(members.map(({ commits }) => commits.size))
    },
    rebalances: members
      .flatMap(({ rebalances }) => rebalances)
      .sort((a, b) => a.at - b.at)
      .slice(-rebalancesShown),
    rebalanceCounts: {
      assigned: sum(({ rebalanceCounts }) => rebalanceCounts.assigned),
      revoked: sum(({ rebalanceCounts }) => rebalanceCounts.revoked),
      lost: sum(({ rebalanceCounts }) => rebalanceCounts.lost)
    },
    revokeTime: distributionOf(members.map(({ revokeTime }) => revokeTime)),
    hotLanes: members
      .flatMap(({ hotLanes }) => hotLanes)
      .sort((a, b) => b.waiting - a.waiting)
      .slice(0, hotLanesShown),
    partitions: members.flatMap(({ partitions }) => partitions),
    health: healthOfMembers(members),
    members
  }
}
