/**
 * A view into the engine's state machines, for simulators and tests.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { EpochPartition } from "./ConsumerSession.ts"
import { commitRows } from "./internal/commitMachine.ts"
import { partitionRows } from "./internal/partitionMachine.ts"
import { recordRows } from "./internal/recordMachine.ts"

/**
 * Which of the engine's state machines speaks: a partition's epoch, a record, or the commit of a partition.
 *
 * @since 0.1.0
 * @category models
 */
export type Machine = "partition" | "record" | "commit"

/**
 * Called synchronously, from inside the engine: an observer must neither throw nor call back.
 *
 * @since 0.1.0
 * @category models
 */
export interface Diagnostics {
  /** A row of a machine's table was taken. Rows are named as in the tables of `docs/state-machines.md`. */
  readonly transition: (machine: Machine, row: string, at: EpochPartition) => void
  /** An event that the table does not have for this state. In production it is ignored, counted, and logged once. */
  readonly unexpected: (machine: Machine, state: string, event: string, at: EpochPartition) => void
}

/**
 * The observer that consumers report to. Default: none, which costs nothing.
 *
 * @since 0.1.0
 * @category references
 */
export const Diagnostics = Context.Reference<Diagnostics | undefined>("@concurrent-kafka/core/Diagnostics", {
  defaultValue: () => undefined
})

/**
 * All rows of each machine's table, so that a simulator can tell which of them it has never seen taken.
 *
 * @since 0.1.0
 * @category constants
 */
export const machineRows: Readonly<Record<Machine, ReadonlyArray<string>>> = {
  partition: partitionRows,
  record: recordRows,
  commit: commitRows
}
