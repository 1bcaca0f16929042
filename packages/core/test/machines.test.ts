import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type CommitEvent, commitRows, type CommitState, commitStep } from "../src/internal/commitMachine.ts"
import {
  type PartitionEvent,
  type PartitionFlags,
  partitionRows,
  type PartitionState,
  partitionStep
} from "../src/internal/partitionMachine.ts"
import {
  RecordEvent,
  recordEventNames,
  recordRows,
  RecordState,
  recordStateNames,
  recordStep
} from "../src/internal/recordMachine.ts"

const states: ReadonlyArray<PartitionState> = [
  "opening",
  "open",
  "holding",
  "flushing",
  "suspended",
  "draining",
  "ended"
]
const living = states.filter((state) => state !== "ended")
const events: ReadonlyArray<PartitionEvent> = [
  "startKnown",
  "startFailed",
  "revokeExact",
  "revokeEager",
  "drained",
  "drainClock",
  "flushed",
  "retained",
  "reassigned",
  "lost",
  "closeDrain",
  "closeInterrupt",
  "suspendClock",
  "seek",
  "belowStart",
  "beyondEnd",
  "gone",
  "failed",
  "chunk",
  "outcome"
]
const flags: ReadonlyArray<PartitionFlags> = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => ({
  exact: (bits & 1) !== 0,
  closing: (bits & 2) !== 0,
  unstarted: (bits & 4) !== 0
}))
const everywhere = (f: (state: PartitionState, event: PartitionEvent, flag: PartitionFlags) => void) => {
  for (const state of states) for (const event of events) for (const flag of flags) f(state, event, flag)
}

describe("the machine of a partition", () => {
  it("every living state reaches ended by lost, gone and failed in one step", () => {
    for (const state of living) {
      for (const flag of flags) {
        for (const event of ["lost", "gone", "failed"] as const) {
          const step = partitionStep(state, event, flag)
          assert.deepInclude(step, { to: "ended", reason: event })
        }
      }
    }
  })

  it("nothing leaves ended", () => {
    for (const event of events) {
      for (const flag of flags) {
        const step = partitionStep("ended", event, flag)
        if (step !== undefined) assert.deepInclude(step, { to: "ended" })
        assert.isUndefined(step?.reason, "the reason of an end is never changed")
      }
    }
  })

  it("only an eager revoke leads to suspended", () => {
    everywhere((state, event, flag) => {
      const step = partitionStep(state, event, flag)
      if (step?.to !== "suspended" || state === "suspended") return
      if (event === "revokeEager") return
      assert.strictEqual(state, "flushing")
      assert.strictEqual(event, "flushed")
      assert.deepInclude(flag, { exact: false, closing: false })
    })
  })

  it("an exact revoke is never followed by open in the same epoch", () => {
    for (const state of ["holding", "flushing"] as const) {
      for (const flag of flags.filter((f) => f.exact)) {
        assert.notStrictEqual(partitionStep(state, "retained", flag)?.to, "open")
      }
    }
  })

  it("a consumer that closes opens nothing again", () => {
    everywhere((state, event, flag) => {
      if (!flag.closing || state === "open" || state === "opening") return
      const to = partitionStep(state, event, flag)?.to
      assert.isFalse(to === "open" || to === "opening", `${state} ${event}`)
    })
  })

  it("each end has a reason, and nothing else has one", () => {
    everywhere((state, event, flag) => {
      const step = partitionStep(state, event, flag)
      if (step === undefined) return
      assert.strictEqual(step.reason !== undefined, step.to === "ended" && state !== "ended", `${state} ${event}`)
    })
  })

  it("a revoke has a step in every state: an answer is owed in every path", () => {
    for (const state of states) {
      for (const flag of flags) {
        assert.isDefined(partitionStep(state, "revokeExact", flag), state)
        assert.isDefined(partitionStep(state, "revokeEager", flag), state)
      }
    }
  })

  it("every row can be reached, and every row that is reached is named", () => {
    const reached = new Set<string>()
    const seen = new Set<string>()
    const visit = (state: PartitionState, flag: PartitionFlags) => {
      const key = `${state} ${JSON.stringify(flag)}`
      if (seen.has(key)) return
      seen.add(key)
      for (const event of events) {
        const step = partitionStep(state, event, flag)
        if (step === undefined) continue
        reached.add(step.row)
        visit(step.to, {
          exact: event === "revokeExact" && state === "open" ? true : step.to === "open" ? false : flag.exact,
          closing: flag.closing || event === "closeDrain" || event === "closeInterrupt",
          unstarted: flag.unstarted && step.to !== "open"
        })
      }
    }
    visit("opening", { exact: false, closing: false, unstarted: true })
    reached.delete("")
    // these happen where there is no epoch: it is made, the run ends
    const outside = ["P1", "P27"]
    assert.deepStrictEqual([...reached, ...outside].sort(), [...partitionRows].sort())
  })
})

const recordStates = Object.values(RecordState)
const recordEvents = Object.values(RecordEvent)

