/**
 * One process that reads what is being written: live.ts <system> <brokers> <topic> <groupId>
 *
 * It prints a line for each record: when it was handled, how late that was after it was written, and its number. The value begins with
 * the time of writing and the number. SIGTERM closes it as the system is meant to be closed.
 */
import { systems, type SystemName } from "./systems.ts"

const [system, brokers, topic, groupId] = process.argv.slice(2) as [SystemName, string, string, string]

const done = new Promise<void>((resolve) => {
  process.once("SIGTERM", resolve)
})
const text = new TextDecoder()

const began = (value: Uint8Array | null): void => {
  const now = performance.timeOrigin + performance.now()
  const [written, number] = text.decode(value ?? new Uint8Array()).split(" ")
  process.stdout.write(`${now} ${(now - Number(written)).toFixed(3)} ${number}\n`)
}

await systems[system]({ brokers: brokers.split(","), topic, groupId, work: {}, began, ended: () => undefined, done })
process.exit(0)
