// The one launcher behind every npm script: node scripts/run.mjs <task> [args].
// It is plain JavaScript without dependencies, because it must run on Node 20 before anything is installed: it installs
// what the lock file names, then runs the task on the Node 24 that came with it.
import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { constants } from "node:os"
import { delimiter, dirname, join, relative } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { stripVTControlCharacters } from "node:util"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, "node_modules")
const reports = join(root, ".cache", "reports")
const pnpmVersion = "12.21.0"
const oldestNode = [22, 19]
/** `npm test` ends by then, whatever hangs. */
const testLimitSeconds = 585

const read = (path) => JSON.parse(readFileSync(path, "utf8"))
const ending = process.platform === "win32" ? ".exe" : ""
const fail = (message) => {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

// ---------------------------------------------------------------------------------------------------------------------
// Dependencies
// ---------------------------------------------------------------------------------------------------------------------

const workspaceFolders = () =>
  ["packages", "examples"]
    .flatMap((folder) =>
      existsSync(join(root, folder)) ? readdirSync(join(root, folder)).map((name) => join(root, folder, name)) : []
    )
    .concat(join(root, "test"))
    .filter((folder) => existsSync(join(folder, "package.json")))
    .sort((a, b) => (a < b ? -1 : 1))

const fingerprint = () => {
  const hash = createHash("sha256").update(`pnpm ${pnpmVersion} ${process.platform} ${process.arch}\n`)
  const files = [root, ...workspaceFolders()].map((folder) => join(folder, "package.json"))
  for (const file of [join(root, "pnpm-lock.yaml"), join(root, "pnpm-workspace.yaml"), ...files]) {
    hash.update(`${file.slice(root.length)}\n`).update(readFileSync(file))
  }
  return hash.digest("hex")
}

const pnpm = () => {
  const major = pnpmVersion.split(".")[0]
  // an installed one of the same major version does: it saves the download. COREPACK_*: never ask on a terminal that may not be there
  const installed = spawnSync("pnpm", ["--version"], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    shell: process.platform === "win32",
    env: { ...process.env, COREPACK_ENABLE_DOWNLOAD_PROMPT: "0" }
  })
  if (installed.status === 0 && installed.stdout.trim().split(".")[0] === major) return ["pnpm"]
  return ["npx", "--yes", `pnpm@${pnpmVersion}`]
}

const ensureInstalled = async () => {
  const stamp = join(modules, ".install-stamp")
  const wanted = fingerprint()
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return
  process.stderr.write("Installing dependencies ...\n")
  const [command, ...first] = pnpm()
  // CI=true: pnpm asks nothing, also when it must replace a node_modules that something else has made
  const result = await run(
    command,
    [...first, "install", "--frozen-lockfile", "--reporter=append-only", "--loglevel=error"],
    {
      stdio: ["ignore", 2, 2],
      env: { ...process.env, CI: "true" },
      shell: process.platform === "win32"
    }
  )
  if (result.code !== 0) {
    fail(
      "The dependencies could not be installed. If a package.json was changed, the lock file must follow: " +
        `npx pnpm@${pnpmVersion} install`
    )
  }
  writeFileSync(stamp, wanted)
}

const atLeast = ([major, minor], version) => {
  const [ours, oursMinor] = version.split(".").map(Number)
  return ours > major || (ours === major && oursMinor >= minor)
}

const nodeBinary = () => {
  const installed = join(modules, "node", "bin", `node${ending}`)
  if (existsSync(installed)) return installed
  if (atLeast(oldestNode, process.versions.node)) return process.execPath
  return fail(
    `Node ${oldestNode.join(".")} or newer is needed. The one of the package "node" is not there (are install scripts switched ` +
      `off?), and this is ${process.versions.node}.`
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// Processes
// ---------------------------------------------------------------------------------------------------------------------

/** The signal that told this launcher to end: it goes to the running child, and nothing new is started. */
let signalled
let child
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    signalled = signal
    if (child === undefined) process.exit(128 + constants.signals[signal])
    tell(child, signal)
  })
}

// The window has another size: a terminal tells that to its own process group only, and a child has another one.
if (process.platform !== "win32") {
  process.on("SIGWINCH", () => {
    if (child !== undefined) tell(child, "SIGWINCH")
  })
}

// A child has a process group of its own. So a Ctrl-C, which a terminal sends to the whole group of this launcher, reaches it
// once, from here; and what it has started itself, such as test workers, is told too.
const grouped = process.platform !== "win32"

const tell = ({ pid }, signal) => {
  try {
    process.kill(grouped ? -pid : pid, signal)
  } catch {
    // already gone
  }
}

