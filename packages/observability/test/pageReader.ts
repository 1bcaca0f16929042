/**
 * One process that handles so many records a second from memory, and looks at its consumer as the live page does: pageReader.ts <task as JSON>
 *
 * A look is synchronous: the consumers' snapshots, and the frame for a page as bytes. So the time from before it to after it is the CPU's,
 * but for whoever takes the processor away meanwhile, which the median of all looks does not see.
 */
import { ConsumerRegistry, type ConsumerRecord } from "@concurrent-kafka/core"
import { Effect } from "effect"
// what the page's own server calls for each look
import { Look } from "../src/internal/page/sampler.ts"
import { engineOn } from "../../bench/src/engine.ts"
import type { Job } from "../../bench/src/job.ts"
import * as Memory from "../../bench/src/memory.ts"
import type { PageReading, PageTask } from "../../bench/src/page.ts"
import { median } from "../../bench/src/report.ts"

const { looks, partitions, recordsPerSecond } = JSON.parse(process.argv[2]!) as PageTask

const lookMillis = 250
const warmLooks = 8
/** as often as a broker would send something */
const writeMillis = 100

const topic = "memory"
const value = Buffer.alloc(100, "x")
const log: ReadonlyArray<Array<ConsumerRecord>> = Array.from({ length: partitions }, () => [])

let grown: ((partition: number) => void) | undefined
let written = 0
let owed = 0
let lastWrite = performance.now()
const write = (): void => {
  const now = performance.now()
  // where the machine is too busy for the rate it is a lower one, which is told, and not one that grows to make up for it
  owed += (Math.min(now - lastWrite, 2 * writeMillis) / 1_000) * recordsPerSecond
  lastWrite = now
  const touched = new Set<number>()
  for (; owed >= 1; owed--, written++) {
    const partition = written % partitions
    const own = log[partition]!
    own.push({ topic, partition, offset: BigInt(own.length), timestamp: 0n, key: null, value, headers: [] })
    touched.add(partition)
  }
  for (const partition of touched) grown?.(partition)
}

let handled = 0
let finish: () => void
const job: Job = {
  brokers: [],
  topic,
  groupId: "bench",
  work: {},
  began: () => undefined,
  ended: () => {
    handled++
  },
  done: new Promise<void>((resolve) => {
    finish = resolve
  })
}

const taken: Array<{ readonly micros: number; readonly bytes: number }> = []
let first: { readonly at: number; readonly handled: number } | undefined
let seq = 0
const consumers = Effect.flatMap(ConsumerRegistry, (registry) => registry.consumers)

const look = (): void => {
  const before = performance.now()
  const snapshots = Effect.runSync(Effect.flatMap(consumers, (all) => Effect.forEach(all, ({ snapshot }) => snapshot)))
  const bytes = Buffer.from(new Look(++seq, Date.now(), snapshots, undefined).frame("bench", "")).length
  const micros = (performance.now() - before) * 1_000
  if (snapshots[0]?.partitions.length !== partitions) return
  taken.push({ micros, bytes })
  if (taken.length === warmLooks) first = { at: performance.now(), handled }
  if (taken.length < warmLooks + looks) return
  clearInterval(looking)
  const reading: PageReading = {
    micros: median(taken.slice(warmLooks).map(({ micros }) => micros)),
    bytes: median(taken.slice(warmLooks).map(({ bytes }) => bytes)),
    handled: handled - first!.handled,
    seconds: (performance.now() - first!.at) / 1_000
  }
  process.stdout.write(JSON.stringify(reading))
  clearInterval(writing)
  finish()
}

const writing = setInterval(write, writeMillis)
const looking = setInterval(look, lookMillis)
const growing = (f: (partition: number) => void): void => {
  grown = f
}
await engineOn(
  job,
  Memory.layer({ topic, partitions: log, growing }, () => undefined)
)
process.exit(0)
