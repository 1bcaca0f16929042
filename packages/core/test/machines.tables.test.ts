/**
 * The three machines against what defines them, written down here once more as data: each row with its event, and where it leads from
 * and to. A pair that is in no row is no pair of the machine. Where a machine says more than its rows do it is listed with the reason.
 */
import { assert, it } from "@effect/vitest"
import { type CommitEvent, type CommitState, commitStep } from "../src/internal/commitMachine.ts"
import {
  type EndReason,
  type PartitionEvent,
  type PartitionFlags,
  type PartitionState,
  partitionStep
} from "../src/internal/partitionMachine.ts"
import {
  RecordEvent,
  recordEventNames,
  RecordState,
  recordStateNames,
  recordStep
} from "../src/internal/recordMachine.ts"

// ------------------------------------------------------------------ the partition's epoch

type When = Partial<PartitionFlags>
type To = PartitionState | `ended ${EndReason}` | "unchanged"
type PartitionRow = readonly [row: string, from: string, event: string, to: To, when?: When]

const living = "opening open holding flushing suspended draining"

/** As the table of the epoch says it. */
const partitionTable: ReadonlyArray<PartitionRow> = [
  ["P2", "opening", "startKnown", "open"],
  ["P3", "opening", "startFailed", "opening"],
  ["P4", "opening", "revokeExact", "ended revoked"],
  ["P4", "opening", "closeDrain closeInterrupt", "ended closed"],
  ["P4a", "opening", "revokeEager", "suspended"],
  ["P4a", "suspended", "retained", "opening", { unstarted: true, closing: false }],
  ["P5", "open", "revokeExact", "holding"],
  ["P6", "open", "revokeEager", "holding"],
  ["P7", "opening open draining", "retained", "unchanged"],
  ["P7", "flushing", "retained", "unchanged", { closing: true }],
  ["P8", "holding", "drained", "flushing"],
  ["P9", "holding", "drainClock", "flushing"],
  ["P10", "flushing", "flushed", "ended revoked", { exact: true, closing: false }],
  ["P10", "flushing", "flushed", "suspended", { exact: false, closing: false }],
  ["P10a", "holding", "retained", "open", { exact: false, closing: false }],
  ["P10a", "flushing", "retained", "open", { exact: false, closing: false }],
  ["P10b", "holding draining flushing", "reassigned", "ended revoked"],
  ["P11", "suspended", "revokeExact revokeEager", "unchanged"],
  ["P11", "holding flushing", "revokeExact revokeEager", "unchanged", { closing: false }],
  ["P12", "suspended", "outcome", "suspended"],
  ["P13", "suspended", "retained", "open", { unstarted: false, closing: false }],
  ["P14", "suspended", "reassigned", "ended revoked"],
  ["P15", living, "lost", "ended lost"],
  ["P16", "open", "closeDrain", "draining"],
  ["P17", "open", "closeInterrupt", "draining"],
  ["P17a", "suspended", "closeDrain closeInterrupt", "suspended"],
  ["P17a", "suspended", "retained", "draining", { closing: true, unstarted: false }],
  ["P17a", "suspended", "suspendClock", "ended closed", { closing: true }],
  ["P18", "draining", "drained drainClock", "flushing"],
  ["P19", "flushing", "flushed", "ended closed", { closing: true }],
  ["P20", "draining", "revokeExact revokeEager", "draining"],
  ["P21", "holding flushing", "closeDrain closeInterrupt", "unchanged"],
  ["P21a", "opening holding flushing suspended draining", "seek", "unchanged"],
  ["P22", "open", "seek", "ended sought"],
  ["P23", "open", "belowStart", "open"],
  ["P24", "open", "beyondEnd", "ended reset"],
  ["P25", living, "gone", "ended gone"],
  ["P26", living, "failed", "ended failed"],
  ["P28", "ended", "chunk outcome", "ended"],
  ["P29", "ended", "revokeExact revokeEager", "ended"],
  ["P30", "holding flushing suspended draining", "belowStart beyondEnd", "unchanged"],
  ["P31", "holding flushing suspended draining", "chunk", "unchanged"]
]

