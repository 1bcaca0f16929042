/**
 * npm run simulate                              200 histories; `npm test` has 500, CI 10,000
 * npm run simulate -- --seeds 2000 --seed 1     so many, from this seed on
 * npm run simulate -- --seed 4711 --seeds 1 --verbose    one of them, with its timeline
 * npm run simulate -- --seed 4711 --seeds 1 --skip 3,7-9 --members 2 --burst 1    without some of its steps, members, records
 * npm run simulate -- --json                    a last line for programs
 *
 * Of the first three that fail the shortest history that fails in the same way is looked for, and shown. From 2,000 histories on it is a
 * failure, too, when a row of the engine's tables was not taken, or less than 5 % of them have something of a kind.
 *
 * npm run simulate -- --bail --workers 1        end at the first failure; on so many threads
 */
import { createHash } from "node:crypto"
import { machineRows } from "@concurrent-kafka/core/Diagnostics"
import type { Result } from "./history.ts"
import { type Counts, leastShare, sharesOf } from "./coverage.ts"
import { runSeeds } from "./pool.ts"
import { missingRows, unreachable } from "./rows.ts"
import type { Cut } from "./schedule.ts"
import { readSkip, shrinkHistory } from "./shrink.ts"
import { replayOf, tell } from "./tell.ts"

const args = process.argv.slice(2)
const flag = (name: string): boolean => args.includes(`--${name}`)
const number = (name: string, fallback: number): number => {
  const at = args.findIndex((arg) => arg === `--${name}` || arg.startsWith(`--${name}=`))
  if (at < 0) return fallback
  const text = args[at]!.includes("=") ? args[at]!.slice(args[at]!.indexOf("=") + 1) : args[at + 1]
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) {
    process.stderr.write(`--${name} wants a number\n`)
    process.exit(2)
  }
  return value
}

const words = (name: string): string | undefined => {
  const at = args.findIndex((arg) => arg === `--${name}` || arg.startsWith(`--${name}=`))
  if (at < 0) return undefined
  return args[at]!.includes("=") ? args[at]!.slice(args[at]!.indexOf("=") + 1) : (args[at + 1] ?? "")
}
const optional = (name: string): number | undefined => (words(name) === undefined ? undefined : number(name, 0))

const print = (text = ""): void => void process.stdout.write(`${text}\n`)
const seeds = number("seeds", 200)
const first = number("seed", 1)
const verbose = flag("verbose")
const shownLines = 60
/** of how many a shorter history is looked for, and for how long each */
const shrunkHistories = 3
const shrinkMillis = 20_000
/** a history takes some 60 ms; one that goes round in a circle never ends */
const historyMillis = 60_000
/** from so many on it says something about the histories when they have not reached something */
const tellingSeeds = 2_000
const skip = readSkip(words("skip") ?? "")
if (skip === undefined) {
  process.stderr.write("--skip wants numbers of steps, as in 3,7-9\n")
  process.exit(2)
}
const cut: Cut = { skip, members: optional("members"), burst: optional("burst") }
const whole = skip.size === 0 && cut.members === undefined && cut.burst === undefined
/** with `--bail` somebody waits for the first failure, and a replay is short already */
const shrinks = !flag("bail") && !verbose && whole

const report = (result: Result): void => {
  print()
  for (const { at, detail, invariant } of result.violations.slice(0, 3)) {
    print(`seed ${result.seed} FAILED at ${(at - 1_000_000) / 1000} s: ${invariant}: ${detail}`)
  }
  if (!verbose && !shrinks) for (const line of result.trace.slice(-shownLines)) print(`  ${line}`)
  print(`  replay: ${replayOf(result.seed, cut)}`)
}

const table = (title: string, rows: ReadonlyArray<readonly [name: string, value: number | string]>): void => {
  print(`\n${title}`)
  const cells = rows.map(([name, value]) => `${name.padEnd(26)} ${String(value).padStart(9)}`)
  const columns = 3
  const height = Math.ceil(cells.length / columns)
  for (let i = 0; i < height; i++) {
    print(
      `  ${Array.from({ length: columns }, (_, c) => cells[i + c * height] ?? "")
        .join("   ")
        .trimEnd()}`
    )
  }
}

