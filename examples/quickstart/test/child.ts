/** The demo as a process of its own. */
import { spawn } from "node:child_process"
import { join } from "node:path"

const main = join(import.meta.dirname, "..", "src", "main.ts")

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** The last line of stdout. */
  readonly json: {
    readonly kafka: string
    readonly records: number
    readonly seconds: number
    readonly timesFaster: number
    readonly commits: number
    readonly handledTwice: number
    readonly lost: number
    readonly committedIsEnd: boolean
  }
  /** From the signal to the end. */
  readonly millisToEnd: number
}

/** What npm starts for `npm run top`. */
export const topByNpm: ReadonlyArray<string> = [
  join(import.meta.dirname, "..", "..", "..", "scripts", "run.mjs"),
  "top"
]

/** Runs the table to its end. */
export const runTop = (
  flags: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  command = [join(import.meta.dirname, "..", "src", "top.ts")] as ReadonlyArray<string>
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...command, ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, KAFKA_BROKERS: "", ...env }
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, stdout, stderr }))
  })

/** Runs it to its end; sends SIGINT as soon as its output has `interruptAt`. */
export const runDemo = (
  flags: ReadonlyArray<string>,
  options: { readonly brokers?: ReadonlyArray<string>; readonly interruptAt?: string } = {}
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, KAFKA_BROKERS: (options.brokers ?? []).join(",") }
    })
    let stdout = ""
    let stderr = ""
    let signalled: number | undefined
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      if (signalled !== undefined || options.interruptAt === undefined || !stdout.includes(options.interruptAt)) return
      signalled = performance.now()
      child.kill("SIGINT")
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.once("error", reject)
    child.once("close", (code) => {
      const last = stdout.trimEnd().split("\n").at(-1) ?? ""
      resolve({
        code,
        stdout,
        stderr,
        json: JSON.parse(last.startsWith("{") ? last : "{}") as Ended["json"],
        millisToEnd: signalled === undefined ? Number.NaN : performance.now() - signalled
      })
    })
  })
