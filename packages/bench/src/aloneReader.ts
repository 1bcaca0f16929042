/**
 * One process that handles records from memory and prints what it took: aloneReader.ts <task as JSON>
 *
 * The clock runs over the last four fifths of the records: the compiler has seen the code by then.
 */
import type { ConsumerRecord } from "@concurrent-kafka/core"
import { Effect } from "effect"
import { engineOn, handlers, type Make } from "./engine.ts"
import type { AloneReading, AloneTask } from "./aloneTask.ts"
import type { Job } from "./job.ts"
import * as Memory from "./memory.ts"

const { gathers, partitions, records, system, work } = JSON.parse(process.argv[2]!) as AloneTask

const topic = "memory"
const keys = Array.from({ length: 10_000 }, (_, i) => Buffer.from(`customer-${i}`))
const value = Buffer.alloc(100, "x")
const log: ReadonlyArray<Array<ConsumerRecord>> = Array.from({ length: partitions }, () => [])
// one partition after another, as a client decodes a response: records of a chunk lie beside each other
for (let partition = 0; partition < partitions; partition++) {
  const own = log[partition]!
  for (let i = partition; i < records; i += partitions) {
    own.push({
      topic,
      partition,
      offset: BigInt(own.length),
      timestamp: 0n,
      key: keys[i % keys.length]!,
      value,
      headers: []
    })
  }
}

const warm = Math.floor(records / 5)
let handled = 0
let inFlight = 0
let most = 0
let first: { readonly at: number; readonly cpu: NodeJS.CpuUsage } | undefined
let took: Pick<AloneReading, "seconds" | "cpuMicros"> | undefined
let whenDone: () => void
const done = new Promise<void>((resolve) => {
  whenDone = resolve
})

const job: Job = {
  brokers: [],
  topic,
  groupId: "bench",
  work,
  began: () => {
    if (++inFlight > most) most = inFlight
  },
  ended: () => {
    inFlight--
    if (++handled === warm) first = { at: performance.now(), cpu: process.cpuUsage() }
    if (handled < records) return
    const cpu = process.cpuUsage(first!.cpu)
    took = { seconds: (performance.now() - first!.at) / 1000, cpuMicros: cpu.user + cpu.system }
    whenDone()
  },
  done
}

/** All permits are taken before anybody ends; then those that came last end first, which no prefix likes. */
const gathering: Make = ({ began, ended, work }) => {
  const waiting: Array<() => void> = []
  return Effect.fnUntraced(function* (record) {
    began(record.value, record.partition)
    yield* Effect.callback<void>((resume) => {
      waiting.push(() => resume(Effect.void))
      if (waiting.length < Math.min(work.concurrency ?? 100, records - handled)) return
      setImmediate(() => {
        for (const go of waiting.splice(0).reverse()) go()
      })
    })
    ended()
  })
}

const make = gathers === true ? gathering : handlers[work.form ?? "fnUntraced"]
const committed = log.map(() => 0n)

const engine = async (): Promise<void> => {
  const client = Memory.layer({ topic, partitions: log }, ({ offset, partition }) => {
    committed[partition] = offset
  })
  await engineOn(job, client, make)
  if (committed.some((offset, partition) => offset !== BigInt(log[partition]!.length))) {
    throw new Error("the engine has not committed the end of each partition")
  }
}

/** A fiber a record and a counter: no order, no commits, no limits but the concurrency, no turns for the event loop. */
const bare = async (): Promise<void> => {
  const handler = make(job)
  const deliveries = log
    .flat()
    .map((record) => ({ ...record, attempt: 1, groupId: "", epoch: 1, generation: 1, ack: Effect.void }))
  const concurrency = work.concurrency ?? 100
  let next = 0
  let running = 0
  const pump = (): void => {
    while (running < concurrency && next < deliveries.length) {
      running++
      const fiber = Effect.runFork(handler(deliveries[next++]!))
      if (fiber.pollUnsafe() !== undefined) running--
      else
        fiber.addObserver(() => {
          running--
          pump()
        })
    }
  }
  pump()
  await done
}

await (system === "engine" ? engine() : bare())
process.stdout.write(JSON.stringify({ handled, most, ...took }))
process.exit(0)