/** What is not in it, or otherwise, and why. */
const partitionDifferences: ReadonlyArray<readonly [...rows: [PartitionRow], why: string]> = [
  [["", "open", "chunk outcome", "open"], "what happens all the time is in no row"],
  [["", "holding flushing draining", "outcome", "unchanged"], "P8 and P18 wait for outcomes, and have no row for one"],
  [
    ["P14", "opening open", "reassigned", "ended revoked"],
    "a driver that comes back from a crash could not announce the revoke"
  ],
  [
    ["P17a", "suspended", "retained", "ended closed", { closing: true, unstarted: true }],
    "retained while it closes, and never begun: there is nothing to drain or to flush, as in P4"
  ],
  [
    ["P10a", "holding", "retained", "draining", { exact: false, closing: true }],
    "P21 before it: from there on it closes, and what was suspended for the close goes on as P17a does"
  ],
  [
    ["P20", "holding flushing", "revokeExact revokeEager", "unchanged", { closing: true }],
    "P21 before it: from there on it closes, and the driver is answered when the partition has ended"
  ],
  [
    ["P28", "ended", "lost gone belowStart beyondEnd", "ended"],
    "signals that were under way when the epoch ended, as chunks are"
  ]
]

const partitionStates = `${living} ended`.split(" ") as ReadonlyArray<PartitionState>
const partitionEvents = [
  ..."startKnown startFailed revokeExact revokeEager drained drainClock flushed retained reassigned lost".split(" "),
  ..."closeDrain closeInterrupt suspendClock seek belowStart beyondEnd gone failed chunk outcome".split(" ")
] as ReadonlyArray<PartitionEvent>
const allFlags: ReadonlyArray<PartitionFlags> = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => ({
  exact: (bits & 1) !== 0,
  closing: (bits & 2) !== 0,
  unstarted: (bits & 4) !== 0
}))

it("B1: the partition's epoch has the rows of its table, and no others", () => {
  const expected = new Map<string, string>()
  for (const [row, from, event, to, when = {}] of [...partitionTable, ...partitionDifferences.map(([one]) => one)]) {
    for (const state of from.split(" ")) {
      for (const each of event.split(" ")) {
        for (const flags of allFlags) {
          if (Object.entries(when).some(([name, value]) => flags[name as keyof PartitionFlags] !== value)) continue
          const key = `${state} ${each} ${JSON.stringify(flags)}`
          assert.isFalse(expected.has(key), `${key} is in two rows`)
          expected.set(key, `${row}: ${to === "unchanged" ? state : to}`)
        }
      }
    }
  }
  for (const state of partitionStates) {
    for (const event of partitionEvents) {
      for (const flags of allFlags) {
        const step = partitionStep(state, event, flags)
        const said =
          step === undefined
            ? undefined
            : `${step.row}: ${step.to}${step.reason === undefined ? "" : ` ${step.reason}`}`
        const key = `${state} ${event} ${JSON.stringify(flags)}`
        assert.strictEqual(said, expected.get(key), key)
        expected.delete(key)
      }
    }
  }
  assert.deepStrictEqual([...expected], [], "rows of states or events that there are not")
})

// ------------------------------------------------------------------ the record

type RecordName = keyof typeof RecordState
type RecordRow = readonly [row: string, from: string, event: string, to: RecordName | "unchanged"]

/** As the table of a record says it; R1 to R3 are at intake, where there is no record yet. */
const recordTable: ReadonlyArray<RecordRow> = [
  ["R4", "buffered", "start", "running"],
  ["R5", "running", "succeeded acknowledged", "done"],
  ["R6", "running", "retry", "waiting"],
  ["R6", "running", "skip", "done"],
  ["R6", "running", "send", "sending"],
  ["R6", "running", "park", "parked"],
  ["R6", "running", "stop", "released"],
  ["R6a", "running", "retryEnding", "released"],
  ["R8", "running", "timeout", "stopping"],
  ["R9", "waiting", "start", "running"],
  ["R10", "sending", "sent", "done"],
  ["R11", "sending", "sendAgain", "sending"],
  ["R11", "sending", "skip", "done"],
  ["R11", "sending", "stop", "released"],
  ["R12", "running", "interrupt", "stopping"],
  ["R13", "stopping", "endedLiving", "buffered"],
  ["R14", "stopping", "endedEnding", "released"],
  ["R15", "stopping", "succeeded acknowledged", "done"],
  ["R16", "stopping", "graceOver", "zombie"],
  ["R17", "buffered waiting sending parked", "epochEnds", "released"],
  ["R18", "running waiting sending", "suspend", "unchanged"],
  ["R19", "zombie", "ended", "zombie"],
  ["R20", "parked", "skip", "done"],
  ["R20", "parked", "send", "sending"],
  ["R20", "parked", "stop", "released"],
  ["R20", "parked", "retry", "waiting"]
]

