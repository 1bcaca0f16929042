/** The page's files: those of this package as they are, and uPlot's own. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"

/** from `src` and from `dist` alike */
const own = (name: string): URL => new URL(`../../../page/${name}`, import.meta.url)
const uplot = (name: string): string => createRequire(import.meta.url).resolve(`uplot/dist/${name}`)

const types = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml"
} as const

const names = [
  "index.html",
  "page.css",
  "icon.svg",
  "main.js",
  "connection.js",
  "charts.js",
  "points.js",
  "consumers.js",
  "detail.js",
  "partitions.js",
  "strip.js",
  "cells.js",
  "actions.js",
  "dom.js",
  "format.js"
]

export interface Asset {
  /** below the page's path; empty: the page itself */
  readonly path: string
  readonly contentType: string
  readonly body: Uint8Array
  readonly etag: string
}

const load = (path: string, type: keyof typeof types, file: string | URL): Effect.Effect<Asset> =>
  Effect.map(
    // they are there, or the package is not whole
    Effect.promise(() => readFile(file)),
    (body) => ({
      path,
      contentType: types[type],
      body,
      etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
    })
  )

export const loadAssets: Effect.Effect<ReadonlyArray<Asset>> = Effect.suspend(() =>
  Effect.all([
    ...names.map((name) =>
      load(name === "index.html" ? "" : name, name.slice(name.lastIndexOf(".") + 1) as keyof typeof types, own(name))
    ),
    load("uplot.js", "js", uplot("uPlot.iife.min.js")),
    load("uplot.css", "css", uplot("uPlot.min.css"))
  ])
)
