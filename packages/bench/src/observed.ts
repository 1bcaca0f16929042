/** The engine with all that `@concurrent-kafka/observability` has, asked for health and metrics each second from another process. */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Observability } from "@concurrent-kafka/observability"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { spawn } from "node:child_process"
import { createServer } from "node:http"
import { engineOn } from "./engine.ts"
import type { System } from "./job.ts"

/** What Prometheus and Kubernetes do, at fifteen times their pace; a process of its own, whose time is not counted here. */
const scraping = `
let answered = false
const ask = async (path) => (await fetch(process.argv[1] + path)).text()
setInterval(async () => {
  try {
    await Promise.all(["/metrics", "/health/live", "/health/ready"].map(ask))
    answered = true
  } catch {
    // whoever was asked has ended
    if (answered) process.exit()
  }
}, 1000)
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
