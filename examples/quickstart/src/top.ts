/** `npm run top`: two consumers at work, seen as a table in the terminal. */
import { ConsumerRegistry, type Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import * as Top from "@concurrent-kafka/observability/Top"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Logger, Schedule } from "effect"
import { appendFileSync, existsSync, rmSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { DemoError } from "./error.ts"
import { findKafka } from "./kafka.ts"
import { say } from "./progress.ts"
import { ignoreNegativeTimeouts } from "./quiet.ts"
import { openFolder } from "./run.ts"
import { consumers, createTopics, write } from "./work.ts"

const usage = `npm run top -- [flags]

  --once          print one block of lines and end
  --memory        do not look for a Kafka: use the one in memory
  --state FOLDER  the log and the data of a Kafka of its own are kept here (.cache/demo/top)
  --help

On a terminal: q or Ctrl-C ends it. NO_COLOR=1 is without colours.
`

const defaultState = join(import.meta.dirname, "..", "..", "..", ".cache", "demo", "top")

const flags = Effect.try({
  try: () =>
    parseArgs({
      options: {
        once: { type: "boolean", default: false },
        memory: { type: "boolean", default: false },
        state: { type: "string", default: defaultState },
        help: { type: "boolean", default: false }
      }
    }).values,
  catch: (error) => new DemoError({ reason: `${(error as Error).message}\n\n${usage}` })
})

/** What is logged would be drawn over. */
const toFile = (file: string) =>
  Logger.layer([Logger.map(Logger.formatLogFmt, (line) => appendFileSync(file, `${line}\n`))])

/** All of them have their partitions. */
const untilReady = (registry: Registry) =>
  registry.consumers.pipe(
    Effect.flatMap((all) => Effect.forEach(all, ({ health }) => health)),
    Effect.repeat({ schedule: Schedule.spaced("50 millis"), until: (all) => all.every(({ ready }) => ready) })
  )

const top = Effect.fnUntraced(function* ({
  memory,
  once,
  state
}: {
  readonly memory: boolean
  readonly once: boolean
  readonly state: string
}) {
  const demo = { records: 0, resume: false, json: false, memory, page: false, port: 0, state }
  const { cluster } = yield* findKafka(demo, openFolder(demo), undefined)
  const topic = `top-${Date.now().toString(36)}`
  const log = join(state, "log.txt")
  rmSync(log, { force: true })
  say(`Topic: ${topic}; two consumers, and a record now and then that is slow or fails`)
  yield* createTopics(cluster, topic)
  const registry = yield* ConsumerRegistry
  // of one block, rates are wanted
  const show = once ? Effect.andThen(untilReady(registry), Top.watch({ once })) : Top.watch()
  yield* Effect.raceFirst(
    Effect.raceFirst(show, registry.failure),
    // nobody waits for what is written last
    write(cluster, topic)
  ).pipe(
    Effect.provide(consumers(cluster, topic)),
    Effect.provide(toFile(log)),
    Effect.ensuring(
      Effect.sync(() => {
        if (existsSync(log)) say(`What the consumers logged: ${log}`)
      })
    )
  )
}, Effect.scoped)

const main = Effect.flatMap(flags, (chosen) => (chosen.help ? Effect.sync(() => say(usage)) : top(chosen))).pipe(
  Effect.tapCause((cause) =>
    Effect.sync(() => {
      if (Cause.hasInterruptsOnly(cause)) return
      const reason = cause.reasons.find((r) => r._tag === "Fail")
      process.stderr.write(`${reason === undefined ? Cause.pretty(cause) : reason.error.message}\n`)
    })
  )
)

ignoreNegativeTimeouts()
NodeRuntime.runMain(main, { disableErrorReporting: true })
