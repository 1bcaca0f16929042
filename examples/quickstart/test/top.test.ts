/** `npm run top` without any Kafka. */
import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import { runTop } from "./child.ts"

const state = mkdtempSync(join(tmpdir(), "quickstart-top-"))
afterAll(() => rmSync(state, { recursive: true, force: true }))

describe("npm run top on the in-memory Kafka", () => {
  it("prints a plain block with --once", { timeout: 30_000 }, async () => {
    const { code, stderr, stdout } = await runTop(["--once", "--memory", "--state", state])
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.include(stdout, "IN MEMORY")
    assert.match(stdout, /^2 consumers, 6 partitions /m)
    assert.notInclude(stdout, "\u001b")
  })

  it("refuses flags that it does not know, and says which there are", async () => {
    const { code, stderr } = await runTop(["--one"])
    assert.strictEqual(code, 1)
    assert.include(stderr, "--once")
  })
})
