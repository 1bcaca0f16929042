/**
 * A few histories as part of the unit tests, and that a seed says everything: run again, here or in another process, it gives
 * the same history, byte for byte.
 */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { type Result, runHistory } from "./history.ts"
import { runSeeds } from "./pool.ts"
import { least } from "./schedule.ts"
import { printSkip, readSkip, shrinkHistory } from "./shrink.ts"
import { tell } from "./tell.ts"

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
    for (const { faults, members, partitions, records, seed } of results) {
      assert.isAtLeast(members, least.members, `members of ${seed}`)
      assert.isAtLeast(partitions, least.partitions, `partitions of ${seed}`)
      assert.isAtLeast(records, least.records, `records of ${seed}`)
      assert.isAtLeast(faults, least.faults, `faults of ${seed}`)
    }
  })

  it("gives the same history for the same seed, also in another process", { timeout: 60_000 }, async () => {
    const once = await runHistory(77)
    const again = await runHistory(77, { verbose: true })
    assert.strictEqual(again.hash, once.hash)
    assert.isAtLeast(again.trace.length, again.lines)
    const all = createHash("sha1")
    for (const seed of [77, 78, 79]) all.update((await runHistory(seed)).hash)
    assert.strictEqual(inAnotherProcess(77), all.digest("hex"))
    assert.notStrictEqual((await runHistory(78)).hash, once.hash)
  })

  it("shows of a failure a short history, which can be replayed", { timeout: 120_000 }, async () => {
    // what happens in any longer history is taken for a failure
    const forbids = "partition P15"
    const seeds = Array.from({ length: 30 }, (_, i) => 4_000 + i)
    let failed: Result | undefined
    for (const seed of seeds) {
      const result = await runHistory(seed, { forbids })
      if (result.violations.length > 0 && result.schedule.length > 60) failed = result
      if (failed !== undefined) break
    }
    assert.isDefined(failed)
    const shrunk = await shrinkHistory(failed, { forbids, budgetMillis: 60_000 })
    assert.isBelow(shrunk.steps, 12)
    assert.strictEqual(shrunk.result.violations[0]?.invariant, "forbidden")
    const skip = readSkip(printSkip(shrunk.cut.skip!))
    const hashes = []
    for (const _ of [1, 2]) hashes.push((await runHistory(failed.seed, { ...shrunk.cut, skip, forbids })).hash)
    assert.deepStrictEqual(hashes, [shrunk.result.hash, shrunk.result.hash])

    const told = tell(shrunk)
    assert.include(told[0]!, `${shrunk.steps} steps left`)
    assert.include(told[1]!, `--seed ${failed.seed} --seeds 1 --verbose --skip ${printSkip(shrunk.cut.skip!)}`)
    assert.include(told.at(-1)!, "forbidden is broken: partition P15")
    assert.isTrue(told.some((line) => line.includes("joins")))
    assert.isBelow(told.length, 120)
  })

  it("takes a history that does not end for one that fails", { timeout: 60_000 }, async () => {
    const [result] = await runSeeds({ seeds: [1], limitMillis: 1 })
    assert.deepStrictEqual(
      result!.violations.map(({ detail, invariant }) => [invariant, detail]),
      [["end", "the history does not end within 0.001 s"]]
    )
  })

  it("reads the steps that are left out as it prints them, and nothing else", () => {
    const skip = new Set([0, 1, 2, 5, 9, 8])
    assert.strictEqual(printSkip(skip), "0-2,5,8-9")
    assert.deepStrictEqual([...readSkip("0-2,5,8-9")!], [0, 1, 2, 5, 8, 9])
    for (const text of ["x", "1-", "-3", "1-2-3", "1 2"]) assert.isUndefined(readSkip(text), text)
  })
})
