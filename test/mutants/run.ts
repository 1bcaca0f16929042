/**
 * Breaks one rule of the engine after another and looks whether the simulator notices.
 *
 * Each `*.patch` here breaks one rule of `packages/core/src`, said in its first line. It is applied to a copy of the tree, never
 * to the tree itself, and histories are run on the copy until one fails. A mutant that survives all of them means that nothing
 * guards its rule any more; one that does not apply any more has to follow the source.
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
const seeds = seedsAt < 0 ? 600 : Number(args[seedsAt + 1])
const wanted = args.filter((arg, i) => !arg.startsWith("--") && (seedsAt < 0 || i !== seedsAt + 1))
/** far more than any mutant needs */
const limitMillis = 180_000

interface Outcome {
  readonly name: string
  readonly rule: string
  readonly status: "caught" | "survived" | "does not apply"
  readonly seed?: number | undefined
  readonly by?: string | undefined
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

const simulate = (tree: string): Promise<{ readonly code: number | null; readonly out: string }> =>
  new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      [join(tree, "test", "simulation", "main.ts"), "--seeds", String(seeds), "--bail", "--json", "--workers", "1"],
      { cwd: tree, stdio: ["ignore", "pipe", "pipe"] }
    )
    let out = ""
    child.stdout.on("data", (data: Buffer) => (out += String(data)))
    child.stderr.on("data", (data: Buffer) => (out += String(data)))
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMillis)
    child.once("close", (code) => {
      clearTimeout(timer)
      resolve({ code, out })
    })
  })

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
  const tree = join(home, name)
  mkdirSync(tree)
  copyTree(tree)
  // outside of any repository, so that nothing but this copy can be meant
  const applied = spawnSync("git", ["apply", "-C1", file], {
    cwd: tree,
    encoding: "utf8",
    env: { ...process.env, GIT_CEILING_DIRECTORIES: home, GIT_DIR: join(home, "none") }
  })
  if (applied.status !== 0) return done({ status: "does not apply", by: applied.stderr.trim().split("\n").at(-1) })
  const { code, out } = await simulate(tree)
  rmSync(tree, { recursive: true, force: true })
  if (code === 0) return done({ status: "survived" })
  // no history has failed so far, or it would have ended
  if (code === null) return done({ status: "survived", by: `not caught within ${limitMillis / 1000} s` })
  const last = out.trimEnd().split("\n").at(-1) ?? ""
  try {
    const { failed } = JSON.parse(last) as {
      failed: ReadonlyArray<{ seed: number; invariant: string; detail: string }>
    }
    const [first] = failed
    return done({ status: "caught", seed: first?.seed, by: `${first?.invariant}: ${first?.detail}` })
  } catch {
    return done({ status: "caught", by: last })
  }
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

const line = ({ by, name, seconds, seed, status }: Outcome): string =>
  `${status === "caught" ? "caught  " : status === "survived" ? "SURVIVED" : "STALE   "} ${name.padEnd(28)} ` +
  `${seed === undefined ? "" : `seed ${seed}`.padEnd(10)} ${seconds.toFixed(1).padStart(6)} s  ${(by ?? "").slice(0, 110)}`

process.stdout.write(`${patches.length} mutants, at most ${seeds} histories each\n`)
const queue = [...patches]
await Promise.all(
  Array.from({ length: Math.min(2, availableParallelism(), patches.length) }, async () => {
    for (let patch = queue.shift(); patch !== undefined; patch = queue.shift()) {
      const outcome = await tryMutant(patch, home)
      outcomes.push(outcome)
      process.stdout.write(`${line(outcome)}\n`)
    }
  })
)
outcomes.sort((a, b) => (a.name < b.name ? -1 : 1))
const caught = outcomes.filter((outcome) => outcome.status === "caught").length
const seconds = (Date.now() - began) / 1000
process.stdout.write(`\n${caught} of ${outcomes.length} mutants were caught, ${seconds.toFixed(0)} s\n`)
for (const { name, rule, status } of outcomes) {
  if (status !== "caught") process.stdout.write(`${status}: ${name}. ${rule}\n`)
}
if (args.includes("--json")) {
  process.stdout.write(
    `${JSON.stringify({ ok: caught === outcomes.length, mutants: outcomes.length, mutantsCaught: caught, outcomes, seconds })}\n`
  )
}
process.exitCode = caught === outcomes.length && outcomes.length > 0 ? 0 : 1
