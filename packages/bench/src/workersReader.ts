/**
 * One process that handles records that need a CPU, and answers requests meanwhile: workersReader.ts <task as JSON>
 *
 * Another process makes the requests, over four connections that stay: each asks 10 ms after it had its answer, so that a standstill
 * counts once for each and not as often as somebody could have asked meanwhile. (New connections would fare worse: Node accepts one in
 * each turn of the event loop.)
 */
import type { ConsumerRecord } from "@concurrent-kafka/core"
import { WorkerPool } from "@concurrent-kafka/workers"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { execFile } from "node:child_process"
import { createServer } from "node:http"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Compute from "./compute.worker.ts"
import { engineOn, type Make } from "./engine.ts"
import type { Job } from "./job.ts"
import * as Memory from "./memory.ts"
import type { WorkersReading, WorkersTask } from "./workers.ts"

const { computeMillis, how, seconds } = JSON.parse(process.argv[2]!) as WorkersTask

const asking = `
import { Agent, get } from "node:http"
const [url, seconds] = process.argv.slice(1)
const agent = new Agent({ keepAlive: true, maxSockets: 4 })
const ask = () => new Promise((resolve, reject) => {
  get(url, { agent }, (answer) => answer.resume().on("end", resolve)).on("error", reject)
})
const took = []
const end = performance.now() + seconds * 1000
await Promise.all(Array.from({ length: 4 }, async () => {
  await ask()
  while (performance.now() < end) {
    const began = performance.now()
    await ask()
    took.push(performance.now() - began)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}))
agent.destroy()
took.sort((a, b) => a - b)
const percentile = (p) => took[Math.min(took.length - 1, Math.floor(took.length * p))]
console.log(JSON.stringify({ p50: percentile(0.5), p99: percentile(0.99), requests: took.length }))
`

const topic = "memory"
const value = Uint8Array.of(computeMillis)
// more than can be handled in time
const records = Array.from({ length: Math.ceil((seconds * 1000 * 16) / computeMillis) }, (_, i): ConsumerRecord => ({
  topic,
  partition: 0,
  offset: BigInt(i),
  timestamp: 0n,
  key: null,
  value,
  headers: []
}))

let handled = 0
let whenBegun: () => void
const begun = new Promise<void>((resolve) => {
  whenBegun = resolve
})
let finish: () => void
const done = new Promise<void>((resolve) => {
  finish = resolve
})
const job: Job = {
  brokers: [],
  topic,
  groupId: "bench",
  work: { concurrency: 4 },
  began: () => whenBegun(),
  ended: () => {
    handled++
  },
  done
}

const compute =
  (
    handle: (record: Parameters<typeof Compute.handler>[0] & Parameters<ReturnType<Make>>[0]) => Effect.Effect<unknown>
  ): Make =>
  ({ began, ended }) =>
    Effect.fnUntraced(function* (record) {
      began(record.value, record.partition)
      yield* handle(record)
      ended()
    })

const measured = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  yield* Effect.promise(() => begun)
  // what is compiled and connected once is no part of it
  yield* Effect.sleep("500 millis")
  const [before, began] = [handled, performance.now()]
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const answers = yield* Effect.callback<Pick<WorkersReading, "p50" | "p99" | "requests">>((resume) => {
    execFile(
      process.execPath,
      ["--input-type=module", "-e", asking, HttpServer.formatAddress(address), String(seconds)],
      (error, stdout) =>
        resume(error === null ? Effect.sync(() => JSON.parse(stdout) as WorkersReading) : Effect.die(error))
    )
  })
  delay.disable()
  const reading: WorkersReading = {
    ...answers,
    gapMillis: delay.percentile(99) / 1e6,
    handled: handled - before,
    seconds: (performance.now() - began) / 1000
  }
  process.stdout.write(JSON.stringify(reading))
})

const server = HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("here")), {
  disableListenLog: true,
  disableLogger: true
}).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))

const program = Effect.gen(function* () {
  const handle =
    how === "inline"
      ? (record: Parameters<typeof Compute.handler>[0]) => Effect.sync(() => Compute.handler(record))
      : (yield* WorkerPool.make<typeof Compute>({ module: new URL("./compute.worker.ts", import.meta.url) })).handle
  const consuming = engineOn(
    job,
    Memory.layer({ topic, partitions: [records] }, () => undefined),
    compute((record) => Effect.orDie(handle(record)))
  )
  yield* measured
  finish()
  yield* Effect.promise(() => consuming)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(server)))
