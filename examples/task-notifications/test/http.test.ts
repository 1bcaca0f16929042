/** The routes behind a real HTTP server. */
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Logger, Schedule, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { SqlClient } from "effect/sql"
import { request } from "node:http"
import { isDeepStrictEqual } from "node:util"
import * as Api from "../src/api.ts"
import { NewTask } from "../src/domain.ts"
import { TaskUpdateEvent, Topics } from "../src/events.ts"
import * as Pages from "../src/pages.ts"
import * as Server from "../src/server.ts"
import { Tasks } from "../src/tasks.ts"
import { Kafka, until, World } from "./world.ts"

const Port = Server.layerOf({ host: "127.0.0.1", port: 0 })
const routes = HttpRouter.serve(Layer.merge(Api.layer, Pages.route), { disableListenLog: true, disableLogger: true })

const Service = routes.pipe(
  Layer.provideMerge(Port),
  Layer.provideMerge(Pages.Pages.layer),
  Layer.provideMerge(Kafka),
  Layer.provideMerge(World)
)

const baseUrl = Effect.map(HttpServer.HttpServer, ({ address }) => HttpServer.formatAddress(address))

const ask = Effect.fnUntraced(function* (method: string, path: string, body?: string) {
  const url = yield* baseUrl
  return yield* Effect.promise(async () => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { "x-user-id": "ada", "content-type": "application/json" },
      ...(body === undefined ? {} : { body })
    })
    return { status: answer.status, text: await answer.text() }
  })
})

/** The status of the answer to a WebSocket that is asked for as a browser or another program would; 101 when it is there. */
const asksForSocket = Effect.fnUntraced(function* (query: string, headers: Readonly<Record<string, string>> = {}) {
  const url = yield* baseUrl
  return yield* Effect.callback<number>((resume) => {
    const asked = request(`${url}/live${query}`, {
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": Buffer.alloc(16).toString("base64"),
        ...headers
      }
    })
    asked.once("upgrade", (_, socket) => {
      socket.destroy()
      resume(Effect.succeed(101))
    })
    asked.once("response", (answer) => {
      answer.resume()
      resume(Effect.succeed(answer.statusCode ?? 0))
    })
    asked.once("error", (error) => resume(Effect.die(error)))
    asked.end()
  })
})

