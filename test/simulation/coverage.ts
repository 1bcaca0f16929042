/**
 * What the histories have reached: the rows of the engine's state machines, and everything that was done to it.
 */
import type { Machine } from "@concurrent-kafka/core/Diagnostics"

/** The rows that there are, by machine; the engine's tables are private to it, so they are read from its source. */
export type Counts = Record<string, number>

export class Coverage {
  readonly counts: Counts = {}

  row(machine: Machine, row: string): void {
    this.count(`${machine} ${row}`)
  }

  count(what: string, times = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + times
  }
}