const recordDifferences: ReadonlyArray<readonly [RecordRow, why: string]> = [
  [
    ["R6", "running", "failed", "running"],
    "the policy is asked, and may take its time: until it has answered the record runs"
  ],
  [["R7", "running", "interruptedByOther", "running"], "as R6, until the policy has answered"],
  [["R8", "stopping", "decide", "running"], "R8 ends as R6: the policy is asked about the timeout"],
  [["R11", "sending", "retry", "waiting"], "the policy's next decision after a refused dead letter is any but park"],
  [["R11", "sending", "retryEnding", "released"], "as R6a"],
  [["R12", "stopping", "interrupt", "stopping"], "its time was over before, or it is interrupted twice"],
  [["R18", "stopping", "suspend", "stopping"], "a timed-out attempt goes on over a rejoin as one that runs does"],
  [
    ["R16", "done", "graceOver", "zombie"],
    "acknowledged while its fiber runs on: the fiber is left behind, the outcome stands"
  ],
  [["R21", "done", "ended", "done"], "acknowledged before its fiber ended"]
]

it("B2: the record has the rows of its table, and no others", () => {
  const expected = new Map<string, string>()
  for (const [row, from, event, to] of [...recordTable, ...recordDifferences.map(([one]) => one)]) {
    for (const state of from.split(" ")) {
      for (const each of event.split(" ")) {
        const key = `${state} ${each}`
        assert.isFalse(expected.has(key), `${key} is in two rows`)
        expected.set(key, `${row}: ${to === "unchanged" ? state : to}`)
      }
    }
  }
  for (const state of recordStateNames) {
    for (const event of recordEventNames as ReadonlyArray<keyof typeof RecordEvent>) {
      const step = recordStep(RecordState[state], RecordEvent[event])
      const key = `${state} ${event}`
      assert.strictEqual(
        step === undefined ? undefined : `${step.row}: ${recordStateNames[step.to]}`,
        expected.get(key),
        key
      )
      expected.delete(key)
    }
  }
  assert.deepStrictEqual([...expected], [], "rows of states or events that there are not")
})

// ------------------------------------------------------------------ the commit

type CommitRow = readonly [from: string, event: CommitEvent, to: CommitState | "unchanged"]

/** As the table of a commit says it, whose rows have no names. */
const commitTable: ReadonlyArray<CommitRow> = [
  ["clean", "moved", "dirty"],
  ["dirty", "taken", "inFlight"],
  ["inFlight", "committed", "clean"],
  ["inFlight", "committedBehind", "dirty"],
  ["inFlight", "retriable", "dirty"],
  ["inFlight", "deferred", "deferred"],
  ["deferred", "decideAgain", "dirty"],
  ["inFlight", "staleEpoch", "over"],
  ["inFlight", "staleMember", "over"],
  ["inFlight", "metadataTooLarge", "dirty"],
  ["inFlight", "requestTooLarge", "dirty"],
  ["inFlight", "unknownTopic", "over"],
  ["inFlight", "refused", "over"],
  ["clean dirty inFlight deferred over", "ended", "over"]
]

const commitDifferences: ReadonlyArray<readonly [CommitRow, why: string]> = [
  [["dirty inFlight deferred", "moved", "unchanged"], "more has moved: it is known already"],
  [["dirty", "unmoved", "clean"], "what moved came back to what the broker has: a map that says the same again"],
  [["clean", "taken", "inFlight"], "C15: once more after an unanswered request, also where nothing has moved"]
]

const commitStates: ReadonlyArray<CommitState> = ["clean", "dirty", "inFlight", "deferred", "over"]
const commitEvents = [
  ..."moved unmoved taken committed committedBehind retriable deferred decideAgain staleEpoch staleMember".split(" "),
  ..."requestTooLarge metadataTooLarge unknownTopic refused ended".split(" ")
] as ReadonlyArray<CommitEvent>

it("B3: the commit has the rows of its table, and no others", () => {
  const expected = new Map<string, string>()
  for (const [from, event, to] of [...commitTable, ...commitDifferences.map(([one]) => one)]) {
    for (const state of from.split(" ")) {
      const key = `${state} ${event}`
      assert.isFalse(expected.has(key), `${key} is in two rows`)
      expected.set(key, to === "unchanged" ? state : to)
    }
  }
  for (const state of commitStates) {
    for (const event of commitEvents) {
      const key = `${state} ${event}`
      assert.strictEqual(commitStep(state, event)?.to, expected.get(key), key)
      expected.delete(key)
    }
  }
  assert.deepStrictEqual([...expected], [], "rows of states or events that there are not")
})
