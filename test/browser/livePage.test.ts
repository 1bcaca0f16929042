/** The live page in Chromium, before real consumers on a Kafka in memory. */
import type { ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { LivePage } from "@concurrent-kafka/observability"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Told } from "../../packages/observability/test/pageServer.ts"
import { partition } from "../../packages/observability/test/topSnapshots.ts"
import { onCi } from "../kafka/skips.ts"
import { chromium, launch } from "./chromium.ts"
import { makeScene, pageServer, Refused, type Scene } from "./scene.ts"

const token = "sixteen-and-more-letters"
const every = "250 millis"

let browser: Browser
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** What the browser complains of: any of it fails the test. */
interface Watched {
  readonly page: Page
  readonly complaints: Array<string>
}

const watched = (options: BrowserContextOptions = {}): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.acquireRelease(
      Effect.promise(() => browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })),
      (context) => Effect.promise(() => context.close())
    )
    const page = yield* Effect.promise(() => context.newPage())
    const complaints: Array<string> = []
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text())
    })
    page.on("pageerror", (error) => complaints.push(String(error)))
    page.on("request", (request) => {
      if (new URL(request.url()).hostname !== "127.0.0.1") complaints.push(`asked for ${request.url()}`)
    })
    return { page, complaints }
  })

/** Waits until the page shows it. */
const shows = (page: Page, selector: string, text: string | RegExp): Effect.Effect<void> =>
  Effect.promise(() =>
    page
      .locator(selector)
      .filter({ hasText: text })
      .first()
      .waitFor({ timeout: 20_000 })
      .catch(async () => {
        const there = await page.locator(selector).allTextContents()
        assert.fail(`${selector} never shows ${text}; it shows ${there.join(" | ")}`)
      })
  )

/** Two consumers: one whose records the test ends, and one that parks what fails. */
const troubled = Effect.gen(function* () {
  const scene = yield* makeScene
  const gate = yield* Deferred.make<void>()
  yield* scene.kafka.createTopic("orders", { partitions: 4 })
  yield* scene.kafka.createTopic("payments", { partitions: 2 })
  yield* scene.kafka.createTopic("orders.dead-letter")
  const shipping = yield* scene.consume({
    group: "shipping",
    topic: "orders",
    concurrency: 10,
    handle: ({ offset, partition }) =>
      partition === 1 && offset === 1n
        ? Deferred.await(gate)
        : partition === 2 && offset === 2n
          ? Effect.fail(new Refused("no address"))
          : Effect.void
  })
  const billing = yield* scene.consume({
    group: "<img src=x onerror=document.title='taken'>",
    topic: "payments",
    policy: "park",
    handle: ({ offset }) => (offset === 0n ? Effect.fail(new Refused("ledger")) : Effect.void)
  })
  yield* orders(scene, 20)
  yield* scene.kafka.produce(
    "payments",
    Array.from({ length: 6 }, (_, i) => ({ value: "payment", partition: i % 2 }))
  )
  return { scene, gate, shipping, billing }
})

const orders = (scene: Scene, each: number) =>
  scene.kafka.produce(
    "orders",
    Array.from({ length: 4 * each }, (_, i) => ({
      key: `secret-key-${i}`,
      value: "secret-value",
      headers: [["secret-header", "secret"]],
      partition: i % 4
    }))
  )

const violations = (page: Page) =>
  Effect.promise(async () => {
    await page.evaluate(axe)
    const found = await page.evaluate(
      `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join(" ")))`
    )
    return found as ReadonlyArray<string>
  })

/** By how much it is wider than the window: more than nothing has to be scrolled. */
const tooWide = (page: Page) =>
  Effect.promise(() => page.evaluate<number>("document.documentElement.scrollWidth - innerWidth"))

const evil = (n: number) => `<img src=x onerror="document.title='taken ${n}'">"'&<script>alert(${n})</script>`

/** A consumer of which there is everything to show, in words that others have chosen. */
const everything = Effect.gen(function* () {
  const at = { topic: evil(1), partition: 0 }
  const told = new Told({
    name: evil(2),
    groupId: evil(3),
    partitions: [
      partition(0, {
        topic: evil(1),
        oldest: {
          offset: 0n,
          state: "running",
          attempt: 1,
          since: 0,
          receivedAt: 0,
          firstFailedAt: undefined,
          timestamp: 0n
        }
      })
    ],
    hotLanes: [{ ...at, lane: evil(4), waiting: 3 }],
    health: {
      status: "down",
      live: true,
      ready: true,
      reasons: [
        { code: "failed", message: evil(5), since: 0, count: 1, at, members: [evil(6)] },
        { code: "standby", message: "standing by", since: 0, count: 1 }
      ]
    },
    members: [new Told({ name: evil(7) }).now]
  })
  const registry = makeRegistry()
  yield* Effect.orDie(registry.register(told.shape))
  yield* Effect.orDie(registry.register(new Told({ name: "other" }).shape))
  return registry
})

