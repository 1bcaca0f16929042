import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { Rounds } from "../src/internal/rounds.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("push"), rank: between(0, 20) }),
  Schema.Struct({ do: Schema.Literal("take"), below: between(0, 30), again: Schema.Boolean })
])

it.prop(
  "nothing is lost, what is below the limit is found, and nobody has its turn twice while another waits that could have it",
  [Schema.Array(Step).check(Schema.isMaxLength(400))],
  ([steps]) => {
    interface Item {
      readonly rank: number
      /** how often younger or older ones had their turn twice since it waits */
      readonly had: Map<Item, number>
    }
    const rounds = new Rounds<Item>(({ rank }) => rank)
    const waiting = new Set<Item>()
    const come = (item: Item): void => {
      item.had.clear()
      waiting.add(item)
      rounds.push(item)
    }
    for (const step of steps) {
      if (step.do === "push") come({ rank: step.rank, had: new Map() })
      else {
        const may = [...waiting].filter(({ rank }) => rank < step.below)
        const first = rounds.first(step.below)
        assert.strictEqual(first !== undefined, may.length > 0)
        if (first !== undefined) {
          assert.include(may, first)
          rounds.pop()
          waiting.delete(first)
          for (const other of waiting) {
            // a limit keeps it back: its time counts from when it could have had its turn
            if (other.rank >= step.below) other.had.clear()
            else {
              const times = (other.had.get(first) ?? 0) + 1
              other.had.set(first, times)
              assert.isAtMost(times, 2)
            }
          }
          if (step.again) come(first)
        }
      }
      assert.strictEqual(rounds.size, waiting.size)
      assert.sameMembers([...rounds.all], [...waiting])
    }
    rounds.clear()
    assert.strictEqual(rounds.size, 0)
    assert.isUndefined(rounds.first(Number.POSITIVE_INFINITY))
  },
  { arbitrary: { runs: 300, size: 100 } }
)

describe("rounds", () => {
  it("the smallest first; what comes back at once waits until the others had their turn", () => {
    const rounds = new Rounds<number>((n) => n)
    for (const n of [3, 1, 2]) rounds.push(n)
    const order: Array<number> = []
    for (let i = 0; i < 9; i++) {
      const n = rounds.first(Number.POSITIVE_INFINITY)!
      rounds.pop()
      order.push(n)
      rounds.push(n)
    }
    assert.deepStrictEqual(order, [1, 2, 3, 1, 2, 3, 1, 2, 3])
  })
})
