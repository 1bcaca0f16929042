/** One process that handles what is being written and prints how late it was: latencyReader.ts <task as JSON> */
import { setTimeout } from "node:timers/promises"
import type { LatencyReading, LatencyTask } from "./latency.ts"
import { systems } from "./systems.ts"
import { now, parse } from "./writer.ts"

const { seconds, system, ...where } = JSON.parse(process.argv[2]!) as LatencyTask

const late: Array<number> = []
let steady = Number.POSITIVE_INFINITY
let whenFirst: () => void
const first = new Promise<void>((resolve) => {
  whenFirst = resolve
})

void systems[system]({
  ...where,
  work: {},
  began: (value) => {
    const { at } = parse(value)
    if (at >= steady) late.push(now() - at)
    whenFirst()
  },
  ended: () => undefined,
  done: new Promise(() => undefined)
})
await first
// before it what was written before it joined
await setTimeout(1_000)
steady = now()
await setTimeout(seconds * 1000)
const sorted = late.sort((a, b) => a - b)
const reading: LatencyReading = {
  p50: sorted[sorted.length >> 1]!,
  p99: sorted[Math.floor(sorted.length * 0.99)]!,
  records: sorted.length
}
process.stdout.write(JSON.stringify(reading))
process.exit(0)
