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
  /** Show consumers at work on the live page instead, until it is ended. */
  readonly page: boolean
  /** Of the live page. */
  readonly port: number
  /** Where topic, group, ledger and the broker's data are kept between two runs. */
  readonly state: string
}

export const usage = `npm run demo -- [flags]

  --resume        go on with the run that was interrupted last
  --records N     records in the topic (3000)
  --json          the last line of the output is one JSON object
  --memory        do not look for a Kafka: use the one in memory
  --page          show two consumers at work on the live page, until Ctrl-C
  --port N        the port of the live page (4680)
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
          page: { type: "boolean", default: false },
          port: { type: "string", default: "4680" },
          state: { type: "string", default: defaultState },
          help: { type: "boolean", default: false }
        }
      })
      if (values.help) return undefined
      const records = Number(values.records)
      if (!Number.isSafeInteger(records) || records < 1) throw new Error("--records wants a number of at least 1")
      const port = Number(values.port)
      if (!Number.isSafeInteger(port) || port < 0 || port > 65_535) throw new Error("--port wants a number up to 65535")
      if (values.page && values.resume) throw new Error("--page shows work of its own: there is nothing to resume")
      if (values.resume && values.memory) throw new Error("--resume needs a Kafka that outlives the process")
      // what is in memory cannot be resumed, and must not cost what can
      const state = values.memory ? join(values.state, "memory") : values.state
      const { json, memory, page, resume } = values
      return { records, resume, json, memory, page, port, state: page ? join(state, "page") : state }
    },
    catch: (error) => new DemoError({ reason: `${(error as Error).message}\n\n${usage}` })
  })
