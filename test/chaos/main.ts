/**
 * npm run chaos                        all scenarios, one after another
 * npm run chaos -- kill network        these
 * npm run chaos -- --json              a last line for programs
 * npm run chaos -- --client platformatic   with members on that client, or on it with the group protocol of KIP-848: consumer;
 *                                      on kafkajs with cooperative rebalances: cooperative
 * npm run chaos -- --seed 7            with the chance of an earlier run
 * npm run chaos -- --write-table       puts the table of this run into the README beside this file
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, type Scope } from "effect"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as Kafka from "../kafka/kafka.ts"
import { refuseSkips } from "../kafka/skips.ts"
import { type Play, play, type Result } from "./run.ts"
import type { Scenario } from "./scenario.ts"
import * as Brokers from "./scenarios/brokers.ts"
import * as Network from "./scenarios/network.ts"
import * as Processes from "./scenarios/processes.ts"
import * as Storm from "./scenarios/storm.ts"
import * as Topics from "./scenarios/topics.ts"
import { heading, line, withTable } from "./table.ts"

const scenarios: ReadonlyArray<Scenario> = [
  Processes.kill,
  Processes.frozen,
  Processes.blocked,
  Processes.rollingDeploy,
  Processes.joins,
  Network.network,
  Network.lostAnswer,
  Topics.recreated,
  Topics.retention,
  Storm.storm,
  Brokers.brokerKill,
  Brokers.rollingBrokers,
  Brokers.deadLetters
]

// kafkajs 2.2 asks for timers in the past, and Node warns of each process that does
process.removeAllListeners("warning")
process.on("warning", (warning) => {
  if (warning.name !== "TimeoutNegativeWarning") process.stderr.write(`${warning.stack ?? warning.message}\n`)
})

const print = (text: string): void => void process.stdout.write(`${text}\n`)

const { positionals: names, values } = parseArgs({
  allowPositionals: true,
  options: {
    client: { type: "string", default: "kafkajs" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    json: { type: "boolean", default: false },
    "write-table": { type: "boolean", default: false }
  }
})
const clients = ["kafkajs", "platformatic", "consumer", "cooperative"] as const
const client = clients.find((one) => one === values.client)
const seed = Number(values.seed)

const shownViolations = 8

const readme = join(import.meta.dirname, "README.md")
const reports = join(import.meta.dirname, "..", "..", ".cache", "reports")

const report = ({ ledger, violations }: Result): void => {
  for (const sentence of violations.slice(0, shownViolations)) print(`    ${sentence}`)
  if (violations.length > shownViolations) print(`    and ${violations.length - shownViolations} more`)
  if (ledger !== undefined) print(`    ledger: ${ledger}`)
}

const summary = (results: ReadonlyArray<Result>, seconds: number): string =>
  JSON.stringify({ client, seed, ok: results.length > 0 && results.every(({ ok }) => ok), seconds, scenarios: results })

const playAll = (chosen: ReadonlyArray<Scenario>, how: Play, results: Array<Result>, finished: () => void) =>
  Effect.gen(function* () {
    for (const nodes of [1, 3] as const) {
      const some = chosen.filter((scenario) => scenario.nodes === nodes)
      if (some.length === 0) continue
      yield* Effect.gen(function* (): Effect.fn.Return<void, Kafka.KafkaUnavailable, Scope.Scope> {
        const kafka = yield* Kafka.start({ own: true, nodes, proxy: nodes === 1 })
        for (const scenario of some) {
          const result = yield* play(scenario, kafka, how)
          results.push(result)
          print(line(result))
          report(result)
          finished()
        }
      }).pipe(Effect.scoped)
    }
  })

let code = 1
const program = Effect.gen(function* () {
  const unknown = names.filter((name) => !scenarios.some((scenario) => scenario.name === name))
  if (unknown.length > 0) {
    print(`There is no ${unknown.join(", ")}. There are: ${scenarios.map(({ name }) => name).join(", ")}`)
    code = 2
    return
  }
  if (client === undefined || !Number.isSafeInteger(seed)) {
    print(`--client is one of ${clients.join(", ")}, and --seed an integer; not ${values.client} and ${values.seed}`)
    code = 2
    return
  }
  const chosen = scenarios.filter(({ name }) => names.length === 0 || names.includes(name))
  const results: Array<Result> = []
  print(`members on ${client}, seed ${seed}`)
  print(heading)
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  mkdirSync(reports, { recursive: true })
  const file = join(reports, client === "kafkajs" ? "chaos.json" : `chaos-${client}.json`)
  rmSync(file, { force: true })
  // after each, for whoever reads it when the rest was cut off
  const save = () => writeFileSync(file, `${summary(results, seconds())}\n`)
  const exit = yield* Effect.result(playAll(chosen, { client, seed }, results, save))
  if (exit._tag === "Failure") {
    refuseSkips("Kafka", exit.failure)
    print(`no Kafka, so this is skipped: ${exit.failure.reason}. Install Java and Maven.`)
    if (values.json) print(JSON.stringify({ ok: true, skipped: exit.failure.reason, scenarios: [] }))
    code = 0
    return
  }
  const failed = results.filter(({ ok }) => !ok).length
  if (values["write-table"]) writeFileSync(readme, withTable(readFileSync(readme, "utf8"), results))
  // the table is long, and what a reader looks for is what failed
  for (const { name, violations } of results.filter(({ ok }) => !ok)) print(`FAILED ${name}: ${violations[0] ?? ""}`)
  print(`${results.length - failed} passed, ${failed} failed, ${seconds().toFixed(0)} s`)
  if (values.json) print(summary(results, seconds()))
  code = failed === 0 ? 0 : 1
})

NodeRuntime.runMain(program, {
  teardown: (exit, onExit) => onExit(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? 130 : code)
})
