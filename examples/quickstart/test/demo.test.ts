/** The demo without any Kafka. */
import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import { runDemo } from "./child.ts"

const state = mkdtempSync(join(tmpdir(), "quickstart-"))
afterAll(() => rmSync(state, { recursive: true, force: true }))

describe("the demo on the in-memory Kafka", () => {
  it("handles and commits everything, and says that it was no real Kafka", { timeout: 30_000 }, async () => {
    const { code, json, stderr, stdout } = await runDemo(["--memory", "--records", "300", "--json", "--state", state])
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.include(stdout, "IN MEMORY")
    assert.include(stdout, "--resume is not possible")
    const { commits, seconds, timesFaster, ...rest } = json
    assert.deepStrictEqual(rest, {
      kafka: "memory",
      records: 300,
      handledTwice: 0,
      lost: 0,
      committedIsEnd: true
    })
    assert.isAbove(commits, 0)
    assert.isAbove(seconds, 0)
    assert.isAbove(timesFaster, 5)
  })

  it("ends within a second after SIGINT, with what is done committed", { timeout: 30_000 }, async () => {
    const flags = ["--memory", "--records", "1000", "--json", "--state", state]
    const { code, json, millisToEnd, stderr, stdout } = await runDemo(flags, { interruptAt: "50 at a time" })
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 130)
    assert.isBelow(millisToEnd, 1000)
    assert.match(stdout, /Stopped: \d+ of 1000 records handled, [1-9]\d* committed, 0 lost/)
    assert.isFalse(json.committedIsEnd)
  })

  it("refuses flags that it does not know, and --resume without anything to resume", async () => {
    const unknown = await runDemo(["--record", "3"])
    assert.strictEqual(unknown.code, 1)
    assert.include(unknown.stderr, "--records N")
    const nothing = await runDemo(["--resume", "--state", join(state, "empty")])
    assert.strictEqual(nothing.code, 1)
    assert.include(nothing.stderr, "nothing to resume")
  })
})
