/** The example as a process of its own, on the Kafka in memory. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { join } from "node:path"

const main = join(import.meta.dirname, "..", "src", "main.ts")

interface Ended {
  readonly code: number | null
  readonly stderr: string
  readonly lines: ReadonlyArray<string>
  /** Places of records, in the order of the lines that begin so. */
  readonly places: (word: "begun" | "finished" | "committed") => ReadonlyArray<string>
  /** Begun and not finished when the signal was sent. */
  readonly inTheMiddle: number
}

/** Ends it by a signal, in the middle of a record, when so many are finished. */
const runUntil = (finished: number, signal: NodeJS.Signals): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, KAFKA_BROKERS: "" }
    })
    let stdout = ""
    let stderr = ""
    let inTheMiddle = 0
    const places: Ended["places"] = (word) =>
      stdout
        .split("\n")
        .filter((line) => line.startsWith(`${word} `))
        .flatMap((line) => line.split(" ").slice(1))
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      const running = places("begun").length - places("finished").length
      if (inTheMiddle > 0 || running === 0 || places("finished").length < finished) return
      inTheMiddle = running
      child.kill(signal)
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, stderr, lines: stdout.split("\n"), places, inTheMiddle }))
  })

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
