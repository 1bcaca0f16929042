import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { byKey, type Lane, Lanes } from "../src/internal/lanes.ts"
import { recordAt } from "./script.ts"

const collectGarbage = (): void => {
  setFlagsFromString("--expose-gc")
  const gc = runInNewContext("gc") as () => void
  gc()
}

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("come"), name: between(0, 4) }),
  Schema.Struct({ do: Schema.Literal("letGo"), which: between(0, 9) }),
  /** it outlives its record's time: both it and the record hold the lane */
  Schema.Struct({ do: Schema.Literal("outlive"), which: between(0, 9) }),
  Schema.Struct({ do: Schema.Literal("drop"), really: between(0, 10) })
])

it.prop(
  "one at a time, in the order in which they came, zombies included; an empty lane is not kept",
  [Schema.Array(Step).check(Schema.isMaxLength(400))],
  ([steps]) => {
    const lanes = new Lanes(byKey, false)
    const holders: Array<Lane> = []
    const waits = new Map<string, Array<number>>()
    let seq = 0
    const check = (): void => {
      const names = new Set(holders.map(({ name }) => name))
      assert.deepStrictEqual(new Set([...lanes.all].map(({ name }) => name)), names)
      assert.strictEqual(lanes.size, names.size)
      assert.strictEqual(
        lanes.waiting,
        [...waits.values()].reduce((n, list) => n + list.length, 0)
      )
      for (const lane of lanes.all) {
        assert.strictEqual(lane.holders, holders.filter((held) => held === lane).length)
        assert.strictEqual(lane.waiting, waits.get(lane.name)?.length ?? 0)
        assert.strictEqual(lane.first?.seq, waits.get(lane.name)?.[0])
      }
    }
    for (const step of steps) {
      switch (step.do) {
        case "come": {
          const name = `k${step.name}`
          const lane = lanes.get(name)
          if (lane === undefined) holders.push(lanes.take(name))
          else {
            lanes.wait(lane, { record: recordAt(0, seq), seq, at: 0 })
            waits.set(name, [...(waits.get(name) ?? []), seq])
          }
          seq++
          break
        }
        case "letGo": {
          const [lane] = holders.splice(step.which, 1)
          if (lane === undefined) break
          const next = lanes.release(lane)
          if (holders.includes(lane)) assert.isUndefined(next)
          else {
            assert.strictEqual(next?.seq, waits.get(lane.name)?.shift())
            if (next !== undefined) holders.push(lane)
          }
          break
        }
        case "outlive": {
          const lane = holders[step.which]
          if (lane === undefined) break
          lane.holders++
          holders.push(lane)
          break
        }
        case "drop": {
          if (step.really > 0) break
          const dropped: Array<number> = []
          lanes.drop((laned) => dropped.push(laned.seq))
          assert.sameMembers(dropped, [...waits.values()].flat())
          waits.clear()
          break
        }
      }
      check()
    }
    lanes.drop(() => undefined)
    waits.clear()
    for (const lane of holders.splice(0)) assert.isUndefined(lanes.release(lane))
    check()
    assert.strictEqual(lanes.size, 0)
  },
  { arbitrary: { runs: 300, size: 100 } }
)

describe("a lane", () => {
  it("a hundred thousand records pass through it, a thousand at a time, and it stays as long as what waits in it", () => {
    const lanes = new Lanes(byKey, false)
    const lane = lanes.take("hot")
    let last = -1
    for (let seq = 0; seq < 100_000; seq++) {
      lanes.wait(lane, { record: recordAt(0, seq), seq, at: 0 })
      if (lane.waiting <= 1_000) continue
      const next = lanes.release(lane)
      assert.strictEqual(next?.seq, last + 1)
      last = next!.seq
    }
    assert.strictEqual(lane.waiting, 1_000)
    assert.isAtMost(lane.places, 2_300)
    for (let next = lanes.release(lane); next !== undefined; next = lanes.release(lane)) last = next.seq
    assert.strictEqual(last, 99_999)
    assert.strictEqual(lanes.size, 0)
  })

  it("a record that has left a lane is not kept in memory by it, however many still wait", () => {
    const lanes = new Lanes(byKey, false)
    const lane = lanes.take("hot")
    const gone: Array<WeakRef<object>> = []
    for (let seq = 0; seq < 500; seq++) lanes.wait(lane, { record: recordAt(0, seq), seq, at: 0 })
    for (let seq = 0; seq < 200; seq++) gone.push(new WeakRef(lanes.release(lane)!.record))
    // a WeakRef keeps what it was made for until the end of the task
    return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      collectGarbage()
      assert.strictEqual(gone.filter((ref) => ref.deref() !== undefined).length, 0)
      assert.strictEqual(lane.waiting, 300)
    })
  })

  it("a lane that was gone and is taken again is another one: what held it does not hold this one", () => {
    const lanes = new Lanes(byKey, false)
    const first = lanes.take("k")
    lanes.release(first)
    const second = lanes.take("k")
    assert.notStrictEqual(first, second)
    assert.strictEqual(second.holders, 1)
    assert.isFalse(second.parked)
  })
})
