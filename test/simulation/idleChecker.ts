/**
 * What does not happen although it could: a record that nothing holds back and that is not started, a permit that nobody uses, a
 * turn that nobody has, a partition that stands still behind what is parked, a record that stays parked when its time is over. Whoever
 * looks at rest sees nothing of the kind, except while it goes on; here it has to be there for a while, of the time that the process
 * was awake, each time that somebody looks.
 */
import type { PartitionSnapshot, Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { Judge } from "./judge.ts"
import { type EpochTruth, laneOf, type Owner } from "./owner.ts"
import { keyOf, type Rec } from "./truth.ts"

const patience = 2_000

/** so many records of a partition are looked at */
const depth = 60

export class IdleChecker {
  private readonly judge: Judge

  constructor(judge: Judge) {
    this.judge = judge
  }

  look(owner: Owner, snapshot: Snapshot): void {
    const { realm } = owner
    const now = realm.awakeSince(0, 0, this.judge.world.now)
    const { limit, used, waitingForTurn } = snapshot.permits
    const goesOn = owner.closing === undefined && !owner.paused
    // I5: only handlers that run, and what works for them, use permits; and those that wait for their turn
    if (goesOn && used > owner.running.size + owner.busy + waitingForTurn) {
      owner.unused ??= now
      if (now - owner.unused > patience) {
        owner.unused = undefined
        this.judge.violation("I5", `${owner.name} uses ${used} permits for ${owner.running.size} handlers`)
      }
    } else owner.unused = undefined

    // those that wait do so for one another: while nobody runs, it is somebody's turn, unless his partition is going away
    if (waitingForTurn > 0) this.judge.happened("waits for its turn")
    const stay = owner.closing === undefined && snapshot.partitions.every(({ state }) => state === "open")
    if (waitingForTurn > 0 && stay && owner.running.size === 0) {
      owner.turnless ??= now
      if (now - owner.turnless > patience) {
        owner.turnless = undefined
        this.judge.violation("D38", `${owner.name} lets ${waitingForTurn} wait for a turn that nobody has`)
      }
    } else owner.turnless = undefined

    const overdue = new Map<EpochTruth, number>()
    for (const p of owner.closing === undefined ? snapshot.partitions : []) {
      const epoch = owner.epochs.get(p.epoch)
      if (epoch?.state !== "open" || p.state !== "open" || p.parked === 0 || epoch.mayEnd !== undefined) continue
      let inTime = 0
      for (const until of epoch.parkedUntil.values()) if (until >= this.judge.world.now) inTime++
      if (p.parked <= inTime) continue
      const since = owner.overdue.get(epoch) ?? now
      overdue.set(epoch, since)
      if (now - since > patience)
        this.judge.violation(
          "R20",
          `${epoch.key}#${epoch.epoch} has ${p.parked} parked, and the time of ${inTime} is not over`
        )
    }
    owner.overdue = overdue

    const idle = new Map<Rec, number>()
    const standing = new Map<EpochTruth, number>()
    const isFree = goesOn && used < owner.limit && (limit === "unbounded" || used < limit)
    for (const p of isFree ? snapshot.partitions : []) {
      const epoch = owner.epochs.get(p.epoch)
      if (epoch?.state !== "open" || epoch.paused || epoch.mayEnd !== undefined || p.state !== "open") continue
      const where = `${epoch.key}#${epoch.epoch}`
      for (const rec of this.startable(owner, epoch, p)) {
        // begun before, in an epoch that was lost: it may be one of those that wait for one another
        if (waitingForTurn > 0 && rec.attempts > 0) continue
        const since = owner.idle.get(rec) ?? now
        idle.set(rec, since)
        if (now - since > patience)
          this.judge.violation("I4", `nothing holds ${rec.offset} of ${where} back, and it waits`)
      }
      if (!this.standsStill(owner, epoch, p)) continue
      const since = owner.standing.get(epoch) ?? now
      standing.set(epoch, since)
      if (now - since > patience)
        this.judge.violation("R20", `${where} stands still behind ${p.parked} that are parked (${p.paused.join()})`)
    }
    owner.idle = idle
    owner.standing = standing
  }

  /** Those that could have been started: nobody of their lane is in front of them, or runs. */
  private startable(owner: Owner, epoch: EpochTruth, p: PartitionSnapshot): ReadonlyArray<Rec> {
    if (p.buffered === 0 || p.paused.some((reason) => reason !== "full")) return []
    const { delivered } = epoch
    const isDone = (rec: Rec) => rec.doneIn.has(epoch.epoch) || (rec.filter === "unwanted" && owner.filters)
    while (epoch.surelyFrom < delivered.length && epoch.certain.has(delivered[epoch.surelyFrom]!)) epoch.surelyFrom++
    const from = epoch.surelyFrom
    const taken = new Set<string>()
    for (const { rec } of owner.running) {
      const lane = laneOf(owner, rec)
      if (lane !== undefined && keyOf(rec) === epoch.key) taken.add(lane)
    }
    const found: Array<Rec> = []
    const to = Math.min(delivered.length, from + Math.min(depth, owner.maxUncommitted))
    for (let i = from; i < to; i++) {
      const rec = delivered[i]!
      if (epoch.certain.has(rec)) continue
      const lane = laneOf(owner, rec)
      if (lane !== undefined && taken.has(lane)) continue
      // one that may be done, or not: nobody knows whether it came in time, and what became of it
      if (lane !== undefined) taken.add(lane)
      if (isDone(rec)) continue
      // it may have failed before it could be started
      const failsEarly = rec.unorderable || (rec.filter === "throws" && owner.filters)
      if (!failsEarly && !epoch.started.has(rec)) found.push(rec)
    }
    return found
  }

  private standsStill(owner: Owner, epoch: EpochTruth, p: PartitionSnapshot): boolean {
    if (p.parked === 0 || p.running + p.waiting + p.sending > 0 || owner.busy > 0) return false
    if (!p.paused.some((reason) => reason === "uncommitted" || reason === "map")) return false
    for (const { rec } of owner.running) if (keyOf(rec) === epoch.key) return false
    return true
  }
}
