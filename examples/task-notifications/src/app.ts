/**
 * The service put together of its layers, as one process or as two from the same ones.
 *
 * A layer closes before what it is provided with. So, from the first to the last: consumers, relay and reminders; the pages; the HTTP server;
 * the Kafka client; the database.
 */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { LivePage, Observability } from "@concurrent-kafka/observability"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"
import * as Api from "./api.ts"
import * as Audit from "./audit.ts"
import * as Database from "./database.ts"
import { Topics } from "./events.ts"
import * as Outbox from "./outbox.ts"
import { Settings } from "./settings.ts"
import { Tasks } from "./tasks.ts"

const Server = Layer.unwrap(Effect.map(Settings, ({ http }) => NodeHttpServer.layer(createServer, http)))

/** Health, metrics and the live page of this process's consumers. */
const Looking = Layer.mergeAll(Observability.layer, LivePage.layer())

const said = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.logInfo(`listening on ${HttpServer.formatAddress(address)}`)
  )
)

const serve = <E, R>(routes: Layer.Layer<never, E, R>) =>
  said.pipe(
    Layer.provideMerge(HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true })),
    Layer.provideMerge(Server)
  )

/** What both processes stand on. */
const Common = Layer.mergeAll(Tasks.layer).pipe(
  Layer.provideMerge(Outbox.Outbox.layer),
  Layer.provideMerge(Topics.layer),
  Layer.provideMerge(Observability.layerLoopDelay),
  Layer.provideMerge(KafkaJs.layerConfig),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(Settings.layer)
)

const Worker = Layer.mergeAll(Audit.layer, Outbox.layerRelay)

export const roles = {
  all: Worker.pipe(Layer.provide(serve(Layer.mergeAll(Api.layer, Looking))), Layer.provide(Common))
} as const
export type Role = keyof typeof roles
