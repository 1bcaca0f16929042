/**
 * One process that reads a topic with one system and prints what it took: reader.ts <task as JSON>
 *
 * The clock runs from the first record that a handler sees to the end of the last one.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import type { Reading, Task } from "./read.ts"
import { systems } from "./systems.ts"

const { brokers, groupId, records, system, topic, work } = JSON.parse(process.argv[2]!) as Task

let began = 0
let handled = 0
let bytes = 0
let first: { readonly at: number; readonly cpu: NodeJS.CpuUsage } | undefined
let took: Pick<Reading, "seconds" | "cpuMicros" | "gapMillis"> | undefined
let whenDone: () => void
const done = new Promise<void>((resolve) => {
  whenDone = resolve
})
// of the time between two turns of the event loop, each millisecond; its own millisecond is in it
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()

const { commits } = await systems[system]({
  brokers,
  topic,
  groupId,
  work,
  began: (value) => {
    if (began++ === 0) {
      first = { at: performance.now(), cpu: process.cpuUsage() }
      delay.reset()
    }
    bytes += value?.length ?? 0
  },
  ended: () => {
    if (++handled !== records) return
    const cpu = process.cpuUsage(first!.cpu)
    const seconds = (performance.now() - first!.at) / 1000
    took = {
      seconds,
      cpuMicros: cpu.user + cpu.system,
      // of few records a stream has all before the clock starts, and handles them in one turn
      gapMillis: delay.count === 0 ? seconds * 1000 : delay.percentile(99) / 1e6
    }
    whenDone()
  },
  done
})
process.stdout.write(
  `${JSON.stringify({ handled, bytes, ...took, commits, rss: process.resourceUsage().maxRSS * 1024 })}\n`
)
process.exit(0)
