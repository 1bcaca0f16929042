/** A browser that does not read, as a tab that stands in a debugger: over a socket of this machine whose buffers are full. */
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { createServer } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { LivePage } from "../src/index.ts"
import { soon, Told } from "./pageServer.ts"

/** In each event's id, so that few events fill the buffers of a socket. */
const long = "\u00fc".repeat(200_000)

/** A page that has changed each time that it is looked, and somebody who has asked for its events and reads nothing. */
const stalled = Effect.gen(function* () {
  const registry = makeRegistry()
  const told = new Told({ name: long })
  const looked = told.shape.snapshot
  const shape = { ...told.shape, snapshot: Effect.map(looked, (now) => ({ ...now, retries: told.asked })) }
  yield* Effect.orDie(registry.register(shape))
  const scope = yield* Scope.make()
  const server = createServer()
  const its: Array<Socket> = []
  server.on("connection", (socket) => its.push(socket))
  yield* Layer.buildWithScope(
    HttpRouter.serve(LivePage.layer({ every: "250 millis" }), { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })),
      Layer.provide(Layer.succeed(ConsumerRegistry, registry))
    ),
    scope
  ).pipe(Effect.orDie)
  const { port } = server.address() as AddressInfo
  const browser = yield* Effect.acquireRelease(
    Effect.sync(() => connect(port, "127.0.0.1").pause()),
    (socket) => Effect.sync(() => socket.destroy())
  )
  browser.on("error", () => undefined)
  browser.write("GET /kafka/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
  const full = () => its.length === 1 && its[0]!.writableNeedDrain
  assert.isTrue(yield* Effect.promise(() => soon(full, 20_000)))
  return { browser, close: Scope.close(scope, Exit.void), told }
})

describe.concurrent("a browser that does not read", () => {
  it.live("does not hold up the end of the server for longer than two seconds and a bit", () =>
    Effect.gen(function* () {
      const { browser, close } = yield* stalled
      const started = Date.now()
      yield* close
      const took = Date.now() - started
      assert.isTrue(took > 1_900 && took < 4_000, `${took} ms`)
      assert.strictEqual(browser.bytesRead, 0)
    })
  )

  it.live("gets the newest frame when it reads again, and not each that was", () =>
    Effect.gen(function* () {
      const { browser, close, told } = yield* stalled
      const before = told.asked
      assert.isTrue(yield* Effect.promise(() => soon(() => told.asked >= before + 4, 5_000)))
      const seen: Array<number> = []
      let text = ""
      browser.setEncoding("utf8").on("data", (some: string) => {
        // a frame may come in pieces; what is looked for is short
        const parts = (text + some).split(/"retries":(\d+),/)
        text = parts.at(-1)!.slice(-100)
        for (let i = 1; i < parts.length; i += 2) seen.push(Number(parts[i]))
      })
      const now = told.asked
      browser.resume()
      assert.isTrue(yield* Effect.promise(() => soon(() => seen.some((look) => look > now), 5_000)))
      const steps = seen.slice(1).map((look, i) => look - seen[i]!)
      // one gap, where it did not read, and then each as it comes
      assert.isAtLeast(Math.max(...steps), 4, seen.join())
      assert.deepStrictEqual(
        steps.filter((step) => step > 2),
        [Math.max(...steps)],
        seen.join()
      )
      assert.isAtLeast(seen[steps.indexOf(Math.max(...steps)) + 1]!, now, seen.join())
      browser.destroy()
      yield* close
    })
  )
})
