/**
 * The life of one record within an epoch, as a table over small integers, because it is asked twice a record.
 *
 * `buffered`: registered with the tracker, not started. `running`: a handler fiber (or the policy's) runs. `waiting`: for the time of
 * its retry. `sending`: its dead letter is on its way. `parked`: given up for this epoch. `stopping`: interruption sent, the fiber
 * has not ended. `done`: the outcome is final. `released`: not done when its epoch ended, will be delivered again. `zombie`: decided or
 * released while the fiber still runs.
 *
 * Invariants, with their tests in `test/machines.test.ts`: nothing leaves `done` and `released`; an interrupted record is
 * never done unless it was acknowledged or succeeded; a zombie only ends.
 */
export const RecordState = {
  buffered: 0,
  running: 1,
  stopping: 2,
  done: 3,
  released: 4,
  zombie: 5,
  waiting: 6,
  sending: 7,
  parked: 8
} as const
export type RecordState = (typeof RecordState)[keyof typeof RecordState]

export const recordStateNames = [
  "buffered",
  "running",
  "stopping",
  "done",
  "released",
  "zombie",
  "waiting",
  "sending",
  "parked"
] as const

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
  suspend: 15,
  /** the policy says retry */
  retry: 16,
  /** the policy says retry, and the partition is going away */
  retryEnding: 17,
  /** the policy says dead letter */
  send: 18,
  /** the broker has the dead letter */
  sent: 19,
  /** the dead letter was not taken, and is sent again */
  sendAgain: 20,
  /** the policy says park */
  park: 21
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
const at = (state: RecordState, event: RecordEvent): number => state * 32 + event
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
row(S.running, E.retry, "R6", S.waiting)
row(S.running, E.retryEnding, "R6a", S.released)
row(S.running, E.send, "R6", S.sending)
row(S.running, E.park, "R6", S.parked)
row(S.running, E.timeout, "R8", S.stopping)
row(S.running, E.interrupt, "R12", S.stopping)
row(S.running, E.suspend, "R18", S.running)
row(S.waiting, E.start, "R9", S.running)
row(S.waiting, E.epochEnds, "R17", S.released)
row(S.waiting, E.suspend, "R18", S.waiting)
row(S.sending, E.sent, "R10", S.done)
row(S.sending, E.sendAgain, "R11", S.sending)
// refused for good, or dead-lettered too often: the policy's next decision
row(S.sending, E.skip, "R11", S.done)
row(S.sending, E.stop, "R11", S.released)
row(S.sending, E.retry, "R11", S.waiting)
row(S.sending, E.retryEnding, "R11", S.released)
row(S.sending, E.epochEnds, "R17", S.released)
row(S.sending, E.suspend, "R18", S.sending)
row(S.parked, E.skip, "R20", S.done)
row(S.parked, E.stop, "R20", S.released)
row(S.parked, E.retry, "R20", S.waiting)
row(S.parked, E.send, "R20", S.sending)
row(S.parked, E.epochEnds, "R17", S.released)
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

/** R1 to R3 happen at intake */
export const recordRows = [
  "R1",
  "R2",
  "R3",
  "R4",
  "R5",
  "R6",
  "R6a",
  "R7",
  "R8",
  "R9",
  "R10",
  "R11",
  "R12",
  "R13",
  "R14",
  "R15",
  "R16",
  "R17",
  "R18",
  "R19",
  "R20",
  "R21"
] as const
