/**
 * The page's files: those of this package as they are, and uPlot's own. A program that was bundled into one file has none of them, and
 * consumers that would not start for want of a page would be worse than no page.
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"

const html = "text/html; charset=utf-8"
const types: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml"
}

const names = [
  "index.html",
  "page.css",
  "dark.css",
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

interface File {
  readonly path: string
  readonly file: string | URL
}

const load = async ({ file, path }: File): Promise<Asset> => {
  const body = await readFile(file)
  return {
    path,
    contentType: types[path.slice(path.lastIndexOf(".") + 1)] ?? html,
    body,
    etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
  }
}

/** `here`: where this module is, in `src` or in `dist`, or the bundle that it has become a part of */
const loadAssetsFrom = (here: string): Effect.Effect<ReadonlyArray<Asset>, Cause.UnknownError> =>
  Effect.tryPromise(() => {
    const require = createRequire(here)
    // all places before any is read: what cannot be resolved throws, and nobody would hear of those that were begun
    const files = [
      ...names.map((name) => ({
        path: name === "index.html" ? "" : name,
        file: new URL(`../../../page/${name}`, here)
      })),
      { path: "uplot.js", file: require.resolve("uplot/dist/uPlot.iife.min.js") },
      { path: "uplot.css", file: require.resolve("uplot/dist/uPlot.min.css") }
    ]
    return Promise.all(files.map(load))
  })

/** Where this module is. */
export const Here: Context.Reference<string> = Context.Reference("@concurrent-kafka/observability/Here", {
  defaultValue: () => import.meta.url
})

export const loadAssets: Effect.Effect<ReadonlyArray<Asset>, Cause.UnknownError> = Effect.flatMap(Here, loadAssetsFrom)
