/**
 * The commit of one partition's epoch, as a table.
 *
 * `clean`: what can be committed is committed. `dirty`: something moved. `inFlight`: a request with this partition is under way.
 * `deferred`: the group is between two generations. `over`: the epoch has ended, or the broker says that it has.
 */
export type CommitState = "clean" | "dirty" | "inFlight" | "deferred" | "over"

export type CommitEvent =
  | "moved"
  | "unmoved"
  | "taken"
  | "committed"
  | "committedBehind"
  | "retriable"
  | "deferred"
  | "decideAgain"
  | "staleEpoch"
  | "staleMember"
  | "requestTooLarge"
  | "metadataTooLarge"
  | "unknownTopic"
  | "refused"
  | "ended"

export interface CommitStep {
  readonly row: string
  readonly to: CommitState
}

const step = (row: string, to: CommitState): CommitStep => ({ row, to })

const table: Record<CommitEvent, Partial<Record<CommitState, CommitStep>>> = {
  moved: {
    clean: step("K1", "dirty"),
    dirty: step("", "dirty"),
    inFlight: step("", "inFlight"),
    deferred: step("", "deferred")
  },
  unmoved: { dirty: step("", "clean") },
  // `clean`: the same offset once more, after a request without an answer
  taken: { dirty: step("K2", "inFlight"), clean: step("K2", "inFlight") },
  committed: { inFlight: step("K3", "clean") },
  /** committed, and more has moved since the snapshot */
  committedBehind: { inFlight: step("K3", "dirty") },
  retriable: { inFlight: step("K4", "dirty") },
  deferred: { inFlight: step("K5", "deferred") },
  decideAgain: { deferred: step("K6", "dirty") },
  staleEpoch: { inFlight: step("K7", "over") },
  staleMember: { inFlight: step("K8", "over") },
  requestTooLarge: { inFlight: step("K9", "dirty") },
  metadataTooLarge: { inFlight: step("K13", "dirty") },
  unknownTopic: { inFlight: step("K10", "over") },
  refused: { inFlight: step("K11", "over") },
  ended: {
    clean: step("K12", "over"),
    dirty: step("K12", "over"),
    inFlight: step("K12", "over"),
    deferred: step("K12", "over"),
    over: step("K12", "over")
  }
}

export const commitStep = (state: CommitState, event: CommitEvent): CommitStep | undefined => table[event][state]

export const commitRows = ["K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K12", "K13"] as const
