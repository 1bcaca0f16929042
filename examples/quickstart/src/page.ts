/** `npm run demo -- --page`: two consumers at work, seen on the live page in a browser. */
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import * as LivePage from "@concurrent-kafka/observability/LivePage"
import * as Observability from "@concurrent-kafka/observability/Observability"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import { failedAt } from "./error.ts"
import type { Flags } from "./flags.ts"
import { findKafka } from "./kafka.ts"
import { say } from "./progress.ts"
import { openFolder } from "./run.ts"
import { consumers, createTopics, write } from "./work.ts"

const host = "127.0.0.1"

/** The page, with buttons for who reads this terminal. */
const server = (port: number) => {
  const token = randomBytes(12).toString("hex")
  return Layer.effectDiscard(
    Effect.map(HttpServer.HttpServer, ({ address }) => {
      say(`The live page: ${HttpServer.formatAddress(address)}/kafka/`)
      say(`The token that its buttons ask for: ${token}`)
      say("Ctrl-C ends it")
    })
  ).pipe(
    Layer.provide(
      HttpRouter.serve(LivePage.layer({ actions: { token: Redacted.make(token) } }), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port, host })))
    ),
    Layer.provide(Observability.layerLoopDelay)
  )
}

export const showPage = Effect.fnUntraced(function* (flags: Flags) {
  const { cluster } = yield* findKafka(flags, openFolder(flags), undefined)
  const topic = `page-${Date.now().toString(36)}`
  yield* createTopics(cluster, topic)
  const registry = yield* ConsumerRegistry
  yield* Effect.raceFirst(registry.failure, write(cluster, topic)).pipe(
    // the consumers close before the page does
    Effect.provide(consumers(cluster, topic).pipe(Layer.provide(server(flags.port)))),
    Effect.mapError(failedAt("the live page"))
  )
}, Effect.scoped)
