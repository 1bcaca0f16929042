import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { request } from "node:http"
import { LivePage } from "../src/index.ts"
import { page, Reader, soon, Told } from "./pageServer.ts"
import { partition } from "./topSnapshots.ts"

const every = "250 millis"
const close = { headers: { connection: "close" } }

/** What is answered to a request that `fetch` does not send. */
const statusOf = (port: number, host: string, path: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const asked = request({ agent: false, headers: { host }, host: "127.0.0.1", path, port }, (answer) => {
      resolve(answer.statusCode)
      asked.destroy()
    })
    asked.on("error", reject).end()
  })

describe("the live page over HTTP", () => {
  it.live("is one page with everything below it, that loads nothing from elsewhere and runs nothing inline", () =>
    Effect.gen(function* () {
      const { url } = yield* page()
      yield* Effect.promise(async () => {
        const answer = await fetch(url, close)
        const html = await answer.text()
        assert.strictEqual(answer.headers.get("content-type"), "text/html; charset=utf-8")
        const policy = answer.headers.get("content-security-policy")!
        assert.include(policy, "default-src 'none'; script-src 'self'; style-src 'self'")
        assert.include(policy, "frame-ancestors 'none'")
        assert.notInclude(policy, "unsafe")
        assert.strictEqual(answer.headers.get("x-content-type-options"), "nosniff")
        assert.notMatch(html, /https?:|\/\/|\son\w+=|<style|style=/)
        const linked = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, name = ""]) => name)
        assert.includeMembers(linked, ["page.css", "dark.css", "main.js", "uplot.js", "uplot.css", "icon.svg"])
        const seen = new Set<string>()
        const queue = [...linked]
        for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
          if (seen.has(name)) continue
          seen.add(name)
          const file = await fetch(new URL(name, url), close)
          const text = await file.text()
          assert.strictEqual(file.status, 200, name)
          assert.strictEqual(file.headers.get("content-security-policy"), policy, name)
          if (name !== "uplot.js") {
            queue.push(...[...text.matchAll(/from "\.\/([^"]+)"/g)].map(([, module = ""]) => module))
            assert.notMatch(text, /innerHTML|insertAdjacentHTML|document\.write|\beval\(/, name)
          }
        }
        assert.isAbove(seen.size, 12)
      })
    })
  )

  it.live("is asked for again only when it has changed, and leads to the path with a slash", () =>
    Effect.gen(function* () {
      const { url } = yield* page({ path: "/ops/kafka.v1" })
      yield* Effect.promise(async () => {
        const first = await fetch(url, close)
        await first.text()
        const etag = first.headers.get("etag")!
        const again = await fetch(url, { headers: { ...close.headers, "if-none-match": etag } })
        assert.deepStrictEqual([again.status, await again.text()], [304, ""])
        const without = await fetch(url.slice(0, -1), { ...close, redirect: "manual" })
        await without.text()
        assert.strictEqual(without.status, 307)
        assert.strictEqual(new URL(without.headers.get("location")!, url.slice(0, -1)).href, url)
      })
    })
  )

  it.live("tells each browser the same, looks once for all of them, and not at all while nobody does", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page({ every })
      yield* Effect.promise(async () => {
        await new Promise((resolve) => setTimeout(resolve, 300))
        assert.strictEqual(told.asked, 0)
        const readers = [new Reader(url), new Reader(url), new Reader(url)]
        const first = await Promise.all(readers.map((reader) => reader.until("frame")))
        for (const { data } of first) assert.deepStrictEqual(data.frame, first[0]!.data.frame)
        assert.strictEqual(first[0]!.data.frame.detail.name, "shipping")
        const before = told.asked
        const ids = await Promise.all(readers.map(async (reader) => (await reader.until("same")).id))
        assert.isAtMost(told.asked - before, 2)
        assert.strictEqual(new Set(ids).size, 1)
        for (const reader of readers) reader.leave()
        await new Promise((resolve) => setTimeout(resolve, 300))
        const left = told.asked
        await new Promise((resolve) => setTimeout(resolve, 600))
        assert.strictEqual(told.asked, left)
      })
    })
  )

  it.live("says of every look whether something has changed", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page({ every })
      yield* Effect.promise(async () => {
        const reader = new Reader(url)
        assert.strictEqual((await reader.next())!.name, "hello")
        assert.strictEqual((await reader.next())!.name, "points")
        assert.strictEqual((await reader.next())!.name, "frame")
        const same = await reader.next()
        assert.strictEqual(same!.name, "same")
        assert.isBelow(JSON.stringify(same!.data).length, 30)
        told.now = { ...told.now, retries: 7 }
        const changed = await reader.until("frame")
        assert.strictEqual(changed.data.frame.detail.retries, 7)
        reader.leave()
      })
    })
  )

  it.live("gives a browser that comes back what its charts have missed, and everything after a restart", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page({ every })
      yield* Effect.promise(async () => {
        const reader = new Reader(url)
        for (let i = 0; i < 3; i++) {
          told.now = { ...told.now, at: told.now.at + 1_000, attempts: i + 1 }
          await reader.until("frame")
        }
        const { id } = await reader.next().then((event) => event!)
        const seen = Number(id.split(".")[1])
        await reader.next()
        await reader.next()
        const back = new Reader(url, "", { "last-event-id": id })
        const missed = (await back.until("points")).data
        assert.isFalse(missed.all)
        assert.isTrue(missed.points.every((point: { seq: number }) => point.seq > seen))
        assert.isAtLeast(missed.points.length, 1)
        const other = new Reader(url, "", { "last-event-id": "another.5" })
        const all = (await other.until("points")).data
        assert.isTrue(all.all)
        assert.isAbove(all.points.length, missed.points.length)
        for (const one of [reader, back, other]) one.leave()
      })
    })
  )

  it.live("gives it everything where a break came before the points, or its last event was none of these charts", () =>
    Effect.gen(function* () {
      const { registry, told, url } = yield* page({ every })
      const odd = new Told({ name: "a.b/\u00fc" })
      yield* Effect.orDie(registry.register(odd.shape))
      yield* Effect.promise(async () => {
        const reader = new Reader(url)
        const hello = await reader.next()
        assert.strictEqual(hello?.name, "hello")
        assert.isUndefined(hello?.id)
        const points = (await reader.next())!
        assert.strictEqual(points.name, "points")
        const { id } = points
        for (let i = 0; i < 2; i++) {
          told.now = { ...told.now, at: told.now.at + 1_000, attempts: i + 1 }
          await reader.until("frame")
        }
        const [start] = id.split(".")
        const asked = async (lastId: string, query = "") => {
          const back = new Reader(url, query, { "last-event-id": lastId })
          const { all, points } = (await back.until("points")).data
          const [first] = points
          back.leave()
          return all ? `all from ${first.seq}` : `from ${first?.seq}`
        }
        assert.strictEqual(await asked(id), "from 2")
        for (const no of [
          "",
          start!,
          `${start}.`,
          `${start}.x.shipping`,
          `${start}.-1.shipping`,
          `${start}.1e0.shipping`,
          `${start}.0.5.shipping`,
          `${start}.1`,
          `${start}.99999.shipping`,
          `${start}.1.billing`
        ]) {
          assert.strictEqual(await asked(no), "all from 1", no)
        }
        const query = `?consumer=${encodeURIComponent(odd.now.name)}`
        assert.strictEqual(await asked(id, query), "all from 1")
        const other = new Reader(url, query)
        const its = (await other.until("points")).id
        assert.match(its, /^[\w.%-]+$/)
        other.leave()
        assert.match(await asked(its, query), /^from/)
        reader.leave()
      })
    })
  )

  it.live("gives the charts of the consumer that is shown when the one that was looked at has gone", () =>
    Effect.gen(function* () {
      const { registry, url } = yield* page({ every })
      const scope = yield* Scope.make()
      const billing = new Told({ name: "billing", groupId: "billing" })
      yield* Effect.orDie(Scope.provide(registry.register(billing.shape), scope))
      const reader = new Reader(url, "?consumer=billing")
      const before = yield* Effect.promise(() => reader.until("frame"))
      assert.strictEqual(before.data.frame.detail.name, "billing")
      yield* Scope.close(scope, Exit.void)
      const points = yield* Effect.promise(() => reader.until("points"))
      assert.deepInclude(points.data, { name: "shipping", all: true })
      assert.isAbove(points.data.points.length, 1)
      const after = yield* Effect.promise(() => reader.until("frame"))
      assert.strictEqual(after.data.frame.detail.name, "shipping")
      reader.leave()
    })
  )

  it.live("goes on when one look has failed", () =>
    Effect.gen(function* () {
      const { told, url } = yield* page({ every })
      const reader = new Reader(url)
      yield* Effect.promise(async () => {
        await reader.until("frame")
        told.broken = true
        const before = told.asked
        assert.isTrue(await soon(() => told.asked > before + 1))
        told.broken = false
        told.now = { ...told.now, retries: 3 }
        assert.strictEqual((await reader.until("frame")).data.frame.detail.retries, 3)
        reader.leave()
      })
    }).pipe(Effect.provideService(Logger.CurrentLoggers, new Set()))
  )

  it.live("looks at the consumer and the partitions that a browser asks for", () =>
    Effect.gen(function* () {
      const partitions = [partition(0), partition(1, { gaps: 2, running: 2, heldRecords: 2 }), partition(2)]
      const { registry, url } = yield* page({ every }, { partitions })
      const billing = new Told({ name: "billing", groupId: "billing" })
      yield* Effect.orDie(registry.register(billing.shape))
      yield* Effect.promise(async () => {
        const other = new Reader(url, "?consumer=billing")
        const { frame } = (await other.until("frame")).data
        assert.strictEqual(frame.detail.name, "billing")
        assert.deepStrictEqual(
          frame.consumers.map(({ name }: { name: string }) => name),
          ["shipping", "billing"]
        )
        const found = new Reader(url, "?consumer=shipping&find=orders+GAP")
        const { detail } = (await found.until("frame")).data.frame
        assert.deepStrictEqual(
          detail.rows.map((row: { partition: number }) => row.partition),
          [1]
        )
        assert.strictEqual(detail.found, 1)
        assert.strictEqual(detail.cells[0].levels.length, 3)
        other.leave()
        found.leave()
      })
    })
  )

  it.live("lets only so many browsers look, and the next one when one has gone", () =>
    Effect.gen(function* () {
      const { url } = yield* page({ every, viewers: 2 })
      yield* Effect.promise(async () => {
        const [first, second] = [new Reader(url), new Reader(url)]
        await Promise.all([first.until("frame"), second.until("frame")])
        const third = await fetch(`${url}events`, close)
        assert.strictEqual(third.status, 503)
        assert.match(((await third.json()) as { error: string }).error, /^2 pages look already/)
        first.leave()
        const back = await soon(async () => {
          const reader = new Reader(url)
          const { status } = await reader.response
          reader.leave()
          return status === 200
        })
        assert.isTrue(back)
        second.leave()
      })
    })
  )

  it.live("gives the place of a browser back whatever it calls the server, and whatever it asks for", () =>
    Effect.gen(function* () {
      const any = yield* page({ every, viewers: 1 })
      const known = yield* page({ every, viewers: 1, hosts: ["127.0.0.1"] })
      yield* Effect.promise(async () => {
        for (const [{ url }, host, target] of [
          [any, "[", "/kafka/events"],
          [any, "a b", "/kafka/events?consumer=%"],
          [known, "127.0.0.1", "http://x:99999/kafka/events"],
          [known, "127.0.0.1", "http://[/kafka/events"]
        ] as const) {
          const { port } = new URL(url)
          for (let i = 0; i < 2; i++) {
            const status = await statusOf(Number(port), host, target)
            assert.strictEqual(status, 200, `${host} ${target}`)
            const free = await soon(async () => {
              const reader = new Reader(url)
              const { status } = await reader.response
              reader.leave()
              return status === 200
            })
            assert.isTrue(free, `${host} ${target}`)
          }
        }
      })
    })
  )

  it.live("does not hold up the end of the server: open pages are told, and closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { url } = yield* page({ every: "1 minute" }).pipe(Scope.provide(scope))
      const reader = new Reader(url)
      yield* Effect.promise(() => reader.until("frame"))
      const started = Date.now()
      const told = reader.until("closing").then(() => reader.next())
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(Date.now() - started, 2_000)
      assert.isUndefined(yield* Effect.promise(() => told))
    })
  )

  it.live("answers only under the names that it was given", () =>
    Effect.gen(function* () {
      const { url } = yield* page({ hosts: ["localhost"] })
      yield* Effect.promise(async () => {
        for (const path of ["", "main.js", "events"]) {
          const answer = await fetch(url + path, close)
          await answer.text()
          assert.strictEqual(answer.status, 403, path)
        }
        const known = await fetch(url.replace("127.0.0.1", "localhost"), close)
        await known.text()
        assert.strictEqual(known.status, 200)
      })
    })
  )

  it.effect("refuses options that cannot be used, and does not show a token", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [string, LivePage.PageOptions]> = [
        ["every", { every: "100 millis" }],
        ["every", { every: "2 minutes" }],
        ["viewers", { viewers: 0 }],
        ["viewers", { viewers: 1.5 }],
        ["hosts", { hosts: ["example.test:80"] }],
        ["hosts", { hosts: ["http://example.test"] }],
        ["actions.token", { actions: { token: Redacted.make("fifteen-letters") } }],
        ["actions.token", { actions: { token: Redacted.make("with spaces in it, long") } }]
      ]
      for (const [option, options] of wrong) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(LivePage.layer(options)))).pipe(
          Effect.provide(HttpRouter.layer)
        )
        assert.instanceOf(error, InvalidOptions)
        assert.strictEqual(error.option, option)
        assert.notInclude(JSON.stringify(error), "fifteen")
      }
    })
  )
})
