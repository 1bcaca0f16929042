import { assert, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { Heap } from "../src/internal/heap.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("push"), rank: between(-20, 20) }),
  Schema.Struct({ do: Schema.Literal("pop") }),
  Schema.Struct({ do: Schema.Literal("keep"), odd: Schema.Boolean }),
  Schema.Struct({ do: Schema.Literal("clear"), really: between(0, 20) })
])

const ascending = (a: number, b: number): number => a - b

it.prop(
  "the smallest comes first, equal ones included, and nothing is lost, whatever was thrown out before",
  [Schema.Array(Step).check(Schema.isMaxLength(300))],
  ([steps]) => {
    const heap = new Heap<{ readonly rank: number }>(({ rank }) => rank)
    let model: Array<number> = []
    for (const step of steps) {
      switch (step.do) {
        case "push":
          heap.push({ rank: step.rank })
          model.push(step.rank)
          break
        case "pop":
          model.sort(ascending)
          assert.strictEqual(heap.pop()?.rank, model.shift())
          break
        case "keep": {
          const wanted = (rank: number): boolean => (rank % 2 === 0) !== step.odd
          heap.keep(({ rank }) => wanted(rank))
          model = model.filter(wanted)
          break
        }
        case "clear":
          if (step.really > 0) break
          heap.clear()
          model = []
          break
      }
      assert.strictEqual(heap.size, model.length)
      assert.strictEqual(heap.first?.rank, model.length === 0 ? undefined : Math.min(...model))
      assert.deepStrictEqual(heap.all.map(({ rank }) => rank).sort(ascending), [...model].sort(ascending))
    }
    const left: Array<number> = []
    for (let item = heap.pop(); item !== undefined; item = heap.pop()) left.push(item.rank)
    assert.deepStrictEqual(left, [...model].sort(ascending))
    assert.isUndefined(heap.pop())
  },
  { arbitrary: { runs: 300, size: 100 } }
)
