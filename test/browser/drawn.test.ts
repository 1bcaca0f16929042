/** What is drawn on the live page's canvases, read back dot by dot: charts with their marks, and strips. */
import { makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import type { RebalanceSnapshot, Snapshot } from "@concurrent-kafka/core/Snapshot"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Browser, Page } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { Told } from "../../packages/observability/test/pageServer.ts"
import { partition } from "../../packages/observability/test/topSnapshots.ts"
import { chromium, launch } from "./chromium.ts"
import { pageServer } from "./scene.ts"

let browser: Browser

/** A page of which each CSS pixel is two dots wide and high, before a consumer whose snapshot is made anew for each look. */
const shown = (now: (look: number) => Partial<Snapshot>, colorScheme: "light" | "dark" = "light") =>
  Effect.gen(function* () {
    const told = new Told()
    let look = 0
    const snapshot = Effect.map(told.shape.snapshot, (one) => ({ ...one, at: Date.now(), ...now(look++) }))
    const registry = makeRegistry()
    yield* Effect.orDie(registry.register({ ...told.shape, snapshot }))
    const { url } = yield* pageServer(registry, { every: "250 millis" })
    const context = yield* Effect.acquireRelease(
      Effect.promise(() =>
        browser.newContext({ viewport: { width: 1280, height: 900 }, deviceScaleFactor: 2, colorScheme })
      ),
      (opened) => Effect.promise(() => opened.close())
    )
    const page = yield* Effect.promise(() => context.newPage())
    yield* Effect.promise(() => page.goto(url))
    return page
  })

/** Numbers of the theme's colours: red, green, blue. */
const colours = (page: Page, names: ReadonlyArray<string>): Promise<Readonly<Record<string, string>>> =>
  page.evaluate((wanted) => {
    const style = getComputedStyle(document.documentElement)
    return Object.fromEntries(
      wanted.map((name) => {
        const digits = style.getPropertyValue(`--${name}`).trim().slice(1)
        return [name, [0, 2, 4].map((at) => Number.parseInt(digits.slice(at, at + 2), 16)).join()]
      })
    )
  }, names)

interface Chart {
  readonly name: string
  /** columns of the plot, from the left, each with how many dots of a colour it has */
  readonly columns: ReadonlyArray<Readonly<Record<string, number>>>
  readonly height: number
  /** above the plot: columns in which anything is written */
  readonly written: ReadonlyArray<number>
}

const chartsOf = (page: Page): Promise<ReadonlyArray<Chart>> =>
  page.locator(".chart").evaluateAll((figures) =>
    figures.map((figure) => {
      const canvas = figure.querySelector("canvas")!
      const [outer, inner] = [canvas.getBoundingClientRect(), figure.querySelector(".u-over")!.getBoundingClientRect()]
      const ratio = canvas.width / outer.width
      const [left, top] = [Math.round((inner.left - outer.left) * ratio), Math.round((inner.top - outer.top) * ratio)]
      const [width, height] = [Math.round(inner.width * ratio), Math.round(inner.height * ratio)]
      const drawing = canvas.getContext("2d")!
      const { data } = drawing.getImageData(left, top, width, height)
      // without the uppermost line of the grid
      const rows = top - 4
      const above = drawing.getImageData(left, 0, width, rows).data
      const columns = Array.from({ length: width }, (_, x) => {
        const counts: Record<string, number> = {}
        for (let y = 0; y < height; y++) {
          const at = 4 * (y * width + x)
          const dot = `${data[at]},${data[at + 1]},${data[at + 2]}`
          if (data[at + 3] === 255) counts[dot] = (counts[dot] ?? 0) + 1
        }
        return counts
      })
      const written = Array.from({ length: width }, (_, x) => x).filter((x) =>
        Array.from({ length: rows }, (_, y) => above[4 * (y * width + x) + 3]!).some((alpha) => alpha > 64)
      )
      return { name: figure.querySelector("h3")!.textContent, columns, height, written }
    })
  )

/** Neighbours in one, each as its first and last: what lies further apart than so many dots is another. */
const runsOf = (columns: ReadonlyArray<number>, apart: number): ReadonlyArray<readonly [number, number]> => {
  const runs: Array<[number, number]> = []
  for (const x of columns) {
    const last = runs.at(-1)
    if (last === undefined || x - last[1] > apart) runs.push([x, x])
    else last[1] = x
  }
  return runs
}

const rebalance = (kind: RebalanceSnapshot["kind"], at: number): RebalanceSnapshot => ({
  kind,
  at,
  partitions: 4,
  inFlight: 0,
  millis: 0
})

