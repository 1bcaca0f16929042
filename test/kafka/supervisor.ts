/**
 * The process that owns the brokers of one test cluster, so that they end with whoever started it, however that ends.
 *
 * It stands between a test process and its Java processes. Its standard input is the life line: when it closes, because the
 * owner closed it, was interrupted or was killed, every broker gets SIGTERM, after a grace SIGKILL, the data folder is removed
 * and this process ends. It is started in a session of its own, so that a Ctrl-C on the terminal reaches the owner only: the
 * owner's consumers can still commit and leave while their broker is there.
 *
 * Input, one JSON a line: `{ "run": 1, "command": "java", "args": [..], "ready": "text" }`, `{ "signal": 1, "name": "SIGKILL" }`.
 * Output, one JSON a line: `{ "node": 1, "event": "started" | "ready" | "exited", .. }`.
 */
import { spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { createWriteStream, rmSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"

export type Command =
  | { readonly run: number; readonly command: string; readonly args: ReadonlyArray<string>; readonly ready: string }
  | { readonly signal: number; readonly name: NodeJS.Signals }

export type Report =
  | { readonly node: number; readonly event: "started"; readonly pid: number }
  | { readonly node: number; readonly event: "ready" }
  | { readonly node: number; readonly event: "exited"; readonly how: string }

const graceMillis = 3000

const supervise = (folder: string) => {
  const running = new Map<number, ChildProcess>()
  let ending = false

  const report = (value: Report) => {
    // the reader may be gone: then this process is about to end anyway
    if (!process.stdout.destroyed) process.stdout.write(`${JSON.stringify(value)}\n`)
  }

  const finish = () => {
    rmSync(folder, { recursive: true, force: true })
    process.exit(0)
  }

  const end = () => {
    if (ending) return
    ending = true
    if (running.size === 0) return finish()
    for (const child of running.values()) child.kill("SIGTERM")
    setTimeout(() => {
      for (const child of running.values()) child.kill("SIGKILL")
    }, graceMillis)
  }

  const run = (node: number, command: string, args: ReadonlyArray<string>, ready: string) => {
    const log = createWriteStream(join(folder, `node-${node}.log`), { flags: "a" })
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    running.set(node, child)
    let tail: string | undefined = ""
    const read = (chunk: Buffer) => {
      log.write(chunk)
      if (tail === undefined) return
      tail = (tail + chunk.toString("utf8")).slice(-4096)
      if (tail.includes(ready)) {
        tail = undefined
        report({ node, event: "ready" })
      }
    }
    child.stdout.on("data", read)
    child.stderr.on("data", read)
    const gone = (how: string) => {
      if (running.get(node) !== child) return
      running.delete(node)
      log.end(() => {
        report({ node, event: "exited", how })
        if (ending && running.size === 0) finish()
      })
    }
    child.once("spawn", () => report({ node, event: "started", pid: child.pid ?? 0 }))
    child.once("error", (error) => gone(error.message))
    child.once("close", (code, signal) => gone(signal ?? `exit code ${code}`))
  }

  createInterface({ input: process.stdin })
    .on("line", (line) => {
      if (ending) return
      const command = JSON.parse(line) as Command
      if ("run" in command) run(command.run, command.command, command.args, command.ready)
      else running.get(command.signal)?.kill(command.name)
    })
    .once("close", end)
  process.stdout.on("error", () => {})
  process.on("SIGTERM", end)
  process.on("SIGINT", end)
}

supervise(process.argv[2] ?? "")
