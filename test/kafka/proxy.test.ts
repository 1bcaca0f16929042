import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Option, Queue } from "effect"
import type { Scope } from "effect"
import * as net from "node:net"
import * as Ports from "./ports.ts"
import * as Proxy from "./proxy.ts"

/** A server that answers with what it gets. */
const echo = Effect.acquireRelease(
  Effect.callback<net.Server>((resume) => {
    const server = net.createServer((socket) => {
      socket.on("error", () => {})
      socket.pipe(socket)
    })
    server.listen({ port: 0, host: "127.0.0.1" }, () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
).pipe(Effect.map((server) => (server.address() as net.AddressInfo).port))

interface Connection {
  readonly send: (text: string) => Effect.Effect<void>
  /** As many characters as asked for. */
  readonly read: (length: number) => Effect.Effect<string>
  readonly closed: Effect.Effect<string>
}

const connect = Effect.fnUntraced(function* (port: number): Effect.fn.Return<Connection, string, Scope.Scope> {
  const received = yield* Queue.unbounded<string>()
  const closed = Deferred.makeUnsafe<string>()
  const socket = yield* Effect.acquireRelease(
    Effect.callback<net.Socket, string>((resume) => {
      const opening = net.connect({ port, host: "127.0.0.1" })
      let how = "ended"
      opening.once("connect", () => resume(Effect.succeed(opening)))
      opening.on("error", (error: NodeJS.ErrnoException) => {
        how = error.code ?? error.message
        resume(Effect.fail(how))
      })
      opening.on("data", (chunk) => void Queue.offerAllUnsafe(received, chunk.toString("utf8").split("")))
      opening.once("close", () => Deferred.doneUnsafe(closed, Effect.succeed(how)))
    }),
    (open) => Effect.sync(() => open.destroy())
  )
  return {
    send: (text) => Effect.sync(() => void socket.write(text)),
    read: (length) => Effect.map(Queue.takeN(received, length), (characters) => characters.join("")),
    closed: Deferred.await(closed)
  }
})

const setup = Effect.gen(function* () {
  return yield* Proxy.make({ target: yield* echo })
})

const nothingWithin = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timeoutOption(effect, "50 millis"), (result) => assert.isTrue(Option.isNone(result)))

describe("the proxy", () => {
  it.live("passes bytes on and counts its connections", () =>
    Effect.gen(function* () {
      const proxy = yield* setup
      const connection = yield* connect(proxy.port)
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.read(5), "hello")
      assert.strictEqual(yield* proxy.connections, 1)
    })
  )

  it.live("delays without changing the order, also when the delay changes", () =>
    Effect.gen(function* () {
      const proxy = yield* setup
      const connection = yield* connect(proxy.port)
      yield* proxy.delay("40 millis")
      const started = performance.now()
      yield* connection.send("first ")
      yield* Effect.sleep("5 millis")
      yield* proxy.delay("1 millis")
      yield* connection.send("second")
      assert.strictEqual(yield* connection.read(12), "first second")
      yield* proxy.delay("40 millis")
      yield* connection.send("x")
      assert.strictEqual(yield* connection.read(1), "x")
      assert.isAbove(performance.now() - started, 75)
    })
  )

  it.live("a black hole holds everything until it heals", () =>
    Effect.gen(function* () {
      const proxy = yield* setup
      const connection = yield* connect(proxy.port)
      yield* proxy.blackhole()
      yield* connection.send("held")
      yield* nothingWithin(connection.read(1))
      const late = yield* connect(proxy.port)
      yield* late.send("late")
      yield* nothingWithin(late.read(1))
      yield* proxy.heal
      assert.strictEqual(yield* connection.read(4), "held")
      assert.strictEqual(yield* late.read(4), "late")
    })
  )

  it.live("a black hole can swallow the answers only", () =>
    Effect.gen(function* () {
      const reached = yield* Deferred.make<string>()
      const [target = 0] = yield* Ports.free(1)
      yield* Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const server = net.createServer((socket) => {
            socket.on("error", () => {})
            socket.once("data", (chunk) => {
              Deferred.doneUnsafe(reached, Effect.succeed(chunk.toString("utf8")))
              socket.write("answer")
            })
          })
          server.listen({ port: target, host: "127.0.0.1" }, () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const proxy = yield* Proxy.make({ target })
      const connection = yield* connect(proxy.port)
      yield* proxy.blackhole("answers")
      yield* connection.send("request")
      assert.strictEqual(yield* Deferred.await(reached), "request")
      yield* nothingWithin(connection.read(1))
      yield* proxy.heal
      assert.strictEqual(yield* connection.read(6), "answer")
    })
  )

  it.live("cuts what is open and accepts what is new", () =>
    Effect.gen(function* () {
      const proxy = yield* setup
      const connection = yield* connect(proxy.port)
      yield* connection.send("a")
      yield* connection.read(1)
      yield* proxy.cut
      assert.strictEqual(yield* connection.closed, "ECONNRESET")
      const next = yield* connect(proxy.port)
      yield* next.send("b")
      assert.strictEqual(yield* next.read(1), "b")
    })
  )

  it.live("refuses until it heals, on the same port", () =>
    Effect.gen(function* () {
      const proxy = yield* setup
      const connection = yield* connect(proxy.port)
      yield* connection.send("a")
      yield* connection.read(1)
      yield* proxy.refuse
      assert.strictEqual(yield* connection.closed, "ECONNRESET")
      assert.strictEqual(yield* Effect.flip(connect(proxy.port)), "ECONNREFUSED")
      yield* proxy.heal
      const next = yield* connect(proxy.port)
      yield* next.send("b")
      assert.strictEqual(yield* next.read(1), "b")
    })
  )

  it.live("closes with its scope", () =>
    Effect.gen(function* () {
      const target = yield* echo
      const port = yield* Effect.scoped(Effect.map(Proxy.make({ target }), (proxy) => proxy.port))
      assert.strictEqual(yield* Effect.flip(connect(port)), "ECONNREFUSED")
    })
  )
})