describe("the machine of a record", () => {
  it("names are in the order of their numbers", () => {
    assert.deepStrictEqual(
      recordStateNames.map((name) => RecordState[name]),
      recordStates
    )
    assert.deepStrictEqual(
      recordEventNames.map((name) => RecordEvent[name as keyof typeof RecordEvent]),
      recordEvents
    )
  })

  it("nothing leaves released, and done is left only by a fiber that is left behind", () => {
    for (const event of recordEvents) {
      assert.isUndefined(recordStep(RecordState.released, event))
      const step = recordStep(RecordState.done, event)
      if (step !== undefined && step.to !== RecordState.done) {
        assert.deepInclude(step, { row: "R16", to: RecordState.zombie })
        assert.strictEqual(event, RecordEvent.graceOver)
      }
    }
  })

  it("I7: an interrupted record is never done unless it succeeded or was acknowledged", () => {
    for (const event of recordEvents) {
      if (recordStep(RecordState.stopping, event)?.to !== RecordState.done) continue
      assert.include([RecordEvent.succeeded, RecordEvent.acknowledged], event)
    }
    assert.strictEqual(recordStep(RecordState.stopping, RecordEvent.endedEnding)!.to, RecordState.released)
    // in an epoch that goes on it is runnable again
    assert.strictEqual(recordStep(RecordState.stopping, RecordEvent.endedLiving)!.to, RecordState.buffered)
  })

  it("a zombie only ends", () => {
    const possible = recordEvents.filter((event) => recordStep(RecordState.zombie, event) !== undefined)
    assert.deepStrictEqual(possible, [RecordEvent.ended])
  })

  it("what did not start cannot be done", () => {
    for (const event of recordEvents) {
      assert.notStrictEqual(recordStep(RecordState.buffered, event)?.to, RecordState.done)
    }
  })

  it("every row can be reached, and every row that is reached is named", () => {
    const reached = new Set<string>()
    const seen = new Set<RecordState>()
    const visit = (state: RecordState) => {
      if (seen.has(state)) return
      seen.add(state)
      for (const event of recordEvents) {
        const step = recordStep(state, event)
        if (step === undefined) continue
        reached.add(step.row)
        visit(step.to)
      }
    }
    visit(RecordState.buffered)
    assert.strictEqual(seen.size, recordStates.length)
    // at intake, where there is no record yet
    assert.deepStrictEqual([...reached, "R1", "R2", "R3"].sort(), [...recordRows].sort())
  })

  it.prop(
    "whatever happens in whatever order, a record is done or released once at most",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 15 })))],
    ([happens]) => {
      let state: RecordState = RecordState.buffered
      let ends = 0
      for (const event of happens as ReadonlyArray<RecordEvent>) {
        const step = recordStep(state, event)
        if (step === undefined) continue
        if (step.to !== state && (step.to === RecordState.done || step.to === RecordState.released)) ends++
        state = step.to
      }
      assert.isAtMost(ends, 1)
    },
    { arbitrary: { runs: 300, size: 100 } }
  )
})

const commitStates: ReadonlyArray<CommitState> = ["clean", "dirty", "inFlight", "deferred", "over"]
const commitEvents: ReadonlyArray<CommitEvent> = [
  "moved",
  "unmoved",
  "taken",
  "committed",
  "committedBehind",
  "retriable",
  "deferred",
  "decideAgain",
  "staleEpoch",
  "staleMember",
  "requestTooLarge",
  "metadataTooLarge",
  "unknownTopic",
  "refused",
  "ended"
]

describe("the machine of a commit", () => {
  it("nothing leaves over, and every state ends", () => {
    for (const event of commitEvents) assert.isTrue((commitStep("over", event)?.to ?? "over") === "over")
    for (const state of commitStates) assert.strictEqual(commitStep(state, "ended")?.to, "over")
  })

  it("what is in flight is not taken again", () => {
    assert.isUndefined(commitStep("inFlight", "taken"))
    assert.isUndefined(commitStep("deferred", "taken"))
  })

  it("an answer comes only for what is in flight, and each of them has a step", () => {
    const answers: ReadonlyArray<CommitEvent> = [
      "committed",
      "committedBehind",
      "retriable",
      "deferred",
      "staleEpoch",
      "staleMember",
      "requestTooLarge",
      "metadataTooLarge",
      "unknownTopic",
      "refused"
    ]
    for (const event of answers) {
      for (const state of commitStates) assert.strictEqual(commitStep(state, event) !== undefined, state === "inFlight")
    }
  })

  it("what failed for now stays dirty: it is sent again", () => {
    for (const event of ["retriable", "requestTooLarge", "metadataTooLarge", "committedBehind"] as const) {
      assert.strictEqual(commitStep("inFlight", event)!.to, "dirty")
    }
  })

  it("every row can be reached, and every row that is reached is named", () => {
    const reached = new Set<string>()
    const seen = new Set<CommitState>()
    const visit = (state: CommitState) => {
      if (seen.has(state)) return
      seen.add(state)
      for (const event of commitEvents) {
        const step = commitStep(state, event)
        if (step === undefined) continue
        reached.add(step.row)
        visit(step.to)
      }
    }
    visit("clean")
    reached.delete("")
    assert.deepStrictEqual([...reached].sort(), [...commitRows].sort())
  })
})