describe.skipIf(chromium === undefined).concurrent("what is drawn in Chromium", () => {
  beforeAll(async () => {
    browser = await launch()
  })
  afterAll(() => browser?.close())

  for (const theme of ["light", "dark"] as const) {
    it.live(`is a line for each series of each chart, and rebalances with their signs side by side: ${theme}`, () =>
      Effect.gen(function* () {
        const started = Date.now()
        const page = yield* shown(
          (look) => ({
            outcomes: { handled: look * 100, skipped: look * 20, deadLettered: 0, filtered: 0, alreadyDone: 0 },
            retries: look * 50,
            handlerTime: { p50: 5, p99: 40, all: { bounds: [], counts: [0], sum: 0 } },
            waitTime: { p50: 5, p99: 900, all: { bounds: [], counts: [0], sum: 0 } },
            partitions: [partition(0, { delivered: 50n, end: 500n })],
            rebalances: [
              rebalance("assigned", started - 40_000),
              rebalance("revoked", started - 25_400),
              rebalance("assigned", started - 25_000),
              rebalance("lost", started - 12_000)
            ]
          }),
          theme
        )
        const of = yield* Effect.promise(() =>
          colours(page, ["line-a", "line-b", "line-c", "line-d", "mark", "trouble"])
        )
        const wanted: Readonly<Record<string, ReadonlyArray<string>>> = {
          Throughput: ["line-a", "line-b", "line-c"],
          Latency: ["line-a", "line-d", "line-b"],
          Lag: ["line-a"]
        }
        /** the marks' lines are as high as the plot, the series' are not */
        const tall = ({ columns, height }: Chart, name: string) =>
          columns.flatMap((counts, x) => ((counts[of[name]!] ?? 0) > height / 4 ? [x] : []))
        const series = ({ columns }: Chart, name: string) =>
          columns.filter((counts) => (counts[of[name]!] ?? 0) > 0).length
        const isWhole = (all: ReadonlyArray<Chart>) =>
          all.length === 3 && all.every((chart) => wanted[chart.name]!.every((name) => series(chart, name) >= 8))
        let charts: ReadonlyArray<Chart> = []
        for (let i = 0; i < 60 && !isWhole(charts); i++) {
          yield* Effect.sleep(100)
          charts = yield* Effect.promise(() => chartsOf(page))
        }
        assert.deepStrictEqual(
          charts.map(({ name }) => name),
          Object.keys(wanted)
        )
        for (const chart of charts) {
          for (const name of wanted[chart.name]!) assert.isAtLeast(series(chart, name), 8, `${chart.name}: ${name}`)
          const marks = runsOf(tall(chart, "mark"), 1)
          assert.lengthOf(marks, 3, `${chart.name}: ${JSON.stringify(marks)}`)
          assert.lengthOf(runsOf(tall(chart, "trouble"), 1), 1, chart.name)
          // a plus, then a minus and a plus above two lines that are closer than a sign is wide, then the sign of what is lost
          const signs = runsOf(chart.written, 14)
          assert.lengthOf(signs, 3, `${chart.name}: ${JSON.stringify(signs)}`)
          const [plus, both, lost] = signs.map(([from, to]) => to - from + 1) as [number, number, number]
          assert.isAbove(both, plus * 1.6, chart.name)
          assert.isBelow(lost, plus, chart.name)
          assert.isBelow(marks[2]![0] - marks[1]![0], plus, chart.name)
        }
      })
    )
  }

  it.live("is a strip of what is committed, done, missing, in flight, held and not fetched, as long as each is", () =>
    Effect.gen(function* () {
      // of a hundred delivered: 40 done, 4 missing, 16 done, 10 in flight besides, 30 held; and 300 more to come
      const page = yield* shown(() => ({
        partitions: [
          partition(0, {
            committed: 1_000n,
            committable: 1_040n,
            delivered: 1_100n,
            end: 1_400n,
            done: 40,
            behindGap: 16,
            doneUpTo: 1_060n,
            doneBehindGap: [[1_044n, 1_060n]],
            gaps: 4,
            running: 14,
            buffered: 30,
            heldRecords: 44
          })
        ]
      }))
      const kinds = ["committed", "done", "gap", "flight", "held"]
      yield* Effect.promise(() => page.locator("#rows canvas").waitFor())
      const of = yield* Effect.promise(() => colours(page, [...kinds, "lag-ground", "lag"]))
      const dots = yield* Effect.promise(() =>
        page.locator("#rows canvas").evaluate((found) => {
          const canvas = found as HTMLCanvasElement
          const { data } = canvas.getContext("2d")!.getImageData(0, canvas.height / 2, canvas.width, 1)
          return Array.from({ length: canvas.width }, (_, x) =>
            data[4 * x + 3] === 0 ? "none" : data.slice(4 * x, 4 * x + 3).join()
          )
        })
      )
      const named = new Map(kinds.map((kind) => [of[kind]!, kind]))
      const parts: Array<{ readonly kind: string; length: number }> = []
      for (const dot of dots) {
        // what is hatched has many colours, and the dot between two parts may have some of both
        const kind = dot === "none" ? "none" : (named.get(dot) ?? "other")
        if (parts.at(-1)?.kind === kind) parts.at(-1)!.length++
        else parts.push({ kind, length: 1 })
      }
      const said = JSON.stringify(parts)
      const known: typeof parts = []
      for (const { kind, length } of parts) {
        if (!kinds.includes(kind) || length < 2) continue
        // a gap of several records has a dot of two colours between them
        if (known.at(-1)?.kind === kind) known.at(-1)!.length += length
        else known.push({ kind, length })
      }
      assert.deepStrictEqual(
        known.map(({ kind }) => kind),
        ["committed", "done", "gap", "done", "flight", "held"],
        said
      )
      const whole = known.slice(1).reduce((sum, { length }) => sum + length, 0)
      for (const [i, share] of [0.4, 0.04, 0.16, 0.1, 0.3].entries()) {
        assert.approximately(known[i + 1]!.length / whole, share, 0.02, said)
      }
      // behind it what is not fetched, on the ground that shows between the hatches
      const [last] = parts.slice(-1)
      const from = dots.findLastIndex((dot) => named.get(dot) === "held") + 1
      const to = last!.kind === "none" ? dots.length - last!.length : dots.length
      const ahead = dots.slice(from, to)
      assert.isAbove(ahead.length, whole * 0.3, said)
      assert.isTrue(ahead.includes(of["lag-ground"]!) && new Set(ahead).size > 2, said)
      assert.notInclude(ahead, "none")
    })
  )
})
