/**
 * One process that reads a topic once with one system and prints what it took: reader.ts <system> <brokers> <topic> <groupId> <records>
 *
 * The clock runs from the first record to the last one, as the handler sees them.
 */
import { systems, type SystemName } from "./systems.ts"

const [system, brokerList, topic, groupId, wanted] = process.argv.slice(2) as [
  SystemName,
  string,
  string,
  string,
  string
]
const records = Number(wanted)

let handled = 0
let bytes = 0
let began: { readonly at: bigint; readonly cpu: NodeJS.CpuUsage } | undefined
let took: { readonly seconds: number; readonly cpuMicros: number } | undefined
let whenDone: () => void
const done = new Promise<void>((resolve) => {
  whenDone = resolve
})

/** it counts */
const handle = (value: Uint8Array | null): void => {
  if (began === undefined) began = { at: process.hrtime.bigint(), cpu: process.cpuUsage() }
  bytes += value?.length ?? 0
  if (++handled !== records) return
  const cpu = process.cpuUsage(began.cpu)
  took = { seconds: Number(process.hrtime.bigint() - began.at) / 1e9, cpuMicros: cpu.user + cpu.system }
  whenDone()
}

const { commits } = await systems[system]({ brokers: brokerList.split(","), topic, groupId, handle, done })
process.stdout.write(
  `${JSON.stringify({
    system,
    records: handled,
    bytes,
    ...took,
    commits,
    rss: process.resourceUsage().maxRSS * 1024
  })}\n`
)
process.exit(0)
