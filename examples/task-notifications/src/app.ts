/**
 * The service put together of its layers, as one process or as two from the same ones.
 *
 * A layer closes before what it is provided with. So, from the first to the last: consumers, relay and reminders; the pages; the HTTP
 * server; the Kafka client; the database.
 */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { LivePage, Observability } from "@concurrent-kafka/observability"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as Api from "./api.ts"
import * as Audit from "./audit.ts"
import { Email, Sms } from "./channels.ts"
import * as Covers from "./covers.ts"
import * as Database from "./database.ts"
import { Topics } from "./events.ts"
import * as Notifications from "./notifications.ts"
import * as Outbox from "./outbox.ts"
import * as Page from "./page.ts"
import * as Pages from "./pages.ts"
import * as Reminders from "./reminders.ts"
import * as Server from "./server.ts"
import { Settings } from "./settings.ts"
import { Tasks } from "./tasks.ts"

/** What both processes stand on. Kafka above the database: the last commits and sends go out before it closes. */
const Base = Layer.mergeAll(Outbox.Outbox.layer, Topics.layer).pipe(
  Layer.provideMerge(KafkaJs.layerConfig),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(Settings.layer),
  Layer.provideMerge(Observability.layerLoopDelay)
)

const sayWhere = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    Effect.logInfo(`listening on ${HttpServer.formatAddress(address)}`)
  )
)

/** Health, metrics and the live page of this process's consumers; not ready before so many are there. */
const looking = (consumers: number) =>
  Layer.mergeAll(Observability.layerHealth({ consumers }), Observability.layerMetrics(), LivePage.layer())

const serve = <E, R>(routes: Layer.Layer<never, E, R>) =>
  sayWhere.pipe(
    Layer.provideMerge(HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true })),
    Layer.provideMerge(Server.layer)
  )

/** For people: the API, the page, and what is pushed to it. */
const routes = Layer.mergeAll(Api.layer, Page.layer, Pages.route)
const Push = Pages.layerConsumer.pipe(Layer.provideMerge(Pages.layerClosing))

/** In the background: what is sent to Kafka, and what is made of what comes back. */
const Work = Layer.mergeAll(
  Audit.layer,
  Notifications.layer,
  Covers.layer.pipe(Layer.provide(Covers.Painter.layer)),
  Outbox.layerRelay,
  Reminders.layer
).pipe(Layer.provide([Email.layer, Sms.layerStub]))

const services = Layer.merge(Pages.Pages.layer, Tasks.layer)

export const roles = {
  all: Layer.mergeAll(Push, Work).pipe(
    Layer.provide(serve(Layer.merge(routes, looking(4)))),
    Layer.provide(services),
    Layer.provide(Base)
  ),
  api: Push.pipe(Layer.provide(serve(Layer.merge(routes, looking(1)))), Layer.provide(services), Layer.provide(Base)),
  worker: Work.pipe(Layer.provide(serve(looking(3))), Layer.provide(Tasks.layer), Layer.provide(Base))
} as const
export type Role = keyof typeof roles
