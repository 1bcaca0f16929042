import { assert, describe, it } from "@effect/vitest"
import { Backlog } from "../src/internal/backlog.ts"
import { pauseNames, sizeOf } from "../src/internal/epoch.ts"
import { byKey, Lanes } from "../src/internal/lanes.ts"
import type { Slot } from "../src/internal/slot.ts"
import { recordAt } from "./script.ts"

const everything = Number.POSITIVE_INFINITY

/** key 0 is none */
const recordOf = (seq: number, key: number) => ({
  ...recordAt(0, seq),
  key: key === 0 ? null : new TextEncoder().encode(`k${key}`)
})

describe("the backlog of a partition", () => {
  it("retries and new records take turns", () => {
    const backlog = new Backlog(undefined)
    backlog.add(
      [0, 1, 2, 3, 4, 5].map((seq) => recordOf(seq, 0)),
      0,
      0
    )
    const slots: Array<Slot> = []
    for (let i = 0; i < 3; i++) {
      assert.isTrue(backlog.take(everything))
      const { record, seq } = backlog.taken
      slots.push({ record, seq, receivedAt: 0, lane: undefined } as unknown as Slot)
    }
    for (const slot of slots.reverse()) backlog.due(slot)
    const order: Array<number> = []
    while (backlog.take(everything) === true) order.push(backlog.taken.seq)
    assert.deepStrictEqual(order, [0, 3, 1, 4, 2, 5])
  })

  it("a record that waits for its lane does not stop one behind it, unless there is but one lane", () => {
    const keyed = new Backlog(new Lanes(byKey, false))
    keyed.add(
      [1, 1, 2, 0].map((key, seq) => recordOf(seq, key)),
      0,
      0
    )
    const order: Array<number> = []
    while (keyed.take(everything) === true) order.push(keyed.taken.seq)
    assert.deepStrictEqual(order, [0, 2, 3])
    assert.strictEqual(keyed.lanes!.waiting, 1)

    const single = new Backlog(new Lanes(() => "", true))
    single.add(
      [0, 1].map((seq) => recordOf(seq, 0)),
      0,
      0
    )
    assert.isTrue(single.take(everything))
    assert.isFalse(single.take(everything))
    // it was not looked at: it stays where it came in
    assert.strictEqual(single.lanes!.waiting, 0)
  })

  it("keys are told apart by their bytes, whatever these are and however many", () => {
    const name = (...bytes: ReadonlyArray<number>) => byKey({ ...recordAt(0, 0), key: new Uint8Array(bytes) })
    assert.isUndefined(byKey({ ...recordAt(0, 0), key: null }))
    assert.strictEqual(name(), "")
    const names = new Set(Array.from({ length: 256 }, (_, byte) => name(byte)))
    assert.strictEqual(names.size, 256)
    const long = (last: number) => byKey({ ...recordAt(0, 0), key: new Uint8Array(5000).fill(200).with(4999, last) })
    assert.notStrictEqual(long(1), long(2))
    assert.strictEqual(long(1), long(1))
  })

  it("names of pauses, and what a record weighs", () => {
    assert.deepStrictEqual(pauseNames(0), [])
    assert.deepStrictEqual(pauseNames(31), ["user", "full", "uncommitted", "holding", "map"])
    assert.strictEqual(sizeOf(recordAt(0, 0, null)), 0)
    assert.strictEqual(sizeOf({ ...recordAt(0, 0, "12"), key: new Uint8Array(3), headers: [["ab", null]] }), 7)
  })
})
