import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { Backlog } from "../src/internal/backlog.ts"
import { pauseNames, sizeOf } from "../src/internal/epoch.ts"
import { byKey, type Lane, Lanes } from "../src/internal/lanes.ts"
import type { Slot } from "../src/internal/slot.ts"
import { recordAt } from "./script.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const everything = Number.POSITIVE_INFINITY

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("add"), keys: Schema.Array(between(0, 4)).check(Schema.isMaxLength(6)) }),
  Schema.Struct({ do: Schema.Literal("take"), below: between(1, 40) }),
  Schema.Struct({ do: Schema.Literal("end"), which: between(0, 9) }),
  Schema.Struct({ do: Schema.Literal("fail"), which: between(0, 9) }),
  Schema.Struct({ do: Schema.Literal("due"), which: between(0, 9) }),
  Schema.Struct({ do: Schema.Literal("putBack"), which: between(0, 9) }),
  Schema.Struct({ do: Schema.Literal("drop") })
])

/** key 0 is none */
const recordOf = (seq: number, key: number) => ({
  ...recordAt(0, seq),
  key: key === 0 ? null : new TextEncoder().encode(`k${key}`)
})

interface Attempt {
  readonly seq: number
  readonly key: number
  slot: { lane: Lane | undefined; record: unknown; seq: number; receivedAt: number }
}

for (const order of ["unordered", "key", "partition"] as const) {
  it.prop(
    `${order}: nothing is given twice or lost, lanes run one after another in their order, and who may start is found`,
    [Schema.Array(Step).check(Schema.isMaxLength(400))],
    ([steps]) => {
      const lanes =
        order === "unordered" ? undefined : new Lanes(order === "key" ? byKey : () => "", order === "partition")
      const backlog = new Backlog(lanes)
      const laneOf = (key: number) =>
        order === "unordered" || (order === "key" && key === 0) ? undefined : order === "key" ? key : 0
      const keys: Array<number> = []
      const waiting = new Set<number>()
      const running: Array<Attempt> = []
      const failed: Array<Attempt> = []
      const due: Array<Attempt> = []
      const release = (lane: Lane | undefined): void => {
        if (lane === undefined) return
        const next = lanes!.release(lane)
        if (next !== undefined) backlog.proceed(next, lane)
      }
      const held = (): ReadonlyArray<number | undefined> =>
        [...running, ...failed, ...due].map(({ key }) => laneOf(key))
      /** by the definition: the first of its lane, its lane free, below the limit */
      const startable = (below: number): ReadonlyArray<number> => {
        const taken = new Set(held())
        const fresh = [...waiting]
          .sort((a, b) => a - b)
          .filter((seq) => {
            const lane = laneOf(keys[seq]!)
            if (lane === undefined) return seq < below
            if (taken.has(lane)) return false
            taken.add(lane)
            return seq < below
          })
        return [...fresh, ...due.map(({ seq }) => seq).filter((seq) => seq < below)]
      }
      for (const step of steps) {
        switch (step.do) {
          case "add": {
            const first = keys.length
            for (const key of step.keys) waiting.add(keys.push(key) - 1)
            if (step.keys.length > 0)
              backlog.add(
                step.keys.map((key, i) => recordOf(first + i, key)),
                first,
                0
              )
            break
          }
          case "take": {
            const may = startable(step.below)
            const found = backlog.take(step.below)
            assert.strictEqual(found === true, may.length > 0, `${found} of ${may.join()}`)
            if (found !== true) break
            const { before, lane, record, seq } = backlog.taken
            assert.include(may, seq)
            assert.strictEqual(record.offset, BigInt(seq))
            const again = due.findIndex((attempt) => attempt.slot === (before as unknown))
            if (before === undefined) assert.isTrue(waiting.delete(seq))
            else {
              assert.isAtLeast(again, 0)
              due.splice(again, 1)
            }
            running.push({ seq, key: keys[seq]!, slot: { lane, record, seq, receivedAt: 0 } })
            break
          }
          case "end": {
            const [attempt] = running.splice(step.which, 1)
            release(attempt?.slot.lane)
            break
          }
          case "fail":
            failed.push(...running.splice(step.which, 1))
            break
          case "due": {
            const [attempt] = failed.splice(step.which, 1)
            if (attempt === undefined) break
            due.push(attempt)
            backlog.due(attempt.slot as unknown as Slot)
            break
          }
          case "putBack": {
            const [attempt] = running.splice(step.which, 1)
            if (attempt === undefined) break
            waiting.add(attempt.seq)
            backlog.putBack(attempt.slot as unknown as Slot)
            assert.isUndefined(attempt.slot.lane)
            break
          }
          case "drop": {
            const dropped: Array<number> = []
            backlog.drop((record) => dropped.push(Number(record.offset)), release)
            assert.deepStrictEqual(
              dropped.sort((a, b) => a - b),
              [...waiting].sort((a, b) => a - b)
            )
            waiting.clear()
            for (const { slot } of [...failed.splice(0), ...due.splice(0)]) release(slot.lane)
            break
          }
        }
        assert.strictEqual(backlog.size, waiting.size)
        const oldest = waiting.size === 0 ? undefined : Math.min(...waiting)
        assert.strictEqual(backlog.oldest?.seq, oldest)
      }
      // every lane is let go in the end
      for (const { slot } of [...running.splice(0), ...failed.splice(0), ...due.splice(0)]) release(slot.lane)
      backlog.drop(() => undefined, release)
      assert.strictEqual(lanes?.size ?? 0, 0)
      assert.strictEqual(lanes?.waiting ?? 0, 0)
    },
    { arbitrary: { runs: 300, size: 100 } }
  )
}

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
