/**
 * How long the pump goes on without a break, and what time it is for it.
 *
 * It yields to the event loop after 100 starts or 2 ms, counted over all its calls: each completion is a microtask that starts the next
 * record, and handlers whose promises are already resolved would starve timers, heartbeats and signals for ever. The clocks are looked at
 * once for eight starts, because a look costs as much as a start; where handlers compute, for each start of one call.
 *
 * Invariant, with its test in `test/suspects.test.ts`: attempts that end between two looks with a standstill of the event loop between them
 * are told to `Standstill`: one of them may have blocked it.
 */
import { lateMillis } from "./lateLooks.ts"
import { RecordState } from "./recordMachine.ts"
import type { Slot } from "./slot.ts"
import type { RunState } from "./state.ts"

const startsPerTurn = 100
const millisPerTurn = 2
/** starts of one call from one look at the clocks to the next, while handlers give way */
const mostStride = 8
/** so long between two looks of one call is long: somebody computes */
const computesMillis = 1

export class Turn {
  /** as of the last look: the time of day, and the clock that only rises */
  time = 0
  ticks = 0
  private readonly run: RunState
  private starts = 0
  private began = 0
  private entered = 0
  private lookAt = 0
  private stride = 1
  /** attempts that ended since the last look */
  private readonly recent: Array<Slot> = []

  constructor(run: RunState) {
    this.run = run
  }

  /** The event loop has turned. */
  begins(): void {
    this.starts = 0
  }

  /** A call begins, in this turn of the event loop or a later one: what passed since the last one is nobody's. */
  enters(): void {
    this.look()
    this.entered = this.ticks
    // after its first start
    this.lookAt = this.starts + 2
  }

  /** Before each start. */
  isOver(): boolean {
    const starts = ++this.starts
    if (starts > startsPerTurn) return true
    if (starts === 1) this.began = this.ticks
    if (starts >= this.lookAt) {
      const before = this.ticks
      this.look()
      this.stride = this.ticks - before >= computesMillis ? 1 : Math.min(mostStride, 2 * this.stride)
      this.lookAt = starts + this.stride
      if (this.ticks - this.entered >= millisPerTurn) return true
    }
    // the calls of one turn cannot be told from those of many
    return (starts & 7) === 0 && this.ticks - this.began >= millisPerTurn
  }

  ended(slot: Slot): void {
    this.recent.push(slot)
  }

  forget(): void {
    this.recent.length = 0
  }

  /** At the clocks: what time it is, and whether the event loop has stood still meanwhile. */
  look(): void {
    const { run } = this
    const before = this.ticks
    this.time = run.now()
    this.ticks = run.ticks()
    // clocks are told apart: the time of day can be set
    if (run.lateLooks !== undefined && this.ticks - before >= lateMillis) {
      run.lateLooks.add(this.time - (this.ticks - before), this.time, this.recent, run.epochs.values())
    }
    if (this.recent.length === 0) return
    const { standstill, suspects } = run
    // nothing may have been to be done for that long, too
    const stoodStill = this.ticks - before >= standstill.least && standstill.happened
    if (stoodStill || suspects.some) {
      for (const slot of this.recent) {
        if (stoodStill) standstill.add(slot)
        else if (slot.state === RecordState.done) suspects.clear(slot)
      }
    }
    this.recent.length = 0
  }
}
