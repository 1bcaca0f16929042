/** One process that handles a few records, waits and closes, and prints when: startReader.ts <task as JSON> */
import { setTimeout } from "node:timers/promises"
import type { StartReading, StartTask } from "./start.ts"

const { records, system, ...where } = JSON.parse(process.argv[2]!) as StartTask

const before = performance.now()
if (system.startsWith("engine")) await import("effect")
const effect = performance.now() - before

const { systems } = await import("./systems.ts")

let handled = 0
let first = 0
let whenAll: () => void
let whenDone: () => void
const all = new Promise<void>((resolve) => {
  whenAll = resolve
})
const done = new Promise<void>((resolve) => {
  whenDone = resolve
})
const closed = systems[system]({
  ...where,
  work: {},
  began: () => {
    // since the process began
    if (handled === 0) first = performance.now()
  },
  ended: () => {
    if (++handled === records) whenAll()
  },
  done
})
await all
await setTimeout(500)
const closing = performance.now()
whenDone!()
await closed
const reading: StartReading = { effect, first, close: performance.now() - closing }
process.stdout.write(JSON.stringify(reading))
process.exit(0)
