/** Snapshots to draw, made of what a test says and of nothing else. */
import type { PartitionSnapshot, Snapshot } from "@concurrent-kafka/core/Snapshot"

const none = { bounds: [], counts: [0], sum: 0 }
export const now = Date.UTC(2026, 0, 2, 3, 4, 5)

export const partition = (number: number, some: Partial<PartitionSnapshot> = {}): PartitionSnapshot => ({
  topic: "orders",
  partition: number,
  epoch: number + 1,
  state: "open",
  paused: [],
  committed: 0n,
  committable: 0n,
  delivered: 0n,
  end: 0n,
  done: 0,
  behindGap: 0,
  doneUpTo: some.committable ?? 0n,
  doneBehindGap: [],
  gaps: 0,
  mapBytes: 0,
  buffered: 0,
  running: 0,
  waiting: 0,
  sending: 0,
  parked: 0,
  zombies: 0,
  heldRecords: 0,
  heldBytes: 0,
  oldest: undefined,
  ...some
})

export const snapshot = (some: Partial<Snapshot> = {}): Snapshot => ({
  name: "shipping",
  groupId: "shipping",
  at: now,
  startedAt: now - 62_000,
  generation: 3,
  permits: { limit: 50, used: 0, byZombies: 0, waitingForTurn: 0 },
  held: { records: 0, bytes: 0, maxRecords: 20_000, maxBytes: 32 * 1024 * 1024 },
  outcomes: { handled: 0, skipped: 0, deadLettered: 0, filtered: 0, alreadyDone: 0 },
  attempts: 0,
  retries: 0,
  interrupted: 0,
  fenced: 0,
  released: 0,
  lostToRetention: 0n,
  unexpectedTransitions: 0,
  handlerTime: { p50: 0, p99: 0, all: none },
  failedTime: none,
  waitTime: { p50: 0, p99: 0, all: none },
  commits: {
    ok: 0,
    failed: 0,
    lastAt: undefined,
    lastMillis: undefined,
    entries: { committed: 0, retriable: 0, deferred: 0, stale: 0, rejected: 0 },
    time: none,
    size: none
  },
  rebalances: [],
  rebalanceCounts: { assigned: 1, revoked: 0, lost: 0 },
  revokeTime: none,
  hotLanes: [],
  partitions: [],
  health: { status: "ok", live: true, ready: true, reasons: [] },
  members: [],
  ...some
})
