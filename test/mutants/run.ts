/**
 * Breaks one rule of the engine after another and looks whether the simulator notices.
 *
 * Each `*.patch` here breaks one rule of `packages/core/src`, said in its first line. It is applied to a copy of the tree, never
 * to the tree itself, and histories are run on the copy until one fails. A mutant that survives all of them means that nothing
 * guards its rule any more; one that does not apply any more has to follow the source.
 *
 * Afterwards the histories up to the last one that caught a mutant are run on a copy that nothing was done to: what fails there says
 * nothing of a mutant.
 *
 *     npm run mutants                        all of them
 *     npm run mutants -- prefix eager        those whose names have one of these in them
 *     npm run mutants -- --seeds 500 --json
 */
import { spawn, spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(dirname(here))
const args = process.argv.slice(2)
const seedsAt = args.indexOf("--seeds")
const seeds = seedsAt < 0 ? 2000 : Number(args[seedsAt + 1])
const wanted = args.filter((arg, i) => !arg.startsWith("--") && (seedsAt < 0 || i !== seedsAt + 1))
/** far more than all histories need, also where others use the machine: one that never ends is given up on its own */
const limitMillis = 1_800_000
const atOnce = Math.min(2, availableParallelism())

interface Outcome {
  readonly name: string
  readonly rule: string
  readonly status: "caught" | "survived" | "does not apply" | "does not run"
  readonly seed?: number | undefined
  /** what the first history that failed has broken */
  readonly invariant?: string | undefined
  readonly detail?: string | undefined
  readonly seconds: number
}

/** What the simulation needs of the tree, with its links; what is installed is only linked. */
const copyTree = (to: string): void => {
  for (const name of ["package.json", "packages/core", "packages/testing", "test/package.json", "test/simulation"]) {
    cpSync(join(root, name), join(to, name), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => !/[/\\](node_modules|dist)([/\\]|$)/.test(file)
    })
  }
  for (const name of ["packages/core", "packages/testing", "test"]) {
    cpSync(join(root, name, "node_modules"), join(to, name, "node_modules"), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => !/[/\\]\.(vite|cache)([/\\]|$)/.test(file)
    })
  }
  symlinkSync(join(root, "node_modules"), join(to, "node_modules"), "dir")
}

interface Played {
  readonly failed: ReadonlyArray<{ readonly seed: number; readonly invariant: string; readonly detail: string }>
}

/** A text is why the histories did not come to an end. */
const simulate = (tree: string, histories: number, workers: number): Promise<Played | string> =>
  new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      [
        join(tree, "test", "simulation", "main.ts"),
        ...["--seeds", String(histories), "--workers", String(workers), "--bail", "--json"]
      ],
      { cwd: tree, stdio: ["ignore", "pipe", "pipe"] }
    )
    let out = ""
    child.stdout.on("data", (data: Buffer) => (out += String(data)))
    child.stderr.on("data", (data: Buffer) => (out += String(data)))
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMillis)
    child.once("close", (code) => {
      clearTimeout(timer)
      if (code === null) return resolve(`not through within ${limitMillis / 1000} s`)
      const last = out.trimEnd().split("\n").at(-1) ?? ""
      try {
        resolve(JSON.parse(last) as Played)
      } catch {
        resolve(last)
      }
    })
  })

const makeTree = (name: string, home: string): string => {
  const tree = join(home, name)
  mkdirSync(tree)
  copyTree(tree)
  return tree
}

const tryMutant = async (patch: string, home: string): Promise<Outcome> => {
  const began = Date.now()
  const name = patch.replace(/\.patch$/, "")
  const file = join(here, patch)
  const rule = readFileSync(file, "utf8").split("\n")[0]!
  const done = (rest: Omit<Outcome, "name" | "rule" | "seconds">): Outcome => ({
    name,
    rule,
    ...rest,
    seconds: (Date.now() - began) / 1000
  })
  const tree = makeTree(name, home)
  // outside of any repository, so that nothing but this copy can be meant
  const applied = spawnSync("git", ["apply", "-C1", file], {
    cwd: tree,
    encoding: "utf8",
    env: { ...process.env, GIT_CEILING_DIRECTORIES: home, GIT_DIR: join(home, "none") }
  })
  if (applied.status !== 0) return done({ status: "does not apply", detail: applied.stderr.trim().split("\n").at(-1) })
  const played = await simulate(tree, seeds, 1)
  rmSync(tree, { recursive: true, force: true })
  if (typeof played === "string") return done({ status: "does not run", detail: played })
  const [first] = played.failed
  return done(first === undefined ? { status: "survived" } : { status: "caught", ...first })
}

const patches = readdirSync(here)
  .filter((file) => file.endsWith(".patch") && (wanted.length === 0 || wanted.some((part) => file.includes(part))))
  .sort()
const home = mkdtempSync(join(tmpdir(), "mutants-"))
const outcomes: Array<Outcome> = []
const began = Date.now()
process.on("exit", () => {
  if (existsSync(home)) rmSync(home, { recursive: true, force: true })
})
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(130))

const words: Readonly<Record<Outcome["status"], string>> = {
  caught: "caught  ",
  survived: "SURVIVED",
  "does not apply": "STALE   ",
  "does not run": "BROKEN  "
}
const line = ({ detail, invariant, name, seconds, seed, status }: Outcome): string =>
  `${words[status]} ${name.padEnd(32)} ${seed === undefined ? "" : `seed ${seed}`.padEnd(10)} ` +
  `${seconds.toFixed(1).padStart(6)} s  ${(invariant ?? "").padEnd(10)} ${(detail ?? "").slice(0, 100)}`

/** How many of so many histories fail where nothing is broken. */
const unpatched = async (histories: number): Promise<number> => {
  const tree = makeTree("unpatched", home)
  const played = await simulate(tree, histories, atOnce)
  rmSync(tree, { recursive: true, force: true })
  if (typeof played === "string") {
    process.stdout.write(`the histories do not run: ${played}\n`)
    return histories
  }
  for (const { detail, invariant, seed } of played.failed) {
    process.stdout.write(`seed ${seed} fails without any mutant: ${invariant}: ${detail}\n`)
  }
  return played.failed.length
}

process.stdout.write(`${patches.length} mutants, at most ${seeds} histories each\n`)
const queue = [...patches]
await Promise.all(
  Array.from({ length: Math.min(atOnce, patches.length) }, async () => {
    for (let patch = queue.shift(); patch !== undefined; patch = queue.shift()) {
      const outcome = await tryMutant(patch, home)
      outcomes.push(outcome)
      process.stdout.write(`${line(outcome)}\n`)
    }
  })
)
const needed = Math.max(1, ...outcomes.map(({ seed }) => seed ?? 0))
const failures = await unpatched(needed)
if (failures === 0) process.stdout.write(`without any of them the ${needed} histories hold that it took\n`)
outcomes.sort((a, b) => (a.name < b.name ? -1 : 1))
const caught = outcomes.filter((outcome) => outcome.status === "caught").length
const ok = failures === 0 && patches.length > 0 && caught === patches.length
const seconds = (Date.now() - began) / 1000
process.stdout.write(`\n${caught} of ${patches.length} mutants were caught, ${seconds.toFixed(0)} s\n`)
for (const { name, rule, status } of outcomes) {
  if (status !== "caught") process.stdout.write(`${status}: ${name}. ${rule}\n`)
}
if (args.includes("--json")) {
  process.stdout.write(
    `${JSON.stringify({ ok, seeds, failures, mutants: patches.length, mutantsCaught: caught, outcomes, seconds })}\n`
  )
}
process.exitCode = ok ? 0 : 1
