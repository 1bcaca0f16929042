/** `npm run top` on a real Kafka, as it is started. */
import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, inject } from "vitest"
import { runTop, topByNpm } from "./child.ts"

const state = mkdtempSync(join(tmpdir(), "quickstart-top-"))
afterAll(() => rmSync(state, { recursive: true, force: true }))

describe("npm run top on a real Kafka", () => {
  it("prints with --once what its consumers have done, and ends in order", async () => {
    const { code, stderr, stdout } = await runTop(
      ["--once", "--state", state],
      { KAFKA_BROKERS: inject("brokers").join(",") },
      topByNpm
    )
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0, stdout)
    const topic = /^Topic: (top-\w+);/m.exec(stdout)![1]
    assert.notInclude(stdout, "\u001b")
    assert.match(stdout, /^2 consumers, 6 partitions {2}\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/m)
    assert.match(stdout, /^shipping {2}(ok|degraded) {2}group/m)
    assert.match(stdout, /^invoices {2}ok {2}group/m)
    const done = [...stdout.matchAll(/^ {2}done ([\d,]+), ([\d,.]+)\/s {2}lag/gm)]
    assert.lengthOf(done, 2)
    for (const [, all, rate] of done) {
      assert.isAbove(Number(all!.replaceAll(",", "")), 0, stdout)
      assert.isAbove(Number(rate!.replaceAll(",", "")), 0, stdout)
    }
    const rows = [...stdout.matchAll(/^ {2}(\S+)\/(\d) +[\d,-]+ +[\d,]+\+? +\d+ +\d+ +\d+ +[\d,-]+ +[\d,.]+$/gm)]
    assert.deepStrictEqual(
      rows.map(([, name, partition]) => `${name}/${partition}`).sort(),
      ["0", "0", "1", "1", "2", "2"].map((partition) => `${topic}/${partition}`)
    )
  })
})
