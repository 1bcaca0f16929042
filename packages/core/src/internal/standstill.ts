/**
 * Whether the event loop stood still for so long that the session may have been lost by it: a fiber that only sleeps is late then.
 */
import * as Effect from "effect/Effect"
import type { RunState } from "./state.ts"

export class Standstill {
  private readonly run: RunState
  private readonly beat: number
  private lastBeat: number
  private lastAt = Number.NEGATIVE_INFINITY

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
        this.look()
        this.lastBeat = this.run.ticks()
      })
    )
  })

  /** Now, or in the time that a client may need to learn that its session is lost. */
  get happened(): boolean {
    this.look()
    return this.run.ticks() - this.lastAt <= this.run.session.settings.sessionTimeout
  }

  private look(): void {
    const now = this.run.ticks()
    if (now - this.lastBeat >= this.run.session.settings.sessionTimeout / 2) this.lastAt = now
  }
}
