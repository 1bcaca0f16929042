import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Handler } from "../src/Handler.ts"
import { passUntil, turns } from "./harness.ts"
import { given } from "./script.ts"

const perPartition = 40

/** Partitions in the order in which their records were started, from so many that all have records when the first may start. */
const startsOf = Effect.fnUntraced(function* (partitions: number) {
  const gate = yield* Deferred.make<void>()
  const started: Array<number> = []
  yield* given(
    Array.from({ length: partitions }, () => perPartition),
    {
      concurrency: 1,
      maxHeldRecords: 100_000,
      policy: "none",
      handler: Handler.make("t", ({ partition }) => {
        started.push(partition)
        return started.length === 1 ? Deferred.await(gate) : Effect.void
      })
    }
  )
  yield* Deferred.succeed(gate, undefined)
  yield* passUntil("all are started", () => started.length === partitions * perPartition)
  return started
})

/** How many of one partition were started one after another, each time. */
const rows = (started: ReadonlyArray<number>): ReadonlyArray<number> => {
  const lengths: Array<number> = []
  for (const [i, partition] of started.entries()) {
    if (partition === started[i - 1]) lengths[lengths.length - 1]!++
    else lengths.push(1)
  }
  return lengths
}

/** The same with handlers that wait, of which so many run at once; the oldest ends when nothing more can start. */
const startsWhileWaiting = Effect.fnUntraced(function* (partitions: number, concurrency: number) {
  const started: Array<number> = []
  const running: Array<() => void> = []
  yield* given(
    Array.from({ length: partitions }, () => perPartition),
    {
      concurrency,
      maxHeldRecords: 100_000,
      policy: "none",
      handler: Handler.make("t", ({ partition }) =>
        Effect.callback<void>((resume) => {
          started.push(partition)
          running.push(() => resume(Effect.void))
        })
      )
    }
  )
  for (let i = 0; i < 2 * partitions; i++) {
    running.shift()!()
    yield* turns
  }
  return started
})

describe("partitions that want to start something", () => {
  it.effect("have their turns one record at a time, where they are few", () =>
    Effect.gen(function* () {
      const started = yield* startsOf(30)
      // the first was alone when it began
      assert.strictEqual(Math.max(...rows(started.slice(1))), 1)
    })
  )

  it.effect(
    "have up to sixteen records of a partition one after another, where they are many, and all have their turn",
    () =>
      Effect.gen(function* () {
        const partitions = 100
        const started = yield* startsOf(partitions)
        assert.strictEqual(Math.max(...rows(started.slice(1))), 16)
        // before the first one has its second turn
        assert.strictEqual(new Set(started.slice(1, 1 + partitions * 16)).size, partitions)
      })
  )

  it.effect("have each permit that comes back for the next of them, where handlers wait", () =>
    Effect.gen(function* () {
      const [partitions, concurrency] = [100, 10]
      const started = yield* startsWhileWaiting(partitions, concurrency)
      const later = started.slice(concurrency)
      assert.strictEqual(Math.max(...rows(later)), 1)
      // nobody waits for longer than all others have one each
      for (let i = 0; i + partitions <= later.length; i++) {
        assert.isAtLeast(new Set(later.slice(i, i + partitions)).size, partitions - 1)
      }
    })
  )
})
