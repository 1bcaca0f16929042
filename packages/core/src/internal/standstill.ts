/**
 * Whether the event loop stood still for so long that the session may have been lost by it: a fiber that only sleeps is late then.
 */
import * as Effect from "effect/Effect"
import type { PartitionEpoch } from "./epoch.ts"
import type { Slot } from "./slot.ts"
import type { RunState } from "./state.ts"

export class Standstill {
  private readonly run: RunState
  private readonly beat: number
  private lastBeat: number
  private lastAt = Number.NEGATIVE_INFINITY
  /** the beat that was late */
  private lateAfter = Number.NaN
  /** attempts that ended in the newest one: who blocks and then returns is not running any more when the session is seen to be lost */
  private readonly ended = new Set<Slot>()

  constructor(run: RunState) {
    this.run = run
    this.beat = Math.max(1, Math.floor(run.session.settings.sessionTimeout / 8))
    this.lastBeat = run.ticks()
  }

  /** Runs as long as the consumer does. */
  readonly watch: Effect.Effect<never> = Effect.suspend(() => {
    this.lastBeat = this.run.ticks()
    return Effect.forever(
      Effect.map(Effect.sleep(this.beat), () => {
        if (!this.happened) this.ended.clear()
        this.lastBeat = this.run.ticks()
      })
    )
  })

  /** Now, or in the time that a client may need to learn that its session is lost. */
  get happened(): boolean {
    this.look()
    return this.run.ticks() - this.lastAt <= this.run.session.settings.sessionTimeout
  }

  /** How long it has to stand still, in milliseconds, to be one. */
  get least(): number {
    return this.run.session.settings.sessionTimeout / 2
  }

  /** The attempt ended since the last look at the clock, which was this long ago or longer. */
  add(slot: Slot): void {
    this.ended.add(slot)
  }

  /** Whose next delivery of this epoch's records may do it again. */
  during(epoch: PartitionEpoch): ReadonlySet<Slot> {
    const those = new Set(epoch.live)
    for (const slot of this.ended) {
      if (slot.at === epoch && (epoch.committed === undefined || slot.offset >= epoch.committed)) those.add(slot)
    }
    return those
  }

  private look(): void {
    const now = this.run.ticks()
    if (now - this.lastBeat < this.least) return
    this.lastAt = now
    if (this.lateAfter === this.lastBeat) return
    this.lateAfter = this.lastBeat
    this.ended.clear()
  }
}