const run = (command, args, { seconds, ...options } = {}) =>
  new Promise((resolve) => {
    const started = Date.now()
    const running = spawn(command, args, { cwd: root, stdio: "inherit", detached: grouped, ...options })
    let late = false
    let timers = []
    const end = (code, note) => {
      timers.forEach(clearTimeout)
      child = undefined
      if (signalled !== undefined || late) tell(running, "SIGTERM")
      resolve({ code, note: late ? "took too long" : note, seconds: (Date.now() - started) / 1000 })
    }
    const stop = (signal) => () => {
      late = true
      tell(running, signal)
    }
    running.once("spawn", () => {
      child = running
      if (seconds === undefined) return
      timers = [setTimeout(stop("SIGTERM"), seconds * 1000), setTimeout(stop("SIGKILL"), seconds * 1000 + 10_000)]
    })
    running.once("error", (error) => end(127, error.message))
    running.once("exit", (code, signal) =>
      end(late ? 1 : (code ?? 128 + constants.signals[signal]), signal ?? undefined)
    )
  })

/** Runs a JavaScript or TypeScript file on Node 24, with that Node first on the path for what it starts itself. */
const runFile = (file, args, options) =>
  existsSync(join(root, file))
    ? run(nodeBinary(), [join(root, file), ...args], {
        ...options,
        env: {
          ...process.env,
          ...options?.env,
          PATH: [dirname(nodeBinary()), join(modules, ".bin"), process.env.PATH].join(delimiter)
        }
      })
    : Promise.resolve({ code: 1, note: `${file} is missing`, seconds: 0 })

const tool = (name, bin = name) => {
  const manifest = read(join(modules, name, "package.json"))
  return join("node_modules", name, typeof manifest.bin === "string" ? manifest.bin : manifest.bin[bin])
}

// ---------------------------------------------------------------------------------------------------------------------
// Tasks
// ---------------------------------------------------------------------------------------------------------------------

