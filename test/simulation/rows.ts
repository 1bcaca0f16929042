/**
 * Which rows of the engine's tables no history can take, each with its reason, and which none has taken.
 */
import { type Machine, machineRows } from "@concurrent-kafka/core/Diagnostics"
import type { Counts } from "./coverage.ts"

/** What cannot be reached through the engine. */
export const unreachable: Readonly<Record<string, string>> = {
  "record R13": "a guard: the library interrupts only where the epoch ends; tested on the machine itself"
}

/** What needs so much at once that few histories have it; some must. */
const seldom = ["feature waits for its turn"]

/** The rows that no history has taken, and what else none has. */
export const missingRows = (counts: Counts): Array<string> => [
  ...seldom.filter((name) => counts[name] === undefined),
  ...(Object.entries(machineRows) as Array<[Machine, ReadonlyArray<string>]>).flatMap(([machine, rows]) =>
    rows
      .map((row) => `${machine} ${row}`)
      .filter((name) => counts[name] === undefined && unreachable[name] === undefined)
  )
]
