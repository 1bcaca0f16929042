/**
 * One process that reads what is being written: live.ts <system> <brokers> <topic> <groupId>
 *
 * It prints a line for each record: when it was handled, how late that was after it was written, and its number. SIGTERM closes it as
 * the system is meant to be closed.
 */
import { systems, type SystemName } from "./systems.ts"
import { now, parse } from "./writer.ts"

const [system, brokers, topic, groupId] = process.argv.slice(2) as [SystemName, string, string, string]

const done = new Promise<void>((resolve) => {
  process.once("SIGTERM", resolve)
})
const began = (value: Uint8Array | null): void => {
  const handled = now()
  const { at, number } = parse(value)
  process.stdout.write(`${handled} ${(handled - at).toFixed(3)} ${number}\n`)
}

await systems[system]({ brokers: brokers.split(","), topic, groupId, work: {}, began, ended: () => undefined, done })
process.exit(0)