const vitest = (project, args, options, name = project) => {
  mkdirSync(reports, { recursive: true })
  const report = join(reports, `${name}.json`)
  rmSync(report, { force: true })
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`]
  const running = runFile(tool("vitest"), ["run", "--project", project, ...reporters, ...args], options)
  return running.then((result) => ({
    ...result,
    note: result.note ?? counts(report, result.code),
    failures: failures(report),
    vitest: true
  }))
}

/** What failed, a line each: so that the end of a long output says it. */
const failures = (report) => {
  if (!existsSync(report)) return []
  return read(report).testResults.flatMap(({ name, message, assertionResults }) => {
    const file = relative(root, name)
    const failed = assertionResults.filter((test) => test.status === "failed")
    const line = (title, text) => `${title}: ${stripVTControlCharacters(text ?? "").split("\n")[0]}`
    if (failed.length === 0) return message ? [line(file, message)] : []
    return failed.map((test) => line(`${file} > ${test.fullName}`, test.failureMessages[0]))
  })
}

const counts = (report, code) => {
  if (!existsSync(report)) return undefined
  const { numFailedTests: failed, numPassedTests: passed, numPendingTests: skipped } = read(report)
  const why = code !== 0 && failed === 0 ? "; what failed is no test: see above" : ""
  return `${passed} passed, ${failed} failed, ${skipped} skipped${why}`
}

const publicPackages = () => workspaceFolders().filter((folder) => read(join(folder, "package.json")).private !== true)

const parts = {
  check: (options) => runFile(tool("typescript", "tsc"), ["-b"], options),
  lint: (options) => runFile(tool("oxlint"), ["--type-aware", "--deny-warnings"], options),
  format: (options) => runFile(tool("oxfmt"), ["--check"], options),
  imports: (options) => runFile("scripts/check-imports.ts", [], options),
  unit: (options) => vitest("unit", [], options),
  // tstyche needs TypeScript's JavaScript API, which version 7 does not have: without a version 6 to use it would fetch one
  types: (options) => {
    const api = pathToFileURL(join(modules, "typescript-6", "lib", "typescript.js")).href
    return runFile(tool("tstyche"), [], { ...options, env: { TSTYCHE_TYPESCRIPT_MODULE: api } })
  },
  simulate: (options) => runFile("test/simulation/main.ts", ["--seeds", "500"], options),
  browser: (options) => vitest("browser", [], options),
  broker: async (options) => {
    const result = await vitest("broker", [], options)
    // which client has run what, and what none may leave out
    const table = await runFile("scripts/clients.ts", [], { ...options, seconds: undefined })
    return result.code === 0 && table.code !== 0
      ? {
          ...result,
          code: table.code,
          note: `${result.note ?? ""}; a client was not tried with all that none may leave out`
        }
      : result
  },
  measuring: (options) => vitest("measuring", [], options),
  coverage: (options) => vitest("unit", ["--coverage", "packages/core/test"], options, "coverage")
}
/** Only when asked for: it runs again what `unit` has run, slower. */
const aside = ["coverage"]

/** Runs all steps, also after one has failed, and says at the end how each went. */
const steps = async (entries, { json = false, limit, report } = {}) => {
  const started = Date.now()
  const results = []
  for (const [name, step] of entries) {
    if (signalled !== undefined) break
    process.stdout.write(`\n== ${name}\n`)
    const left = limit === undefined ? undefined : Math.max(1, limit - (Date.now() - started) / 1000)
    results.push({ name, ...(await step({ seconds: left, stdio: ["ignore", "inherit", "inherit"] })) })
  }
  const ok = signalled === undefined && results.every((result) => result.code === 0)
  process.stdout.write("\n")
  for (const { code, failures = [], name, note, seconds } of results) {
    const outcome = code === 0 ? "ok    " : "FAILED"
    process.stdout.write(
      `${outcome} ${name.padEnd(11)} ${seconds.toFixed(1).padStart(6)} s${note === undefined ? "" : `  ${note}`}\n`
    )
    for (const failure of failures) process.stdout.write(`         ${failure}\n`)
  }
  const summary = JSON.stringify({
    ok,
    seconds: (Date.now() - started) / 1000,
    steps: results.map(({ code, ...step }) => ({ ok: code === 0, ...step }))
  })
  if (report !== undefined) {
    mkdirSync(reports, { recursive: true })
    writeFileSync(join(reports, report), `${summary}\n`)
  }
  if (json) process.stdout.write(`${summary}\n`)
  return { code: signalled !== undefined ? 128 + constants.signals[signalled] : ok ? 0 : 1 }
}

const pick = (...names) => names.map((name) => [name, parts[name]])

/**
 * npm test                          everything
 * npm test -- --only check,unit     some steps
 * npm test -- Offset -t "no hole"   what vitest understands: the tests that match
 * npm test -- --json                a last line for programs
 */
const test = (args) => {
  const rest = args.filter((arg) => arg !== "--json")
  const json = rest.length < args.length
  const at = rest.findIndex((arg) => arg === "--only" || arg.startsWith("--only="))
  if (at >= 0) {
    const names = (rest[at].startsWith("--only=") ? rest[at].slice("--only=".length) : (rest[at + 1] ?? "")).split(",")
    const unknown = names.filter((name) => parts[name] === undefined)
    if (unknown.length > 0) fail(`No step ${unknown.join(", ")}. There are: ${Object.keys(parts).join(", ")}`)
    return steps(pick(...names), { json, limit: testLimitSeconds })
  }
  if (rest.length > 0) {
    const matching = (project) => [project, (options) => vitest(project, [...rest, "--passWithNoTests"], options)]
    return steps([matching("unit"), matching("browser"), matching("broker"), matching("measuring")], {
      json,
      limit: testLimitSeconds
    })
  }
  const all = Object.keys(parts).filter((name) => !aside.includes(name))
  return steps(pick(...all), { json, limit: testLimitSeconds, report: "test.json" })
}

const tasks = {
  test,
  demo: (args) => runFile("examples/quickstart/src/main.ts", args),
  top: (args) => runFile("examples/quickstart/src/top.ts", args),
  // npm run example -- one-at-a-time
  example: ([name, ...args]) => {
    const names = readdirSync(join(root, "examples")).filter((entry) =>
      existsSync(join(root, "examples", entry, "src", "main.ts"))
    )
    if (!names.includes(name)) fail(`Which example? There are: ${names.join(", ")}`)
    return runFile(`examples/${name}/src/main.ts`, args)
  },
  simulate: (args) => runFile("test/simulation/main.ts", args),
  mutants: (args) => runFile("test/mutants/run.ts", args),
  chaos: (args) => runFile("test/chaos/main.ts", args),
  covers: (args) => runFile("examples/task-notifications/test/covers.ts", args),
  kills: (args) => runFile("examples/task-notifications/test/kills.ts", args),
  bench: (args) => runFile("packages/bench/src/main.ts", args),
  check: (args) => runFile(tool("typescript", "tsc"), ["-b", ...args]),
  lint: () => steps(pick("lint", "format", "imports")),
  format: (args) => runFile(tool("oxfmt"), args),
  build: (args) => {
    // what is left there of a module that is gone would be published
    for (const folder of publicPackages()) rmSync(join(folder, "dist"), { recursive: true, force: true })
    return runFile(tool("typescript", "tsc"), ["-b", ...publicPackages(), ...args])
  }
}

const [name, ...args] = process.argv.slice(2)
if (name === undefined || !Object.hasOwn(tasks, name)) {
  fail(`Usage: node scripts/run.mjs <task> [args]. Tasks: ${Object.keys(tasks).join(", ")}`)
}
await ensureInstalled()
const result = await tasks[name](args[0] === "--" ? args.slice(1) : args)
if (result.code !== 0 && result.note !== undefined) process.stderr.write(`${result.note}\n`)
process.exitCode = result.code
