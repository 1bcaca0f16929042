import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { request } from "node:http"
import { logged } from "../../core/test/harness.ts"
import { page, Reader } from "./pageServer.ts"

const token = "sixteen-and-more-letters"
const allowed = { actions: { token: Redacted.make(token) } }

interface Asked {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly body?: string
}

/** As a browser would send it from the page, but for what is given. Not with fetch, which does not let `host` and `origin` be told. */
const ask = (
  url: string,
  { body = `{"consumer":"shipping","action":"pause"}`, headers = {}, method = "POST" }: Asked = {}
) =>
  Effect.promise(
    () =>
      new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
        const { host, origin } = new URL(url)
        const given: Record<string, string | undefined> = {
          host,
          origin,
          "sec-fetch-site": "same-origin",
          "content-type": "application/json",
          "x-concurrent-kafka-token": token,
          connection: "close",
          ...headers
        }
        const sent = request(
          `${url}actions`,
          { method, headers: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) },
          (response) => {
            let text = ""
            response.on("data", (part) => (text += part))
            response.on("end", () => resolve({ status: response.statusCode!, text }))
          }
        )
        sent.on("error", reject)
        sent.end(body)
      })
  )

const doing = (action: object) => ({ body: JSON.stringify({ consumer: "shipping", ...action }) })

describe("actions of the live page", () => {
  it.live("are not there unless they are asked for", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page()
      assert.strictEqual((yield* ask(url)).status, 404)
      assert.deepStrictEqual(told.done, [])
      const reader = new Reader(url)
      assert.isFalse((yield* Effect.promise(() => reader.until("hello"))).data.actions)
      reader.leave()
    })
  )

  it.live("pause, resume and change concurrency, for who has the token", () => {
    const lines: Array<string> = []
    return Effect.gen(function* () {
      const { told, url } = yield* page(allowed)
      for (const action of [
        { action: "pause" },
        { action: "resume" },
        { action: "concurrency", concurrency: 7 },
        { action: "pause", partitions: [{ topic: "orders", partition: 3 }] }
      ]) {
        assert.deepStrictEqual(yield* ask(url, doing(action)), { status: 200, text: `{"ok":true}` })
      }
      assert.deepStrictEqual(told.done, ["pause", "resume", "concurrency 7", "pause 3"])
      assert.lengthOf(
        lines.filter((line) => line.includes("the live page:")),
        4
      )
      assert.isFalse(lines.some((line) => line.includes(token)))
    }).pipe(Effect.provideService(Logger.CurrentLoggers, logged(lines)))
  })

  const refusals: ReadonlyArray<readonly [what: string, status: number, asked: Asked]> = [
    ["a form, which any site can send", 415, { headers: { "content-type": "application/x-www-form-urlencoded" } }],
    ["text, which any site can send", 415, { headers: { "content-type": "text/plain" } }],
    ["another site", 403, { headers: { origin: "https://example.test" } }],
    ["another port of this machine", 403, { headers: { origin: "http://127.0.0.1:1" } }],
    ["a page without an origin", 403, { headers: { origin: "null" } }],
    ["nobody in particular", 403, { headers: { origin: undefined } }],
    ["what the browser calls another site", 403, { headers: { "sec-fetch-site": "cross-site" } }],
    ["what the browser calls a sister of the site", 403, { headers: { "sec-fetch-site": "same-site" } }],
    [
      "a name that an attacker has led to this machine",
      403,
      { headers: { host: "attacker.test", origin: "http://attacker.test" } }
    ],
    ["a name that is no name", 403, { headers: { host: "a b", origin: "http://a b" } }],
    ["nobody with a token", 401, { headers: { "x-concurrent-kafka-token": undefined } }],
    ["somebody with another token", 401, { headers: { "x-concurrent-kafka-token": "sixteen-and-more-letterz" } }],
    ["somebody with the start of the token", 401, { headers: { "x-concurrent-kafka-token": token.slice(0, -1) } }],
    ["what is no JSON", 400, { body: "pause" }],
    ["another action", 400, doing({ action: "seek" })],
    ["more than an action", 400, doing({ action: "pause", now: true })],
    ["no number", 400, doing({ action: "concurrency", concurrency: "many" })],
    ["a number that a consumer refuses", 400, doing({ action: "concurrency", concurrency: 0 })],
    ["a consumer that is not there", 404, { body: `{"consumer":"other","action":"pause"}` }],
    ["a partition of somebody else", 409, doing({ action: "pause", partitions: [{ topic: "orders", partition: 99 }] })],
    ["more than fits", 413, { body: `"${"x".repeat(70_000)}"` }],
    ["a link", 404, { method: "GET" }]
  ]
  for (const [what, status, asked] of refusals) {
    it.live(`are refused to ${what}`, () => {
      const lines: Array<string> = []
      return Effect.gen(function* () {
        const { told, url } = yield* page(allowed)
        const answer = yield* ask(url, asked)
        assert.strictEqual(answer.status, status, answer.text)
        assert.deepStrictEqual(told.done, [])
        assert.isFalse(lines.concat(answer.text).some((text) => text.includes(token)))
      }).pipe(Effect.provideService(Logger.CurrentLoggers, logged(lines)))
    })
  }

  it.live("are refused a token a quarter of a second, and to who tries many at once without a look at them", () => {
    const lines: Array<string> = []
    return Effect.gen(function* () {
      const { told, url } = yield* page(allowed)
      const guess = (i: number) => ask(url, { headers: { "x-concurrent-kafka-token": `a-guess-with-number-${i}` } })
      const began = performance.now()
      const answers = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, i) => i),
        guess,
        { concurrency: "unbounded" }
      )
      assert.isAtLeast(performance.now() - began, 240)
      const statuses = answers.map(({ status }) => status)
      const looked = statuses.filter((status) => status === 401).length
      assert.isAtLeast(performance.now() - began, looked * 250 - 10)
      assert.sameMembers([...new Set(statuses)], [401, 429])
      assert.lengthOf(
        lines.filter((line) => line.includes("refused to do something")),
        looked
      )
      // nobody is kept out
      assert.strictEqual((yield* ask(url)).status, 200)
      assert.deepStrictEqual(told.done, ["pause"])
      // what another site makes a browser send is no guess
      const others = yield* Effect.forEach(
        Array.from({ length: 12 }, () => ({ headers: { origin: "https://example.test" } })),
        (asked) => ask(url, asked),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(others.map(({ status }) => status))], [403])
    }).pipe(Effect.provideService(Logger.CurrentLoggers, logged(lines)))
  })

  it.live("are done under a name that was given, and under no other then", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page({ ...allowed, hosts: ["ops.example.test"] })
      const named = { host: "ops.example.test", origin: "https://ops.example.test" }
      assert.strictEqual((yield* ask(url, { headers: named })).status, 200)
      assert.strictEqual((yield* ask(url)).status, 403)
      assert.deepStrictEqual(told.done, ["pause"])
    }).pipe(Effect.provideService(Logger.CurrentLoggers, new Set()))
  )

  it.live("are found nowhere in what a browser is sent", () =>
    Effect.gen(function* () {
      const { url } = yield* page(allowed)
      const reader = new Reader(url)
      const hello = yield* Effect.promise(() => reader.until("hello"))
      const frame = yield* Effect.promise(() => reader.until("frame"))
      assert.isTrue(hello.data.actions)
      assert.notInclude(JSON.stringify([hello, frame]), token)
      reader.leave()
    })
  )
})
