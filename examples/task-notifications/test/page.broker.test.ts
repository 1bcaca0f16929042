/** The service as two processes on a real Kafka, seen from two pages in Chromium. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Browser, Page, WebSocketRoute } from "playwright-core"
import { afterAll, beforeAll, inject } from "vitest"
import { chromium, launch } from "../../../test/browser/chromium.ts"
import * as Ports from "../../../test/kafka/ports.ts"
import { onCi } from "../../../test/kafka/skips.ts"
import { createTopics } from "../src/createTopics.ts"
import { type Mail, mailSink } from "../src/mailSink.ts"
import { type Child, ready, start } from "./child.ts"

if (chromium === undefined && onCi) throw new Error("no Chromium was found: install it, or set CHROMIUM_PATH")

const patience = 20_000

describe.skipIf(chromium === undefined)("the page of the service", () => {
  const scope = Scope.makeUnsafe()
  const mails: Array<Mail> = []
  let browser: Browser
  let url: string
  let api: Child
  let worker: Child
  let startApi: Effect.Effect<Child, never, Scope.Scope>

  beforeAll(async () => {
    browser = await launch()
    const brokers = inject("brokers")
    const names = { events: "tn-events", updates: "tn-updates", requests: "tn-requests", covers: "tn-covers" }
    const topics = Object.values(names)
    await Effect.gen(function* () {
      yield* createTopics(brokers, [...topics, ...topics.map((name) => `${name}.dead-letter`)], {
        partitions: 3,
        replicas: 1
      })
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "task-notifications-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const smtp = yield* mailSink((mail) => mails.push(mail))
      const [apiPort, workerPort] = yield* Ports.free(2)
      url = `http://127.0.0.1:${apiPort}`
      const environment = {
        KAFKA_BOOTSTRAP_SERVERS: brokers.join(","),
        DATABASE_FILE: join(folder, "tasks.sqlite"),
        SMTP_URL: smtp,
        TASK_EVENTS_TOPIC: names.events,
        TASK_UPDATES_TOPIC: names.updates,
        NOTIFICATION_REQUEST_TOPIC: names.requests,
        COVER_REQUEST_TOPIC: names.covers,
        AUDIT_GROUP: "tn-audit",
        WEBSOCKET_GROUP: "tn-websocket",
        NOTIFICATION_GROUP: "tn-notification",
        COVER_GROUP: "tn-cover",
        REMINDER_EVERY: "500 millis"
      }
      // under a name of its own: it has its partitions back at once when it was killed
      startApi = start(
        "api",
        { ...environment, INSTANCE_ID: "tn-api", HTTP_PORT: String(apiPort) },
        join(folder, "api.log")
      ).pipe(Effect.tap((child) => ready(child, url)))
      api = yield* startApi
      worker = yield* start("worker", { ...environment, HTTP_PORT: String(workerPort) }, join(folder, "worker.log"))
      yield* ready(worker, `http://127.0.0.1:${workerPort}`)
    }).pipe(Scope.provide(scope), Effect.runPromise)
  })
  afterAll(async () => {
    await browser?.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })

  /** A page of the user, which fails the test when it complains of anything. */
  const open = async (user: string, complaints: Array<string>): Promise<Page> => {
    const page = await (await browser.newContext()).newPage()
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text())
    })
    page.on("pageerror", (error) => complaints.push(String(error)))
    await page.goto(`${url}/?user=${user}`)
    await shows(page, "#connection", /^live$/)
    return page
  }
  const shows = async (page: Page, selector: string, text: string | RegExp) => {
    await page
      .locator(selector)
      .filter({ hasText: text })
      .first()
      .waitFor({ timeout: patience })
      .catch(async () => {
        assert.fail(
          `${selector} never shows ${text}; it shows ${(await page.locator(selector).allTextContents()).join(" | ")}`
        )
      })
  }

  it("a task that is made in one page appears in another of its user, and its notification; in nobody else's", async () => {
    const complaints: Array<string> = []
    const [one, another, other] = await Promise.all([
      open("ada", complaints),
      open("ada", complaints),
      open("grace", complaints)
    ])
    // what somebody has written is shown as text
    const title = `<img src=x onerror="document.title='taken'">`
    await one.getByLabel("What").fill(title)
    await one.getByLabel("e-mail").check()
    await one.getByRole("button", { name: "Add" }).click()
    for (const page of [one, another]) {
      await shows(page, "#tasks li", title)
      await shows(page, "#notifications li.sent", `New task: ${title}`)
    }
    await another.getByRole("button", { name: /^Done: / }).click()
    await shows(one, "#tasks li.done", title)
    await shows(one, "#notifications li.sent", "Task done")
    assert.strictEqual(await other.locator("li").count(), 0)
    assert.deepStrictEqual(
      mails.map(({ subject, to }) => [subject, to]),
      [
        ["New task", ["ada@tasks.example"]],
        ["Task done", ["ada@tasks.example"]]
      ]
    )
    // a page that comes later reads what there is
    const later = await open("ada", complaints)
    await shows(later, "#tasks li.done", title)
    assert.strictEqual(await later.locator("#notifications li").count(), 2)
    await one.getByRole("button", { name: /^Cover: / }).click()
    for (const page of [one, another, later]) {
      await page.locator("#tasks img[src^='blob:']").waitFor({ timeout: patience })
      await page.waitForFunction("document.querySelector('#tasks img')?.naturalWidth === 320")
    }
    await one.getByRole("button", { name: /^Delete: / }).click()
    await later.locator("#tasks li").waitFor({ state: "detached", timeout: patience })
    assert.notMatch(await later.title(), /taken/)
    assert.deepStrictEqual(complaints, [])
  })

  it("a task that is overdue is reminded of, and the library's live page is beside the page", async () => {
    const complaints: Array<string> = []
    const page = await open("alan", complaints)
    await page.getByLabel("What").fill("too late")
    await page.getByLabel("Due").fill("2020-01-01T10:00")
    await page.getByRole("button", { name: "Add" }).click()
    await shows(page, "#notifications li", "Overdue: too late")
    const [consumers] = await Promise.all([
      page.context().waitForEvent("page"),
      page.getByRole("link", { name: "consumers" }).click()
    ])
    await shows(consumers, "#name", "tn-websocket")
    assert.deepStrictEqual(complaints, [])
  })

  it("a page whose service is killed says so, connects again, and shows what changes", async () => {
    const page = await open("barbara", [])
    await Effect.runPromise(Effect.andThen(api.signal("SIGKILL"), api.exited))
    await shows(page, "#connection", "not connected")
    api = await Effect.runPromise(Scope.provide(startApi, scope))
    const another = await open("barbara", [])
    await another.getByLabel("What").fill("after it")
    await another.getByRole("button", { name: "Add" }).click()
    await shows(page, "#tasks li", "after it")
    await shows(page, "#connection", /^live$/)
  })

  it("a page that was there before changes are pushed says so, and reads again when it is told that they are", async () => {
    const page = await (await browser.newContext()).newPage()
    const sockets: Array<WebSocketRoute> = []
    await page.routeWebSocket(/\/live/, (socket) => {
      sockets.push(socket)
      socket.send(`{"type":"hello","live":false}`)
    })
    await page.goto(`${url}/?user=edsger`)
    await shows(page, "#connection", "connected, without live updates")
    const answer = await fetch(`${url}/tasks`, {
      method: "POST",
      headers: { "x-user-id": "edsger", "content-type": "application/json" },
      body: JSON.stringify({ title: "in between" })
    })
    assert.strictEqual(answer.status, 201)
    assert.strictEqual(await page.locator("#tasks li").count(), 0)
    for (const socket of sockets) socket.send(`{"type":"hello","live":true}`)
    await shows(page, "#connection", /^live$/)
    await shows(page, "#tasks li", "in between")
    assert.strictEqual(sockets.length, 1)
  })

  it("SIGTERM with a page open ends both processes in order", async () => {
    await open("ada", [])
    const ends = await Effect.runPromise(
      Effect.gen(function* () {
        yield* api.signal("SIGTERM")
        yield* worker.signal("SIGTERM")
        return yield* Effect.all([api.exited, worker.exited])
      }).pipe(Effect.timeout("15 seconds"))
    )
    assert.deepStrictEqual(
      ends.map(({ code }) => code),
      [0, 0]
    )
    for (const { said } of [api, worker]) assert.notMatch(await Effect.runPromise(said), /ERROR|WARN/)
  })
})