const began = Date.now()
print(`${seeds} histories, seeds ${first} to ${first + seeds - 1}`)
let reported = 0
const results = await runSeeds({
  seeds: Array.from({ length: seeds }, (_, i) => first + i),
  verbose,
  cut,
  bail: flag("bail"),
  limitMillis: historyMillis,
  workers: args.some((arg) => arg.startsWith("--workers")) ? number("workers", 1) : undefined,
  onResult: (result) => {
    if (verbose) for (const line of result.trace) print(line)
    if (result.violations.length > 0 && reported++ < 5) report(result)
  }
})
const seconds = (Date.now() - began) / 1000
for (const result of shrinks
  ? results.filter(({ hash, violations }) => violations.length > 0 && hash !== "").slice(0, shrunkHistories)
  : []) {
  print()
  for (const line of tell(await shrinkHistory(result, { budgetMillis: shrinkMillis }))) print(line)
}

const counts: Counts = {}
const hash = createHash("sha1")
for (const result of results) {
  hash.update(result.hash)
  for (const [name, times] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + times
}
const of = (kind: string): Array<[string, number]> =>
  Object.entries(counts)
    .filter(([name]) => name.startsWith(`${kind} `))
    .map(([name, count]): [string, number] => [name.slice(kind.length + 1), count])
    .sort(([a], [b]) => (a < b ? -1 : 1))
const failures = results.filter((result) => result.violations.length > 0)
const missing = missingRows(counts)
const digest = hash.digest("hex")
const shares = sharesOf(results.map((result) => result.counts))
const rare = shares.filter(([, share]) => share < leastShare)
const complete = results.length < tellingSeeds || !whole || (missing.length === 0 && rare.length === 0)
const ok = failures.length === 0 && complete
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
const rows = Object.fromEntries(
  Object.entries(machineRows).map(([machine, names]) => [
    machine,
    Object.fromEntries(names.map((name) => [name, counts[`${machine} ${name}`] ?? 0]))
  ])
)

if (!verbose) {
  for (const [machine, taken] of Object.entries(rows)) table(`Rows of the ${machine} machine`, Object.entries(taken))
  table("Faults", of("fault"))
  table("What happened", of("action"))
  table(
    "In how many of the histories",
    shares.map(([kind, share]) => [kind, percent(share)])
  )
}
print(`\n${missing.length === 0 ? "Every row was taken" : `Rows not taken: ${missing.join(", ")}`}`)
if (rare.length > 0) print(`Rare: ${rare.map(([kind, share]) => `${kind} (${percent(share)})`).join(", ")}`)
for (const [row, why] of Object.entries(unreachable)) print(`  ${row} cannot be: ${why}`)
const sum = (of: (result: Result) => number): number => results.reduce((all, result) => all + of(result), 0)
print(
  `\n${results.length} histories, ${failures.length} failed; ${sum((r) => r.records)} records, ` +
    `${Math.round(sum((r) => r.virtualMillis) / 3_600_000)} hours of virtual time, ${seconds.toFixed(1)} s; trace ${digest.slice(0, 12)}`
)
if (failures.length > 0) print(`seeds that failed: ${failures.map((result) => result.seed).join(" ")}`)
if (!complete) print("FAILED: the histories do not have enough of everything in them, see above")
if (flag("json")) {
  print(
    JSON.stringify({
      ok,
      seeds: results.length,
      base: first,
      failures: failures.length,
      failed: failures.map(({ seed, violations }) => ({ seed, ...violations[0] })),
      rows,
      missing,
      unreachable,
      rare: rare.map(([kind]) => kind),
      shares: Object.fromEntries(shares),
      faults: Object.fromEntries(of("fault")),
      actions: Object.fromEntries(of("action")),
      hash: digest,
      seconds
    })
  )
}
process.exitCode = ok ? 0 : 1
