/** The example as a process of its own. */
import { spawn } from "node:child_process"
import { join } from "node:path"

const main = join(import.meta.dirname, "..", "src", "main.ts")

export interface Ended {
  readonly code: number | null
  readonly stderr: string
  readonly lines: ReadonlyArray<string>
  /** Places of records, in the order of the lines that begin so. */
  readonly places: (word: "begun" | "finished" | "committed") => ReadonlyArray<string>
  /** Begun and not finished when the signal was sent. */
  readonly inTheMiddle: number
}

/** Ends it by a signal, in the middle of a record, when so many are finished. */
export const runUntil = (
  finished: number,
  signal: NodeJS.Signals,
  brokers: ReadonlyArray<string> = []
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, KAFKA_BROKERS: brokers.join(",") }
    })
    let stdout = ""
    let stderr = ""
    let inTheMiddle = 0
    const places: Ended["places"] = (word) =>
      stdout
        .split("\n")
        .filter((line) => line.startsWith(`${word} `))
        .flatMap((line) => line.split(" ").slice(1))
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      const running = places("begun").length - places("finished").length
      if (inTheMiddle > 0 || running === 0 || places("finished").length < finished) return
      inTheMiddle = running
      child.kill(signal)
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, stderr, lines: stdout.split("\n"), places, inTheMiddle }))
  })
