import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { PartitionEpoch, pauseNames, sizeOf } from "../src/internal/epoch.ts"
import { recordAt } from "./script.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("buffer"), count: between(1, 5) }),
  Schema.Struct({ do: Schema.Literal("take") }),
  Schema.Struct({ do: Schema.Literal("putBack") }),
  Schema.Struct({ do: Schema.Literal("drop") })
])

describe("the buffer of an epoch", () => {
  it.prop(
    "gives records in offset order; one that is put back comes first; what is dropped is told once",
    [Schema.Array(Step).check(Schema.isMaxLength(300))],
    ([steps]) => {
      const epoch = new PartitionEpoch({ topic: "t", partition: 0, epoch: 1 }, undefined, 0)
      epoch.opened(0n)
      let model: Array<number> = []
      let taken: { readonly seq: number } | undefined
      let next = 0
      for (const step of steps) {
        switch (step.do) {
          case "buffer": {
            const records = Array.from({ length: step.count }, (_, i) => recordAt(0, next + i))
            for (const { offset } of records) epoch.tracker.deliver(offset)
            epoch.buffer(records, next, next * 10)
            for (let i = 0; i < step.count; i++) model.push(next + i)
            next += step.count
            break
          }
          case "take": {
            if (model.length === 0) continue
            assert.strictEqual(epoch.nextSeq, model[0])
            assert.strictEqual(epoch.oldestBuffered()!.record.offset, BigInt(model[0]!))
            epoch.take()
            assert.strictEqual(epoch.taken.seq, model[0])
            assert.strictEqual(epoch.taken.record.offset, BigInt(model[0]!))
            taken = { seq: model.shift()! }
            break
          }
          case "putBack": {
            if (taken === undefined) continue
            epoch.putBack(recordAt(0, taken.seq), taken.seq, 5)
            model.unshift(taken.seq)
            taken = undefined
            break
          }
          case "drop": {
            const dropped: Array<number> = []
            epoch.drop((record) => dropped.push(Number(record.offset)))
            assert.deepStrictEqual(dropped, model)
            model = []
            taken = undefined
            break
          }
        }
        assert.strictEqual(epoch.buffered, model.length)
        if (model.length === 0) {
          assert.strictEqual(epoch.nextSeq, next)
          assert.isUndefined(epoch.oldestBuffered())
        }
      }
    },
    { arbitrary: { runs: 200, size: 100 } }
  )

  it("names of pauses, and what a record weighs", () => {
    assert.deepStrictEqual(pauseNames(0), [])
    assert.deepStrictEqual(pauseNames(15), ["user", "full", "uncommitted", "holding"])
    assert.strictEqual(sizeOf(recordAt(0, 0, null)), 0)
    assert.strictEqual(sizeOf({ ...recordAt(0, 0, "12"), key: new Uint8Array(3), headers: [["ab", null]] }), 7)
  })
})
