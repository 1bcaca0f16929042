/**
 * The right to run handlers: a `Semaphore`, taken from in blocks, so that a record does not pay for an effect.
 *
 * A block is at most an eighth of the limit. Permits that are free when nothing more can be started are given back, and after
 * the limit was lowered each record that ends gives its own back, until no more are held than the new limit (I5).
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** what "unbounded" is to a semaphore */
const unboundedPermits = Number.MAX_SAFE_INTEGER

export class Permits {
  readonly semaphore: Semaphore.Semaphore
  limit: number | "unbounded"
  /** taken from the semaphore */
  held = 0
  /** of these, with a fiber */
  used = 0
  byZombies = 0

  constructor(limit: number | "unbounded") {
    this.limit = limit
    this.semaphore = Semaphore.makeUnsafe(limit === "unbounded" ? unboundedPermits : limit)
  }

  /** One for a fiber, if there is one. */
  acquire(): boolean {
    if (this.held === this.used && !this.takeBlock()) return false
    this.used++
    return true
  }

  /** The fiber that had it has ended. */
  release(): void {
    this.used--
    if (this.limit !== "unbounded" && this.held > this.limit) this.giveBack(1)
  }

  /** Nothing more to start: others may have what is free. */
  rest(): void {
    const free = this.held - this.used
    if (free > 0) this.giveBack(free)
  }

  resize(limit: number | "unbounded"): void {
    this.limit = limit
    this.rest()
    Effect.runSync(this.semaphore.resize(limit === "unbounded" ? unboundedPermits : limit))
  }

  private giveBack(n: number): void {
    this.held -= n
    Effect.runSync(this.semaphore.release(n))
  }

  private takeBlock(): boolean {
    const block = this.limit === "unbounded" ? 1024 : Math.max(1, this.limit >> 3)
    for (let n = block; n >= 1; n >>= 1) {
      if (Effect.runSync(this.semaphore.takeIfAvailable(n))) {
        this.held += n
        return true
      }
    }
    return false
  }
}
