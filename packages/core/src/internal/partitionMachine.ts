/**
 * The life of one partition in one epoch, as a table. Pure: what is done at a transition is `rebalance.ts`'s and
 * `intake.ts`'s business.
 *
 * States: `opening`, the start is being established; `open`, records start; `holding`, a revoke is announced, nothing
 * starts, what runs may finish; `flushing`, the drain is over and a commit is under way; `suspended`, flushed under an eager
 * protocol, nobody knows yet who owns the partition; `draining`, like holding, because the consumer closes; `ended`.
 *
 * Invariants, each with its test in `test/machines.test.ts`:
 * - every state reaches `ended` by `lost`, `gone` and `failed` in one step;
 * - nothing leaves `ended`;
 * - only an eager revoke leads to `suspended`.
 */
export type PartitionState = "opening" | "open" | "holding" | "flushing" | "suspended" | "draining" | "ended"

export type EndReason = "revoked" | "lost" | "closed" | "sought" | "reset" | "gone" | "failed"

export type PartitionEvent =
  | "startKnown"
  | "startFailed"
  | "revokeExact"
  | "revokeEager"
  | "drained"
  | "drainClock"
  | "flushed"
  | "retained"
  | "reassigned"
  | "lost"
  | "closeDrain"
  | "closeInterrupt"
  | "suspendClock"
  | "seek"
  | "belowStart"
  | "beyondEnd"
  | "gone"
  | "failed"
  | "chunk"
  | "outcome"

/** What the table needs to know beside the state. */
export interface PartitionFlags {
  /** the revoke under way is exact */
  readonly exact: boolean
  /** the consumer closes */
  readonly closing: boolean
  /** the start was not known when the epoch was suspended */
  readonly unstarted: boolean
}

export interface PartitionStep {
  /** the row's name; empty for what happens all the time */
  readonly row: string
  readonly to: PartitionState
  readonly reason?: EndReason
}

type Cell = PartitionStep | ((flags: PartitionFlags) => PartitionStep | undefined)

const step = (row: string, to: PartitionState, reason?: EndReason): PartitionStep =>
  reason === undefined ? { row, to } : { row, to, reason }

/** the same step from each of these states */
const from = <S extends PartitionState>(
  states: ReadonlyArray<S>,
  cell: (state: S) => Cell
): Partial<Record<PartitionState, Cell>> => Object.fromEntries(states.map((state) => [state, cell(state)]))

const living = ["opening", "open", "holding", "flushing", "suspended", "draining"] as const
const stopped = ["holding", "flushing", "suspended", "draining"] as const

/** closing: answered when the partition has ended (P20); else the driver's hold is over and it asks again (P11) */
const revokedAgain =
  (state: PartitionState): Cell =>
  (flags) =>
    step(flags.closing ? "P20" : "P11", state)

const late = { ended: step("P28", "ended") } as const

const table: Record<PartitionEvent, Partial<Record<PartitionState, Cell>>> = {
  startKnown: { opening: step("P2", "open") },
  startFailed: { opening: step("P3", "opening") },
  revokeExact: {
    opening: step("P4", "ended", "revoked"),
    open: step("P5", "holding"),
    ...from(["holding", "flushing"], revokedAgain),
    suspended: step("P11", "suspended"),
    draining: step("P20", "draining"),
    ended: step("P29", "ended")
  },
  revokeEager: {
    opening: step("P4a", "suspended"),
    open: step("P6", "holding"),
    ...from(["holding", "flushing"], revokedAgain),
    suspended: step("P11", "suspended"),
    draining: step("P20", "draining"),
    ended: step("P29", "ended")
  },
  drained: { holding: step("P8", "flushing"), draining: step("P18", "flushing") },
  drainClock: { holding: step("P9", "flushing"), draining: step("P18", "flushing") },
  flushed: {
    flushing: (flags) =>
      flags.closing
        ? step("P19", "ended", "closed")
        : flags.exact
          ? step("P10", "ended", "revoked")
          : step("P10", "suspended")
  },
  retained: {
    ...from(["opening", "open", "draining"], (state) => step("P7", state)),
    // the driver did not wait any longer; an exact revoke ends the epoch in any case and is never retained
    holding: (flags) => (flags.exact ? undefined : step("P10a", flags.closing ? "draining" : "open")),
    flushing: (flags) => (flags.closing ? step("P7", "flushing") : flags.exact ? undefined : step("P10a", "open")),
    suspended: (flags) =>
      flags.closing
        ? flags.unstarted
          ? step("P17a", "ended", "closed")
          : step("P17a", "draining")
        : flags.unstarted
          ? step("P4a", "opening")
          : step("P13", "open")
  },
  reassigned: {
    // a driver that came back from a crash could not announce it: as for a suspended one
    opening: step("P14", "ended", "revoked"),
    open: step("P14", "ended", "revoked"),
    suspended: step("P14", "ended", "revoked"),
    ...from(["holding", "flushing", "draining"], () => step("P10b", "ended", "revoked"))
  },
  lost: { ...from(living, () => step("P15", "ended", "lost")), ...late },
  closeDrain: {
    opening: step("P4", "ended", "closed"),
    open: step("P16", "draining"),
    suspended: step("P17a", "suspended"),
    ...from(["holding", "flushing"], (state) => step("P21", state))
  },
  closeInterrupt: {
    opening: step("P4", "ended", "closed"),
    open: step("P17", "draining"),
    suspended: step("P17a", "suspended"),
    ...from(["holding", "flushing"], (state) => step("P21", state))
  },
  suspendClock: { suspended: (flags) => (flags.closing ? step("P17a", "ended", "closed") : undefined) },
  seek: {
    open: step("P22", "ended", "sought"),
    ...from(["opening", "holding", "flushing", "suspended", "draining"], (state) => step("P21a", state))
  },
  belowStart: { open: step("P23", "open"), ...from(stopped, (state) => step("P30", state)), ...late },
  beyondEnd: { open: step("P24", "ended", "reset"), ...from(stopped, (state) => step("P30", state)), ...late },
  gone: { ...from(living, () => step("P25", "ended", "gone")), ...late },
  failed: from(living, () => step("P26", "ended", "failed")),
  chunk: { open: step("", "open"), ...from(stopped, (state) => step("P31", state)), ...late },
  outcome: {
    open: step("", "open"),
    holding: step("", "holding"),
    flushing: step("", "flushing"),
    draining: step("", "draining"),
    suspended: step("P12", "suspended"),
    ...late
  }
}

/** `undefined`: the table has no such pair. */
export const partitionStep = (
  state: PartitionState,
  event: PartitionEvent,
  flags: PartitionFlags
): PartitionStep | undefined => {
  const cell = table[event][state]
  return typeof cell === "function" ? cell(flags) : cell
}

/** all rows, those that are no pair of the table too; P1, P26 to P29 partly happen outside of an epoch */
export const partitionRows = [
  "P1",
  "P2",
  "P3",
  "P4",
  "P4a",
  "P5",
  "P6",
  "P7",
  "P8",
  "P9",
  "P10",
  "P10a",
  "P10b",
  "P11",
  "P12",
  "P13",
  "P14",
  "P15",
  "P16",
  "P17",
  "P17a",
  "P18",
  "P19",
  "P20",
  "P21",
  "P21a",
  "P22",
  "P23",
  "P24",
  "P25",
  "P26",
  "P27",
  "P28",
  "P29",
  "P30",
  "P31"
] as const
