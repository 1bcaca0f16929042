/** One process that handles a topic for some seconds and prints what it held meanwhile: backlogReader.ts <task as JSON> */
import { setTimeout } from "node:timers/promises"
import type { BacklogReading, BacklogTask } from "./backlog.ts"
import { systems } from "./systems.ts"

const { everyMillis, seconds, system, work, ...where } = JSON.parse(process.argv[2]!) as BacklogTask

let handled = 0
let whenFirst: () => void
const first = new Promise<void>((resolve) => {
  whenFirst = resolve
})

void systems[system]({
  ...where,
  work,
  began: () => whenFirst(),
  ended: () => {
    handled++
  },
  // it is not closed: a loop by hand would first handle all that it holds
  done: new Promise(() => undefined)
})
await first
const began = performance.now()
const heaps: Array<number> = []
while (performance.now() - began < seconds * 1000) {
  await setTimeout(everyMillis === 0 ? seconds * 1000 : everyMillis)
  if (everyMillis === 0) continue
  globalThis.gc!()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  heaps.push(heapUsed + arrayBuffers)
}
const reading: BacklogReading = {
  rate: (handled * 1000) / (performance.now() - began),
  rss: process.resourceUsage().maxRSS * 1024,
  heaps
}
process.stdout.write(JSON.stringify(reading))
process.exit(0)
