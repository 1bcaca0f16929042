import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Handler } from "@concurrent-kafka/core/Handler"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { createServer } from "node:http"
import { pass, turns } from "../../core/test/harness.ts"
import { Observability } from "../src/index.ts"

/** What a program does to its endpoints: the status of each, or that nobody listens. */
const ask = (url: string) =>
  Effect.promise(async () => {
    try {
      const statuses: Array<number> = []
      for (const path of ["/health/live", "/health/ready", "/health", "/metrics"]) {
        statuses.push((await fetch(url + path, { headers: { connection: "close" } })).status)
      }
      return statuses
    } catch {
      return "nobody listens"
    }
  })

describe("the endpoints beside consumers", () => {
  it.effect("see those that are built above them, and answer until these have closed", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let started = false
      const handler = Handler.make("orders", () => {
        started = true
        return Deferred.await(gate)
      })
      const Orders = ConcurrentConsumer.layerHandler(handler, { groupId: "shipping", shutdown: "drain" })
      const Endpoints = HttpRouter.serve(Observability.layer, { disableListenLog: true, disableLogger: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
      )
      const Main = Orders.pipe(
        Layer.provideMerge(Endpoints),
        Layer.provideMerge(MemoryKafka.layer()),
        Layer.provide([Observability.layerLoopDelay, Layer.succeed(ConsumerRegistry, makeRegistry())])
      )
      const scope = yield* Scope.make()
      const built = yield* Layer.buildWithScope(Main, scope)
      const url = HttpServer.formatAddress(Context.get(built, HttpServer.HttpServer).address)
      const kafka = Context.get(built, MemoryKafka)
      // the topic is not there yet
      yield* pass(1_000)
      assert.deepStrictEqual(yield* ask(url), [200, 503, 503, 200])
      yield* kafka.createTopic("orders")
      yield* kafka.produce("orders", [{ value: "order 1" }])
      for (let i = 0; i < 100 && !started; i++) yield* pass(1_000)
      assert.deepStrictEqual(yield* ask(url), [200, 200, 200, 200])

      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* turns
      assert.deepStrictEqual(yield* ask(url), [200, 503, 200, 200])
      yield* Deferred.succeed(gate, undefined)
      while (closing.pollUnsafe() === undefined) {
        yield* pass(100)
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      yield* Fiber.join(closing)
      assert.strictEqual(yield* ask(url), "nobody listens")
    })
  )
})
