/** The example on a real Kafka, which remembers what one run has committed for the next. */
import { assert, describe, it } from "@effect/vitest"
import { inject } from "vitest"
import { runUntil } from "./child.ts"

describe("one at a time, on a real Kafka", () => {
  it("SIGTERM in the middle, and again: the next run goes on behind what was finished, nothing is begun twice", async () => {
    const runs = [await runUntil(9, "SIGTERM", inject("brokers")), await runUntil(9, "SIGTERM", inject("brokers"))]
    for (const { code, inTheMiddle, places, stderr } of runs) {
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0)
      assert.isAbove(inTheMiddle, 0)
      assert.sameMembers([...places("finished")], [...places("begun")])
    }
    const begun = runs.flatMap(({ places }) => places("begun"))
    for (const place of runs[1]!.places("committed")) {
      const [partition, committed] = place.split(":")
      const ofPartition = begun.filter((one) => one.startsWith(`${partition}:`))
      // where the group was before, if somebody has run it there
      const first = Number(ofPartition[0]!.split(":")[1])
      assert.deepStrictEqual(
        ofPartition,
        Array.from({ length: Number(committed) - first }, (_, i) => `${partition}:${first + i}`)
      )
    }
  })
})
