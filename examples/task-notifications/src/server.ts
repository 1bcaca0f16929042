/**
 * The HTTP server. Its port is open a little before its routes are there: whoever asks in between is told to come again. By itself Node
 * would leave such a request without any answer.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { createServer } from "node:http"
import { Settings } from "./settings.ts"

const answering = () => {
  const server = createServer()
  server.on("request", (_, response) => {
    // somebody else listens too: the routes, which answer it
    if (server.listenerCount("request") > 1) return
    response.writeHead(503, { "retry-after": "1" }).end()
  })
  return server
}

export const layerOf = (options: { readonly host: string; readonly port: number }) =>
  NodeHttpServer.layer(answering, options)

export const layer = Layer.unwrap(Effect.map(Settings, ({ http }) => layerOf(http)))
