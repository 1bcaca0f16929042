/** The demo on a real Kafka: one that is there, and one that it starts itself and that keeps its data for `--resume`. */
import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, inject } from "vitest"
import { runDemo } from "./child.ts"

const folder = mkdtempSync(join(tmpdir(), "quickstart-"))
// the broker of the last demo may still be ending in there
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
const concurrency = 50
const records = 1500

const interruptAndResume = async (name: string, brokers: ReadonlyArray<string>) => {
  const state = join(folder, name)
  const first = await runDemo(["--records", String(records), "--json", "--state", state], {
    brokers,
    interruptAt: "50 at a time"
  })
  assert.strictEqual(first.stderr, "")
  assert.strictEqual(first.code, 130)
  assert.isBelow(first.millisToEnd, 1000)
  assert.isFalse(first.json.committedIsEnd)
  assert.strictEqual(first.json.lost, 0)

  const second = await runDemo(["--resume", "--json", "--state", state], { brokers })
  assert.strictEqual(second.stderr, "")
  assert.strictEqual(second.code, 0, second.stdout)
  assert.strictEqual(second.json.kafka, name)
  assert.strictEqual(second.json.records, records)
  assert.isTrue(second.json.committedIsEnd)
  assert.strictEqual(second.json.lost, 0)
  assert.isAtMost(second.json.handledTwice, concurrency)
}

describe("the demo on a real Kafka", () => {
  it("handles and commits everything, as a second client sees it", async () => {
    const state = join(folder, "whole")
    const flags = ["--records", "300", "--json", "--state", state]
    const { code, json, stderr, stdout } = await runDemo(flags, { brokers: inject("brokers") })
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0, stdout)
    const { commits, seconds, timesFaster, ...rest } = json
    assert.deepStrictEqual(rest, { kafka: "env", records: 300, handledTwice: 0, lost: 0, committedIsEnd: true })
    assert.isAbove(commits, 0)
    assert.isAbove(seconds, 0)
    assert.isAbove(timesFaster, 5)
  })

  it("stops on SIGINT within a second and goes on with --resume, on a Kafka that is there", () =>
    interruptAndResume("env", inject("brokers")))

  it.skipIf(!inject("folder"))("the same on a Kafka of its own, which starts again on its data", () =>
    interruptAndResume("java", [])
  )
})
