/**
 * What a consumer says of itself, against what was seen of it from outside.
 */
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type { AttemptChecker } from "./attemptChecker.ts"
import { IdleChecker } from "./idleChecker.ts"
import type { Judge } from "./judge.ts"
import type { Owner } from "./owner.ts"

export class SnapshotChecker {
  private readonly judge: Judge
  private readonly attempts: AttemptChecker
  private readonly idleness: IdleChecker

  constructor(judge: Judge, attempts: AttemptChecker) {
    this.judge = judge
    this.attempts = attempts
    this.idleness = new IdleChecker(judge)
  }

  look(owner: Owner, snapshot: Snapshot): void {
    const { judge } = this
    if (snapshot.unexpectedTransitions !== 0) judge.violation("table", `${owner.name}: unexpected transitions`)
    this.attempts.counted(owner, snapshot)
    if (snapshot.permits.used < owner.running.size) {
      judge.violation("I5", `${owner.name} tells of ${snapshot.permits.used} permits, and ${owner.running.size} run`)
    }
    for (const p of snapshot.partitions) {
      if (p.heldRecords >= owner.mostHeld)
        judge.violation("I6", `${owner.name} holds ${p.heldRecords} of ${p.topic}/${p.partition}`)
    }
    this.idleness.look(owner, snapshot)
    for (const p of snapshot.partitions) {
      const epoch = owner.epochs.get(p.epoch)
      // one that is parked beyond the limit goes on at once
      if (epoch?.state !== "open" || epoch.paused || owner.paused || owner.closing !== undefined) continue
      if (p.parked > epoch.parkLimit)
        judge.violation("R20", `${owner.name} has ${p.parked} of ${epoch.key} parked, of at most ${epoch.parkLimit}`)
    }
    const held = snapshot.partitions.reduce((sum, p) => sum + p.heldRecords, 0)
    if (held > snapshot.held.records || (held < snapshot.held.records && !judge.isEnding(owner))) {
      judge.violation("I6", `${owner.name} holds ${snapshot.held.records}, and its partitions ${held}`)
    }
  }
}
