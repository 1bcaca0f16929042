/**
 * Prints how much of each suite was run on which client in the last broker step, and why the rest was not; writes it to
 * `.cache/reports/clients.json`, and fails where a client was tried without what none may leave untried.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { required } from "../packages/driver/test/required.ts"
import { cellsOf, linesOf, missingOf } from "./clientTable.ts"
import type { Report } from "./clientTable.ts"

const root = join(import.meta.dirname, "..")
const reports = join(root, ".cache", "reports")
const packages = join(root, "packages")
const clients = readdirSync(packages)
  .filter((name) => existsSync(join(packages, name, "test", "client.ts")))
  .filter((name) => name !== "driver")

const file = join(reports, "broker.json")
// without it the step has failed already, and said why
if (!existsSync(file)) process.exit(1)
const report = JSON.parse(readFileSync(file, "utf8")) as Report
const cells = cellsOf(report, clients)
const missing = missingOf(report, clients, required)
writeFileSync(join(reports, "clients.json"), `${JSON.stringify({ clients, suites: cells, missing }, undefined, 2)}\n`)

process.stdout.write(`\n${linesOf(cells, clients).join("\n")}\n`)
for (const { client, promise, test } of missing) {
  process.stdout.write(`not run on ${client}, though no client may leave it out: ${promise} (${test})\n`)
}
process.exitCode = missing.length > 0 ? 1 : 0
