/** What can be asked of the demo. */
import { Effect } from "effect"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { DemoError } from "./error.ts"

export interface Flags {
  /** How many records the topic gets. */
  readonly records: number
  /** Go on with what an interrupted run has left. */
  readonly resume: boolean
  /** The last line of the output is for programs. */
  readonly json: boolean
  /** Use the in-memory Kafka, whatever there is. */
  readonly memory: boolean
  /** Where topic, group, ledger and the broker's data are kept between two runs. */
  readonly state: string
}

export const usage = `npm run demo -- [flags]

  --resume        go on with the run that was interrupted last
  --records N     records in the topic (3000)
  --json          the last line of the output is one JSON object
  --memory        do not look for a Kafka: use the one in memory
  --state FOLDER  what --resume needs is kept here (.cache/demo)
  --help
`

const defaultState = join(import.meta.dirname, "..", "..", "..", ".cache", "demo")

/** `undefined`: help was asked for. */
export const readFlags = (args: ReadonlyArray<string>): Effect.Effect<Flags | undefined, DemoError> =>
  Effect.try({
    try: () => {
      const { values } = parseArgs({
        args: [...args],
        options: {
          records: { type: "string", default: "3000" },
          resume: { type: "boolean", default: false },
          json: { type: "boolean", default: false },
          memory: { type: "boolean", default: false },
          state: { type: "string", default: defaultState },
          help: { type: "boolean", default: false }
        }
      })
      if (values.help) return undefined
      const records = Number(values.records)
      if (!Number.isSafeInteger(records) || records < 1) throw new Error("--records wants a number of at least 1")
      if (values.resume && values.memory) throw new Error("--resume needs a Kafka that outlives the process")
      // what is in memory cannot be resumed, and must not cost what can
      const state = values.memory ? join(values.state, "memory") : values.state
      return { records, resume: values.resume, json: values.json, memory: values.memory, state }
    },
    catch: (error) => new DemoError({ reason: `${(error as Error).message}\n\n${usage}` })
  })
