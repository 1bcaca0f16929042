/**
 * The times of `Handler.timeout`: one timer for all attempts, because a timer for each would cost more than the attempt.
 *
 * Attempts with the same limit end in the order in which they began, so a list for each limit is enough. Entries of attempts that
 * have ended are thrown out when they are the larger part of a list.
 */
import { RecordEvent, RecordState } from "./recordMachine.ts"
import type { Slot } from "./slot.ts"
import type { RunState } from "./state.ts"

interface Watched {
  readonly slot: Slot
  readonly until: number
}

export class Sweeper {
  private readonly run: RunState
  private readonly after: (millis: number, then: () => void) => void
  private readonly leaveBehind: (slot: Slot) => void
  private readonly lists = new Map<number, Array<Watched>>()
  private armedFor = Number.POSITIVE_INFINITY

  constructor(run: RunState, after: (millis: number, then: () => void) => void, leaveBehind: (slot: Slot) => void) {
    this.run = run
    this.after = after
    this.leaveBehind = leaveBehind
  }

  watch(slot: Slot, limit: number): void {
    this.add(limit, { slot, until: this.run.ticks() + limit })
  }

  private add(limit: number, watched: Watched): void {
    let list = this.lists.get(limit)
    if (list === undefined) this.lists.set(limit, (list = []))
    list.push(watched)
    if (list.length > 1024 && list.length > 4 * (this.run.permits.used + 1)) {
      this.lists.set(
        limit,
        list.filter(({ slot }) => running(slot))
      )
    }
    this.arm(watched.until)
  }

  private arm(until: number): void {
    if (until >= this.armedFor) return
    this.armedFor = until
    this.after(Math.max(0, until - this.run.ticks()), () => {
      if (this.armedFor === until) this.sweep()
    })
  }

  private sweep(): void {
    this.armedFor = Number.POSITIVE_INFINITY
    const now = this.run.ticks()
    let next = Number.POSITIVE_INFINITY
    const late: Array<Slot> = []
    for (const list of this.lists.values()) {
      let i = 0
      while (i < list.length && (list[i]!.until <= now || !running(list[i]!.slot))) {
        if (running(list[i]!.slot)) late.push(list[i]!.slot)
        i++
      }
      if (i > 0) list.splice(0, i)
      if (list.length > 0) next = Math.min(next, list[0]!.until)
    }
    if (next !== Number.POSITIVE_INFINITY) this.arm(next)
    // the end of one may end another
    for (const slot of late) if (running(slot)) this.cut(slot)
  }

  private cut(slot: Slot): void {
    this.run.record(slot, RecordEvent.timeout)
    slot.cut = "timeout"
    this.run.counters.interrupted++
    slot.fiber?.interruptUnsafe()
    if (slot.state !== RecordState.stopping) return
    this.after(this.run.settings.interruptGrace, () => {
      if (slot.state === RecordState.stopping && slot.cut === "timeout") this.leaveBehind(slot)
    })
  }
}

/** the handler itself runs: not acknowledged, not being decided about, not interrupted */
const running = (slot: Slot): boolean => slot.state === RecordState.running && slot.index >= 0 && !slot.deciding