/** What a page of the user is told, until the scope closes. */
const page = Effect.fnUntraced(function* (user: string) {
  const url = yield* baseUrl
  const told: Array<unknown> = []
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/live?user=${user}`)
      socket.addEventListener("message", ({ data }) => told.push(JSON.parse(String(data))))
      return socket
    }),
    (socket) => Effect.sync(() => socket.close())
  )
  return told
})

const change = Effect.fnUntraced(function* (title: string) {
  const { publish } = yield* KafkaProducer
  const { taskUpdates } = yield* Topics
  const event = new TaskUpdateEvent({
    event_id: title,
    timestamp: yield* DateTime.now,
    user_id: "ada",
    type: "task",
    task_id: "one",
    changes: { title }
  })
  yield* publish(taskUpdates, event, { key: "ada" })
})

const title = (message: unknown) => Schema.decodeUnknownSync(Pushed)(message).changes.title
const Pushed = Schema.Struct({ changes: Schema.Struct({ title: Schema.String }) })

describe("the HTTP server", () => {
  it.live("a request that comes before the routes are there is told to come again, and then answered by them", () =>
    Effect.gen(function* () {
      const early = yield* ask("GET", "/tasks")
      assert.strictEqual(early.status, 503)
      assert.strictEqual(yield* asksForSocket("?user=ada"), 503)
      yield* Layer.build(routes)
      assert.deepStrictEqual(yield* ask("GET", "/tasks"), { status: 200, text: "[]" })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Port.pipe(Layer.provideMerge(Pages.Pages.layer), Layer.provideMerge(Kafka), Layer.provideMerge(World))
      )
    )
  )

  it.live("what cannot be understood is 400, a body that is too large 413, a due time that does not sort 400", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("POST", "/tasks", "no JSON")).status, 400)
      const large = yield* ask("POST", "/tasks", JSON.stringify({ title: "a".repeat(100_000) }))
      assert.strictEqual(large.status, 413)
      assert.include(large.text, "64 KiB")
      const due = (due_at: string) => ask("POST", "/tasks", JSON.stringify({ title: "a", due_at }))
      const far = yield* due("+010000-01-01T00:00:00.000Z")
      assert.strictEqual(far.status, 400)
      assert.include(far.text, "9999")
      assert.strictEqual((yield* due("-000001-01-01T00:00:00.000Z")).status, 400)
      assert.strictEqual((yield* due("9999-12-31T23:59:59.999Z")).status, 201)
    }).pipe(Effect.provide(Service))
  )

  it.live("a cover is asked for by whoever has the task, and is there for nobody else", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* tasks.create("ada", new NewTask({ title: "a" }))
      const { id: other } = yield* tasks.create("grace", new NewTask({ title: "a" }))
      const cover = (task: string, body: unknown) => ask("POST", `/tasks/${task}/cover`, JSON.stringify(body))
      for (const width of [15, 16_385, 1.5, "wide"]) assert.strictEqual((yield* cover(id, { width })).status, 400)
      assert.strictEqual((yield* cover(other, {})).status, 404)
      assert.strictEqual((yield* cover(id, {})).status, 202)
      assert.strictEqual((yield* cover(id, { width: 16 })).status, 202)
      const asked = yield* sql<{
        value: Uint8Array
      }>`SELECT value FROM outbox WHERE topic = 'cover.request' ORDER BY id`
      assert.deepStrictEqual(
        asked.map(({ value }) => JSON.parse(Buffer.from(value).toString()).width),
        [320, 16]
      )
      const timestamp = yield* DateTime.now
      const mine = { event_id: "mine", task_id: id, timestamp, user_id: "ada" }
      yield* tasks.setCover(mine, new Uint8Array([1]))
      yield* tasks.setCover({ ...mine, event_id: "hers", task_id: other, user_id: "grace" }, new Uint8Array([2]))
      assert.deepStrictEqual(yield* ask("GET", "/covers/mine"), { status: 200, text: "\u0001" })
      assert.strictEqual((yield* ask("GET", "/covers/hers")).status, 404)
      assert.strictEqual((yield* ask("GET", "/covers/none")).status, 404)
    }).pipe(Effect.provide(Service))
  )

  it.live("a row that cannot be understood is an error of ours: 500, and the log says which", () => {
    const logged: Array<string> = []
    const log = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const { id } = yield* tasks.create("ada", new NewTask({ title: "a" }))
      yield* sql`UPDATE tasks SET channels = '["pigeon"]'`
      for (const path of ["/tasks", `/tasks/${id}`]) {
        const { status, text } = yield* ask("GET", path)
        assert.strictEqual(status, 500)
        assert.notInclude(text, "pigeon")
      }
      assert.strictEqual(logged.filter((line) => line.includes("a request failed")).length, 2)
    }).pipe(Effect.provide(Service.pipe(Layer.provide(log))))
  })

  it.live("a page of another site gets no WebSocket, nor does a user who is none", () =>
    Effect.gen(function* () {
      const { host } = new URL(yield* baseUrl)
      assert.strictEqual(yield* asksForSocket("?user=ada"), 101)
      assert.strictEqual(yield* asksForSocket("?user=ada", { origin: `http://${host}` }), 101)
      // behind something that ends TLS
      assert.strictEqual(
        yield* asksForSocket("?user=ada", { origin: "https://tasks.example", host: "tasks.example" }),
        101
      )
      for (const origin of ["http://evil.example", `http://${host}.evil.example`, "null", ""]) {
        assert.strictEqual(yield* asksForSocket("?user=ada", { origin }), 403, origin)
      }
      for (const query of ["", "?user=", "?user=ada%20grace", `?user=${"a".repeat(65)}`]) {
        assert.strictEqual(yield* asksForSocket(query), 400, query)
      }
    }).pipe(Effect.provide(Service))
  )

  it.live("a page that is there before the consumer reads is told when it does, and misses nothing from then on", () =>
    Effect.gen(function* () {
      const told = yield* page("ada")
      const seen = (what: string, length: number) =>
        until(
          what,
          Effect.sync(() => [...told]),
          (all) => all.length === length
        )
      assert.deepStrictEqual(yield* seen("the first hello", 1), [{ type: "hello", live: false }])
      // pushed by nobody
      yield* change("before")
      yield* Layer.build(Pages.layerConsumer)
      assert.deepStrictEqual((yield* seen("the second hello", 2))[1], { type: "hello", live: true })
      yield* change("after")
      assert.deepStrictEqual((yield* seen("the change", 3))[2], {
        type: "task",
        task_id: "one",
        changes: { title: "after" }
      })
      const later = yield* page("ada")
      yield* until(
        "the hello of another",
        Effect.sync(() => later.length),
        (n) => n === 1
      )
      assert.deepStrictEqual(later, [{ type: "hello", live: true }])
    }).pipe(Effect.scoped, Effect.provide(Service))
  )

  it.live("a page is not told so before the consumer has its place in the log, however long it takes to get it", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      kafka.faults.next("join", { kind: "slowRequest", ms: 300 })
      // each time that it asks where the log ends
      kafka.faults.next("listOffsets", { kind: "slowRequest", ms: 300 }, { times: 3 })
      const told = yield* page("ada")
      let published = 0
      const changes = Effect.sync(() => `${++published}`).pipe(
        Effect.flatMap(change),
        Effect.repeat(Schedule.spaced("10 millis"))
      )
      yield* Effect.forkScoped(changes)
      yield* Layer.build(Pages.layerConsumer)
      const lives = (all: ReadonlyArray<unknown>) =>
        all.findIndex((message) => isDeepStrictEqual(message, { type: "hello", live: true }))
      const seen = Effect.sync(() => [...told])
      yield* until("it is told", seen, (all) => lives(all) > 0)
      const since = published
      const pushed = (all: ReadonlyArray<unknown>) => all.slice(lives(all) + 1).map((message) => Number(title(message)))
      const after = pushed(yield* until("more is pushed", seen, (all) => Math.max(...pushed(all)) > since + 20))
      // what page and test had not heard of yet may be before these
      const missing = Array.from({ length: 20 }, (_, i) => since + 1 + i).filter((n) => !after.includes(n))
      assert.deepStrictEqual(missing, [])
    }).pipe(Effect.scoped, Effect.provide(Service))
  )
})
