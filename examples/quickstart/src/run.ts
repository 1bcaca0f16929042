/** What an interrupted run leaves for the next one: a folder with one small file, the ledger, and the data of a broker of our own. */
import { Effect } from "effect"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DemoError } from "./error.ts"
import type { Flags } from "./flags.ts"

/** One topic and its group, over all runs that were needed to handle it. */
export interface Run {
  readonly kafka: "env" | "java" | "memory"
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly group: string
  readonly records: number
  oneAtATime: { readonly records: number; readonly seconds: number } | undefined
  concurrent: { readonly records: number; readonly seconds: number; readonly commits: number }
}

/** Names that no earlier run has used. */
export const newRun = (kafka: Run["kafka"], brokers: ReadonlyArray<string>, records: number): Run => {
  const topic = `quickstart-${Date.now().toString(36)}`
  return {
    kafka,
    brokers,
    topic,
    group: `${topic}-concurrent`,
    records,
    oneAtATime: undefined,
    concurrent: { records: 0, seconds: 0, commits: 0 }
  }
}

export interface Folder {
  readonly path: string
  readonly ledger: string
  /** The run that `--resume` asks for. */
  readonly resumed: Effect.Effect<Run | undefined, DemoError>
  /** Forgets the last run. */
  readonly reset: () => void
  readonly save: (run: Run) => void
}

export const openFolder = ({ resume, state }: Flags): Folder => {
  const file = join(state, "run.json")
  const ledger = join(state, "ledger.txt")
  mkdirSync(state, { recursive: true })
  return {
    path: state,
    ledger,
    resumed: Effect.suspend(() => {
      if (!resume) return Effect.succeed(undefined)
      return existsSync(file)
        ? Effect.succeed(JSON.parse(readFileSync(file, "utf8")) as Run)
        : Effect.fail(new DemoError({ reason: "there is nothing to resume: start without --resume" }))
    }),
    reset: () => {
      for (const name of [file, ledger]) rmSync(name, { force: true })
    },
    save: (run) => {
      if (run.kafka !== "memory") writeFileSync(file, JSON.stringify(run, undefined, 2))
    }
  }
}