const limitOf = (consumer: ConcurrentConsumerShape) => Effect.map(consumer.snapshot, ({ permits }) => permits.limit)

// they wait more than they work
const why = "no Chromium was found: install chromium, or say where it is with CHROMIUM_PATH"
if (chromium === undefined) {
  if (onCi) throw new Error(why)
  process.stdout.write(`The live page is not tried: ${why}\n`)
}

describe.skipIf(chromium === undefined).concurrent("the live page in Chromium", () => {
  beforeAll(async () => {
    browser = await launch()
  })
  afterAll(() => browser?.close())

  it.live("shows consumers, partitions, what is stuck, what failed, and rebalances, and goes on showing", () =>
    Effect.gen(function* () {
      const { gate, scene } = yield* troubled
      const { url } = yield* pageServer(scene.registry, { every })
      const { complaints, page } = yield* watched()
      yield* Effect.promise(() => page.goto(url))
      yield* shows(page, "#connection", "live")
      yield* shows(page, "#name", "shipping")
      yield* shows(page, "#consumers button", "shipping")
      // one record of partition 1 is not done: a gap, and everything behind it waits for the commit
      yield* shows(page, "#rows tbody tr", /orders\/1.*1 gap/s)
      yield* shows(page, "#rows tbody tr", /committed 1, then 18 done, 1 gap, 1 in flight/)
      yield* shows(page, "#oldest li", /orders\/1 at 1\s*running/)
      yield* shows(page, "#tiles .tile", /Dead letters\s*1/)
      yield* shows(page, "#rebalances li", "assigned 4 partitions")
      assert.isFalse(yield* Effect.promise(() => page.locator("#actions").isVisible()))
      const drawn = yield* Effect.promise(() =>
        page.locator("#rows tbody tr canvas").evaluateAll((all) =>
          all.map((canvas) => {
            const { height, width } = canvas as HTMLCanvasElement
            const dots = (canvas as HTMLCanvasElement).getContext("2d")!.getImageData(0, 0, width, height).data
            return new Set(new Uint32Array(dots.buffer)).size
          })
        )
      )
      assert.isTrue(
        drawn.length === 4 && drawn.every((colours) => colours > 1),
        `strips of so many colours: ${drawn.join(", ")}`
      )
      yield* orders(scene, 5)
      yield* shows(page, "#rows tbody tr", /orders\/1.*then 23 done, 1 gap/s)
      assert.notInclude(yield* Effect.promise(() => page.content()), "secret")
      yield* Deferred.succeed(gate, undefined)
      yield* shows(page, "#rows tbody tr", /orders\/1.*committed 25, then 0 done, 0 gaps/s)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.live("shows each consumer, its health with reasons, and finds partitions; all of it as text", () =>
    Effect.gen(function* () {
      const { scene } = yield* troubled
      const { url } = yield* pageServer(scene.registry, { every })
      const { complaints, page } = yield* watched()
      yield* Effect.promise(() => page.goto(url))
      yield* Effect.promise(() => page.getByRole("button", { name: /onerror/ }).click())
      yield* shows(page, "#name", "<img src=x onerror=document.title='taken'>")
      yield* shows(page, "#reasons li", /parked.*payments\/[01] at 0/s)
      yield* shows(page, "#rows tbody tr", /payments\/0.*1 parked/s)
      yield* Effect.promise(() => page.locator("#find").fill("payments/1"))
      yield* shows(page, "#partitions-count", "1 of 2")
      yield* Effect.promise(() => page.locator("#find").fill("nothing like it"))
      yield* shows(page, "#rows-more", "No partition is like that.")
      // what is looked at stays
      yield* Effect.promise(() => page.reload())
      yield* shows(page, "#name", "<img")
      yield* shows(page, "#connection", "live")
      assert.strictEqual(yield* Effect.promise(() => page.locator("#find").inputValue()), "nothing like it")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.live("shows what others have written as text, wherever it comes from", () =>
    Effect.gen(function* () {
      const registry = yield* everything
      const { url } = yield* pageServer(registry, { every })
      const { complaints, page } = yield* watched()
      page.on("dialog", (dialog) => complaints.push(dialog.message()))
      yield* Effect.promise(() => page.goto(url))
      for (const [selector, n] of [
        ["#rows th.name", 1],
        ["#oldest li", 1],
        ["#consumers button", 2],
        ["#name", 2],
        ["#facts", 3],
        ["#lanes li", 4],
        ["#reasons li", 5],
        ["#reasons .where", 6],
        ["#members li", 7]
      ] as const) {
        yield* shows(page, selector, evil(n))
      }
      assert.strictEqual(yield* Effect.promise(() => page.locator("main img, main script").count()), 0)
      assert.notMatch(yield* Effect.promise(() => page.title()), /^taken/)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.live("says of the lag that it is not known, or at least so much, and not that there is none", () =>
    Effect.gen(function* () {
      const registry = makeRegistry()
      const unknown = partition(1, { end: undefined })
      const told = new Told({ partitions: [unknown] })
      yield* Effect.orDie(registry.register(told.shape))
      const { url } = yield* pageServer(registry, { every })
      const { complaints, page } = yield* watched()
      yield* Effect.promise(() => page.goto(url))
      yield* shows(page, "#tiles .tile", /Lag\s*\?\s*end of 1 partition unknown, 0 gaps/)
      yield* shows(page, "#charts .key", /committed to end\s*-/)
      told.now = { ...told.now, at: told.now.at + 1_000, partitions: [unknown, partition(2, { end: 70n })] }
      yield* shows(page, "#tiles .tile", /Lag\s*70\+\s*end of 1 partition unknown/)
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.live("says that the process is gone, tries again, and goes on when it is back", () =>
    Effect.gen(function* () {
      const { scene } = yield* troubled
      const first = yield* Scope.make()
      const { port, url } = yield* pageServer(scene.registry, { every }).pipe(Scope.provide(first))
      const { page } = yield* watched()
      yield* Effect.promise(() => page.goto(url))
      yield* shows(page, "#connection", "live")
      yield* Scope.close(first, Exit.void)
      yield* shows(page, "#connection", /the process closes.*trying again|cannot be reached.*trying again/)
      yield* shows(page, "#connection", /the process cannot be reached, last seen \d+ s ago; trying again in \d+ s/)
      assert.isTrue(yield* Effect.promise(() => page.locator("#rows tbody tr").first().isVisible()))
      assert.isTrue(yield* Effect.promise(() => page.locator("#again").isVisible()))
      yield* pageServer(scene.registry, { every }, port)
      yield* shows(page, "#connection", /^\s*live\s*$/)
      yield* orders(scene, 7)
      yield* shows(page, "#rows tbody tr", /orders\/0.*committed 27/s)
    })
  )

  it.live("pauses, resumes and changes concurrency with the token, and with nothing else", () =>
    Effect.gen(function* () {
      const { scene, shipping } = yield* troubled
      const options: LivePage.PageOptions = { every, actions: { token: Redacted.make(token) } }
      const { url } = yield* pageServer(scene.registry, options)
      const { page } = yield* watched()
      yield* Effect.promise(() => page.goto(url))
      yield* shows(page, "#name", "shipping")
      const press = (name: string) => Effect.promise(() => page.getByRole("button", { name, exact: true }).click())
      const give = (text: string) =>
        Effect.promise(async () => {
          await page.getByLabel("Token", { exact: true }).last().fill(text)
          await page.keyboard.press("Enter")
        })
      yield* press("Pause")
      yield* give("not-the-token-at-all")
      yield* shows(page, "#token-why", "This was not the token")
      assert.notInclude(
        (yield* shipping.health).reasons.map(({ code }) => code),
        "paused"
      )
      yield* give(token)
      yield* shows(page, "#said", "Paused")
      yield* shows(page, "#reasons li", "paused")
      assert.include(
        (yield* shipping.health).reasons.map(({ code }) => code),
        "paused"
      )
      yield* press("Resume")
      yield* shows(page, "#said", "Resumed")
      yield* Effect.promise(() => page.getByLabel("Concurrency").fill("3"))
      yield* press("Set")
      yield* shows(page, "#said", "At most 3 at once")
      assert.strictEqual(yield* limitOf(shipping), 3)
      yield* Effect.promise(() => page.getByLabel("Concurrency").fill("7"))
      yield* press("Set")
      yield* shows(page, "#tiles .tile", /Permits\s*\d+ of 7/)
      assert.notInclude(page.url() + (yield* Effect.promise(() => page.content())), token)
      const kept = yield* Effect.promise(() => page.evaluate("JSON.stringify([localStorage, sessionStorage])"))
      assert.notInclude(String(kept), token)
    })
  )

  for (const colorScheme of ["light", "dark"] as const) {
    it.live(`has nothing that axe objects to, fits 320 and 1,600 dots, and works by keyboard: ${colorScheme}`, () =>
      Effect.gen(function* () {
        const { scene, shipping } = yield* troubled
        const options: LivePage.PageOptions = { every, actions: { token: Redacted.make(token) } }
        const { url } = yield* pageServer(scene.registry, options)
        const { complaints, page } = yield* watched({ colorScheme, reducedMotion: "reduce", bypassCSP: true })
        yield* Effect.promise(() => page.goto(url))
        yield* shows(page, "#rows tbody tr", "1 gap")
        yield* shipping.pause()
        yield* shows(page, "#reasons li", "paused")
        assert.deepStrictEqual(yield* violations(page), [])
        assert.strictEqual(
          yield* Effect.promise(() => page.locator(".dot").evaluate((dot) => getComputedStyle(dot).animationName)),
          "none"
        )
        for (const width of [1_600, 320]) {
          yield* Effect.promise(() => page.setViewportSize({ width, height: 900 }))
          assert.isAtMost(yield* tooWide(page), 0, `${width} dots`)
          assert.deepStrictEqual(yield* violations(page), [], `${width} dots`)
        }
        const all = yield* pageServer(yield* everything, { every })
        const { page: other } = yield* watched({ colorScheme, bypassCSP: true })
        yield* Effect.promise(() => other.goto(all.url))
        yield* shows(other, "#status", "down")
        assert.deepStrictEqual(yield* violations(other), [])
        // everything that can be pressed is reached, and shows that it is
        const reached = yield* Effect.promise(async () => {
          const names: Array<string> = []
          for (let i = 0; i < 12; i++) {
            await page.keyboard.press("Tab")
            names.push(
              await page.evaluate(
                `(() => { const a = document.activeElement; return (a.id || a.textContent).slice(0, 12) + (getComputedStyle(a).outlineStyle === "none" ? " unseen" : "") })()`
              )
            )
          }
          return names
        })
        for (const id of ["theme", "pause", "permits", "find"]) assert.include(reached, id)
        yield* Effect.promise(() => page.locator("#theme").focus())
        const looks = Effect.promise(() =>
          page.evaluate(`(() => {
            const style = getComputedStyle(document.documentElement)
            return [style.colorScheme, style.getPropertyValue("--ground"), getComputedStyle(document.body).color]
          })()`)
        )
        const asChosen = {
          light: ["light", "#f5f6f8", "rgb(22, 27, 34)"],
          dark: ["dark", "#0e1116", "rgb(232, 236, 241)"]
        }
        assert.deepStrictEqual(yield* looks, ["light dark", ...asChosen[colorScheme].slice(1)])
        for (const theme of ["light", "dark"] as const) {
          yield* Effect.promise(() => page.keyboard.press("Enter"))
          yield* shows(page, "#theme", `Theme: ${theme}`)
          assert.deepStrictEqual(yield* looks, asChosen[theme])
        }
        // the choice outlives the page, whatever the system likes
        yield* Effect.promise(() => page.reload())
        yield* shows(page, "#status", "degraded")
        assert.deepStrictEqual(yield* looks, asChosen.dark)
        assert.deepStrictEqual(complaints, [])
      })
    )
  }

  it.live("shows a thousand partitions: a cell each, the worst with strips, found by a click", () =>
    Effect.gen(function* () {
      const scene = yield* makeScene
      yield* scene.kafka.createTopic("orders", { partitions: 1_000 })
      yield* scene.consume({
        group: "shipping",
        topic: "orders",
        concurrency: 200,
        handle: ({ partition }) => (partition === 777 ? Effect.never : Effect.void)
      })
      yield* scene.kafka.produce(
        "orders",
        Array.from({ length: 1_000 }, (_, partition) => ({ value: "order", partition }))
      )
      const { url } = yield* pageServer(scene.registry, { every: "500 millis" })
      const { complaints, page } = yield* watched({ bypassCSP: true })
      yield* Effect.promise(() => page.goto(url))
      yield* shows(page, "#partitions-count", "1,000, the worst first")
      yield* shows(page, "#cells .hint", /1 working, 999 quiet/)
      yield* shows(page, "#rows tbody tr", /orders\/777/)
      for (const colorScheme of ["dark", "light"] as const) {
        yield* Effect.promise(() => page.emulateMedia({ colorScheme }))
        for (const width of [320, 1_600, 1_280]) {
          yield* Effect.promise(() => page.setViewportSize({ width, height: 900 }))
          assert.isAtMost(yield* tooWide(page), 0, `${width} dots, ${colorScheme}`)
          if (width < 1_600) assert.deepStrictEqual(yield* violations(page), [], `${width} dots, ${colorScheme}`)
        }
      }
      yield* Effect.promise(() => page.locator("#cells canvas").click({ position: { x: 5, y: 5 } }))
      yield* shows(page, "#partitions-count", "1 of 1,000")
      yield* shows(page, "#rows tbody tr", /^orders\/0/)
      yield* Effect.promise(async () => {
        await page.locator("#cells canvas").focus()
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
      })
      yield* shows(page, "#cells .hint", "orders/1: quiet")
      assert.deepStrictEqual(complaints, [])
    })
  )
})
