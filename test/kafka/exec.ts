/** Runs a command to its end. Interruption kills it. */
import { Effect, Schema } from "effect"
import { spawn } from "node:child_process"

export class ExecError extends Schema.TaggedError<ExecError>()("ExecError", {
  command: Schema.String,
  /** The command does not exist, as opposed to: it failed. */
  absent: Schema.Boolean,
  detail: Schema.String
}) {
  override get message() {
    return `${this.command}: ${this.detail}`
  }
}

/** Both outputs as one text. */
export const exec = (command: string, args: ReadonlyArray<string>) =>
  Effect.callback<string, ExecError>((resume) => {
    let output = ""
    const fail = (absent: boolean, detail: string) =>
      resume(Effect.fail(new ExecError({ command, absent, detail: detail.trim().slice(-2000) })))
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    const read = (chunk: Buffer) => {
      output += chunk.toString("utf8")
    }
    child.stdout.on("data", read)
    child.stderr.on("data", read)
    child.once("error", (error: NodeJS.ErrnoException) => fail(error.code === "ENOENT", error.message))
    child.once("close", (code, signal) =>
      code === 0 ? resume(Effect.succeed(output)) : fail(false, `${signal ?? `exit code ${code}`}\n${output}`)
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })
