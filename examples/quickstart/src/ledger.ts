/**
 * A file that the handlers write: one line for each record that was handled to its end. It knows nothing of commits, so it can be held
 * against them.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"

export interface Ledger {
  readonly write: (record: { readonly topic: string; readonly partition: number; readonly offset: bigint }) => void
  /** Over all runs that wrote to the file. */
  readonly read: () => {
    /** Lines. */
    readonly handlings: number
    /** Different ones. */
    readonly records: number
    /** Different ones of a partition, below an offset. */
    readonly below: (partition: number, offset: bigint) => number
  }
}

export const openLedger = (file: string): Effect.Effect<Ledger, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => openSync(file, "a")),
      (fd) => Effect.sync(() => closeSync(fd))
    ),
    (fd) => ({
      // synchronous and appended in one call: an interruption comes before the line or after it
      write: ({ offset, partition, topic }) => void writeSync(fd, `${topic}/${partition}/${offset}\n`),
      read: () => {
        const lines = readFileSync(file, "utf8").split("\n").slice(0, -1)
        const records = [...new Set(lines)].map((line) => line.split("/").slice(1).map(Number))
        return {
          handlings: lines.length,
          records: records.length,
          below: (partition, limit) => records.filter(([p, offset]) => p === partition && offset! < limit).length
        }
      }
    })
  )
