/**
 * npm run bench [-- --only NAME] [--json] [--smoke] [--rounds N]
 *
 * Each bench compares this library with something else in the same run, in interleaved rounds, one process a measurement. With
 * `--smoke` few records and loose floors: it shows a tenfold loss, nothing finer.
 */
import * as Kafka from "@concurrent-kafka/test/kafka"
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { engineAlone } from "./alone.ts"
import { backlog } from "./backlog.ts"
import { clients } from "./clients.ts"
import { hotKey } from "./hotKey.ts"
import { latency } from "./latency.ts"
import { noop } from "./noop.ts"
import { observability } from "./observability.ts"
import { order } from "./order.ts"
import { page } from "./page.ts"
import type { Bench, Line } from "./report.ts"
import { print } from "./report.ts"
import { scale } from "./scale.ts"
import { skew } from "./skew.ts"
import { start } from "./start.ts"
import { stuck } from "./stuck.ts"
import { waiting } from "./waiting.ts"
import { workers } from "./workers.ts"

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    json: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
    rounds: { type: "string" }
  }
})

const inMemory = { alone: engineAlone, scale, workers, page }
const onKafka = { noop, order, skew, waiting, hotKey, stuck, backlog, latency, start, observability, clients }
const benches: Readonly<Record<string, Bench>> = { ...inMemory, ...onKafka }

const names = Object.keys(benches)
const chosen = values.only === undefined ? names : names.filter((name) => name === values.only)
if (chosen.length === 0) {
  process.stderr.write(`there is no bench ${values.only}; there are: ${names.join(", ")}\n`)
  process.exit(2)
}
const rounds = values.rounds === undefined ? (values.smoke ? 1 : 5) : Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write(`--rounds takes a number of at least 1, not ${values.rounds}\n`)
  process.exit(2)
}

const program = Effect.scoped(
  Effect.gen(function* () {
    const brokers = chosen.every((name) => Object.hasOwn(inMemory, name)) ? [] : (yield* Kafka.start()).brokers
    const lines: Array<Line> = []
    for (const name of chosen) {
      const began = performance.now()
      lines.push(...(yield* Effect.promise(() => benches[name]!({ brokers, rounds, smoke: values.smoke }))))
      process.stderr.write(`${name} took ${Math.round((performance.now() - began) / 1000)} s\n`)
    }
    return lines
  })
)

const lines = await Effect.runPromise(program)
print(lines, values.json)
process.exitCode = lines.every((line) => line.met) ? 0 : 1
