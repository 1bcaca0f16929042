/** The example on the Kafka in memory. */
import { assert, describe, it } from "@effect/vitest"
import { runUntil } from "./child.ts"

describe("one at a time", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`${signal} in the middle: what has begun is finished and committed, nothing else is, and it exits with 0`, async () => {
      const { code, inTheMiddle, places, stderr } = await runUntil(9, signal)
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0)
      assert.isAbove(inTheMiddle, 0)
      const finished = places("finished")
      assert.sameMembers([...finished], [...places("begun")])
      assert.isBelow(finished.length, 100)
      const ofPartition = (partition: string) => finished.filter((place) => place.startsWith(`${partition}:`))
      const committed = places("committed").map((place) => place.split(":") as [string, string])
      assert.sameMembers(
        committed.map(([partition]) => partition),
        ["0", "1", "2", "3"]
      )
      for (const [partition, offset] of committed) {
        // all of them, in order, and no more than these
        assert.deepStrictEqual(
          ofPartition(partition),
          Array.from({ length: Number(offset) }, (_, i) => `${partition}:${i}`)
        )
      }
    })
  }

  it("of each partition one record at a time, of different ones at once", async () => {
    const { inTheMiddle, lines } = await runUntil(20, "SIGTERM")
    assert.isAbove(inTheMiddle, 1)
    for (const partition of ["0", "1", "2", "3"]) {
      const seen = lines.filter((line) => line.includes(` ${partition}:`) && !line.startsWith("committed"))
      assert.isAbove(seen.length, 4)
      assert.deepStrictEqual(
        seen,
        seen.map((_, i) => `${i % 2 === 0 ? "begun" : "finished"} ${partition}:${Math.floor(i / 2)}`)
      )
    }
  })
})
