/**
 * A few histories as part of the unit tests, and that a seed says everything: run again, here or in another process, it gives
 * the same history, byte for byte.
 */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { runHistory } from "./history.ts"
import { runSeeds } from "./pool.ts"

const main = fileURLToPath(new URL("main.ts", import.meta.url))

const inAnotherProcess = (seed: number): string => {
  const out = execFileSync(
    process.execPath,
    [main, "--seed", String(seed), "--seeds", "3", "--json", "--workers", "1"],
    {
      encoding: "utf8"
    }
  )
  return (JSON.parse(out.trimEnd().split("\n").at(-1)!) as { readonly hash: string }).hash
}

describe("simulation", () => {
  it("keeps every invariant in 60 histories", { timeout: 60_000 }, async () => {
    const results = await runSeeds({ seeds: Array.from({ length: 60 }, (_, i) => 1_000_001 + i), workers: 1 })
    const failed = results.filter((result) => result.violations.length > 0)
    assert.deepStrictEqual(
      failed.map(({ seed, violations }) => ({ seed, ...violations[0] })),
      []
    )
  })

  it("gives the same history for the same seed, also in another process", { timeout: 60_000 }, async () => {
    const once = await runHistory(77, false)
    const again = await runHistory(77, true)
    assert.strictEqual(again.hash, once.hash)
    assert.isAtLeast(again.trace.length, again.lines)
    const all = createHash("sha1")
    for (const seed of [77, 78, 79]) all.update((await runHistory(seed, false)).hash)
    assert.strictEqual(inAnotherProcess(77), all.digest("hex"))
    assert.notStrictEqual((await runHistory(78, false)).hash, once.hash)
  })
})
