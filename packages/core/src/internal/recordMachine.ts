/**
 * The life of one record within an epoch, as a table over small integers, because it is asked twice a record.
 *
 * `buffered`: registered with the tracker, not started. `running`: a handler fiber (or the policy's) runs. `stopping`:
 * interruption sent, the fiber has not ended. `done`: the outcome is final. `released`: not done when its epoch ended, will be
 * delivered again. `zombie`: decided or released while the fiber still runs.
 *
 * Invariants, with their tests in `test/machines.test.ts`: nothing leaves `done` and `released`; an interrupted record is
 * never done unless it was acknowledged or succeeded; a zombie only ends.
 */
export const RecordState = { buffered: 0, running: 1, stopping: 2, done: 3, released: 4, zombie: 5 } as const
export type RecordState = (typeof RecordState)[keyof typeof RecordState]

export const recordStateNames = ["buffered", "running", "stopping", "done", "released", "zombie"] as const

export const RecordEvent = {
  /** lane and permit are there */
  start: 0,
  succeeded: 1,
  acknowledged: 2,
  /** the policy says skip */
  skip: 3,
  /** the policy says stop, or there is none */
  stop: 4,
  /** failed, died, or was interrupted by somebody else: the policy is asked */
  failed: 5,
  interruptedByOther: 6,
  /** the handler's time is over */
  timeout: 7,
  /** the library interrupts, because the epoch ends */
  interrupt: 8,
  /** the fiber ended, not done, the epoch goes on */
  endedLiving: 9,
  /** the fiber ended, not done, the epoch ends */
  endedEnding: 10,
  /** a timed-out attempt ended, or its grace is over: the policy is asked */
  decide: 11,
  /** `interruptGrace` is over and the fiber still runs */
  graceOver: 12,
  /** the epoch ends */
  epochEnds: 13,
  /** a fiber ended that had nothing left to decide */
  ended: 14,
  /** the epoch is suspended */
  suspend: 15
} as const
export type RecordEvent = (typeof RecordEvent)[keyof typeof RecordEvent]

export const recordEventNames = Object.keys(RecordEvent)

export interface RecordStep {
  readonly row: string
  readonly to: RecordState
}

const S = RecordState
const E = RecordEvent

const table: Array<RecordStep | undefined> = []
const at = (state: RecordState, event: RecordEvent): number => state * 16 + event
const row = (state: RecordState, event: RecordEvent, name: string, to: RecordState): void => {
  table[at(state, event)] = { row: name, to }
}

row(S.buffered, E.start, "R4", S.running)
row(S.buffered, E.epochEnds, "R17", S.released)
row(S.running, E.succeeded, "R5", S.done)
row(S.running, E.acknowledged, "R5", S.done)
row(S.running, E.failed, "R6", S.running)
row(S.running, E.interruptedByOther, "R7", S.running)
row(S.running, E.skip, "R6", S.done)
row(S.running, E.stop, "R6", S.released)
row(S.running, E.timeout, "R8", S.stopping)
row(S.running, E.interrupt, "R12", S.stopping)
row(S.running, E.suspend, "R18", S.running)
row(S.stopping, E.interrupt, "R12", S.stopping)
row(S.stopping, E.endedLiving, "R13", S.buffered)
row(S.stopping, E.endedEnding, "R14", S.released)
row(S.stopping, E.succeeded, "R15", S.done)
row(S.stopping, E.acknowledged, "R15", S.done)
row(S.stopping, E.decide, "R8", S.running)
row(S.stopping, E.graceOver, "R16", S.zombie)
row(S.stopping, E.suspend, "R18", S.stopping)
row(S.done, E.ended, "R21", S.done)
row(S.done, E.graceOver, "R16", S.zombie)
row(S.zombie, E.ended, "R19", S.zombie)

export const recordStep = (state: RecordState, event: RecordEvent): RecordStep | undefined => table[at(state, event)]

/** R2 and R3 happen at intake; R1, R6a, R9, R10, R11 and R20 belong to the offset map, retries, dead letters and parking */
export const recordRows = [
  "R2",
  "R3",
  "R4",
  "R5",
  "R6",
  "R7",
  "R8",
  "R12",
  "R13",
  "R14",
  "R15",
  "R16",
  "R17",
  "R18",
  "R19",
  "R21"
] as const
