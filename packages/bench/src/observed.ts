/** The engine with all that `@concurrent-kafka/observability` has, asked by another process for metrics each second, and for health each ten. */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Observability } from "@concurrent-kafka/observability"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { spawn } from "node:child_process"
import { createServer } from "node:http"
import { engineOn } from "./engine.ts"
import type { System } from "./job.ts"

/**
 * What Prometheus does, at fifteen times its pace, and Kubernetes, at its own: a process by itself, whose time is not counted here. It asks
 * at once, too, so that also a short run has been asked.
 */
const scraping = `
let asked = 0
const ask = async () => {
  const paths = asked % 10 === 0 ? ["/metrics", "/health/live", "/health/ready"] : ["/metrics"]
  try {
    await Promise.all(paths.map(async (path) => (await fetch(process.argv[1] + path)).text()))
    asked++
  } catch {
    // whoever was asked has ended
    if (asked > 0) process.exit()
  }
}
setInterval(ask, 1000)
ask()
`

const scraped = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["-e", scraping, HttpServer.formatAddress(address)], { stdio: "ignore" })
      ),
      (child) => Effect.sync(() => child.kill())
    )
  )
)

export const observed: System = async (job) => {
  let requests = 0
  const server = createServer().on("request", () => requests++)
  const endpoints = HttpRouter.serve(Observability.layer, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.merge(scraped),
    Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(Observability.layerLoopDelay),
    Layer.orDie
  )
  const ended = await engineOn(job, Layer.merge(KafkaJs.layer({ brokers: job.brokers }), endpoints))
  if (requests === 0) throw new Error("nobody has asked for metrics")
  return ended
}

/** The same program, with the same modules loaded, without any of it: what a process has loaded costs the collector something. */
export const unobserved: System = (job) => engineOn(job, KafkaJs.layer({ brokers: job.brokers }))
