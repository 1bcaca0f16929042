/** The endpoints on a socket of their own, asked as a probe asks. */
import { makeRegistry, ConsumerRegistry, type Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { NodeHttpServer } from "@effect/platform-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"
import { Observability } from "../src/index.ts"

export interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

export interface Endpoints {
  readonly url: string
  readonly registry: Registry
  readonly get: (path: string) => Effect.Effect<Answer>
}

export const endpoints = (
  routes: Layer.Layer<never, InvalidOptions, HttpRouter.HttpRouter> = Observability.layer
): Effect.Effect<Endpoints, never, Scope.Scope> =>
  Effect.gen(function* () {
    const registry = makeRegistry()
    const scope = yield* Effect.scope
    const server = HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
    )
    const built = yield* Layer.buildWithScope(server, scope).pipe(
      Effect.provideService(ConsumerRegistry, registry),
      Effect.orDie
    )
    const url = HttpServer.formatAddress(Context.get(built, HttpServer.HttpServer).address)
    return {
      url,
      registry,
      get: (path) =>
        Effect.promise(async () => {
          // no connection is kept: closing the server would wait for it
          const response = await fetch(url + path, { headers: { connection: "close" } })
          return { status: response.status, text: await response.text(), headers: response.headers }
        })
    }
  })
