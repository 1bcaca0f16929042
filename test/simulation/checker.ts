/**
 * What must hold at each step, checked from outside of the engine: on what sessions and handlers were told, on what they
 * answered, and on what the broker stored. A violation ends the history; it is kept, not thrown, because most of this is
 * called from inside of the engine, which would take a throw for a defect of its own.
 */
import { AttemptChecker } from "./attemptChecker.ts"
import { CommitChecker } from "./commitChecker.ts"
import { Judge } from "./judge.ts"
import type { Owner } from "./owner.ts"
import { SessionChecker } from "./sessionChecker.ts"
import { SnapshotChecker } from "./snapshotChecker.ts"

export class Checker extends Judge {
  readonly commits = new CommitChecker(this)
  readonly sessions = new SessionChecker(this, this.commits)
  readonly attempts = new AttemptChecker(this)
  readonly snapshots = new SnapshotChecker(this, this.attempts)

  constructor(...args: ConstructorParameters<typeof Judge>) {
    super(...args)
    this.attempts.interrupted = (attempt) => this.sessions.interrupted(attempt)
  }

  /** Everything that a clock decides. */
  watch(owner: Owner): void {
    this.attempts.watch(owner)
    this.sessions.watch(owner)
    const { stoppedAt } = owner.life
    if (stoppedAt !== undefined && this.world.now - stoppedAt > owner.shutdownTimeout + 60_000) {
      owner.life.stoppedAt = undefined
      this.violation("P26", `${owner.name} was told to stop and runs on`)
    }
  }
}
