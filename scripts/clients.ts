/**
 * Prints how much of each suite was run on which client in the last broker step, and why the rest was not, beside the contract on the Kafka in
 * memory, which is of the last unit step; writes it to `.cache/reports/clients.json`, and fails where a client was tried without what none
 * may leave untried.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Client, protocolsOf } from "../packages/driver/test/client.ts"
import { wantedOf } from "../packages/driver/test/required.ts"
import { cellsOf, linesOf, missingOf } from "./clientTable.ts"
import type { Report } from "./clientTable.ts"

const root = join(import.meta.dirname, "..")
const reports = join(root, ".cache", "reports")
const packages = join(root, "packages")
const clients = readdirSync(packages)
  .filter((name) => existsSync(join(packages, name, "test", "client.ts")))
  .filter((name) => name !== "driver")

const reportOf = (step: string) => {
  const file = join(reports, `${step}.json`)
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as Report & { readonly startTime: number })
    : undefined
}

const report = reportOf("broker")
// without it the step has failed already, and said why
if (report === undefined) process.exit(1)

const wanted = new Map(
  await Promise.all(
    clients.map(async (name) => {
      const { client }: { readonly client: Client } = await import(join(packages, name, "test", "client.ts"))
      return [name, wantedOf(protocolsOf(client))] as const
    })
  )
)
const missing = missingOf(report, wanted)

const memory = "memory"
const unit = reportOf("unit")
const inMemory = unit === undefined ? [] : cellsOf(unit, [memory])
const cells = [...cellsOf(report, clients), ...inMemory]
writeFileSync(
  join(reports, "clients.json"),
  `${JSON.stringify({ clients, beside: [memory], suites: cells, missing }, undefined, 2)}\n`
)

process.stdout.write(`\n${linesOf(cells, clients, [memory]).join("\n")}\n`)
process.stdout.write(
  unit === undefined || inMemory.length === 0
    ? `${memory}: the contract is run on it by the unit step, in packages/testing/test/contract.test.ts\n`
    : `${memory}: the contract alone, from the unit step of ${new Date(unit.startTime).toISOString()}\n`
)
for (const { client, promise, test } of missing) {
  process.stdout.write(`not run on ${client}, though no client may leave it out: ${promise} (${test})\n`)
}
process.exitCode = missing.length > 0 ? 1 : 0
