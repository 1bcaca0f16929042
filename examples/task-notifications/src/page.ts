/** The page: three files that are sent as they are. */
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { readFile } from "node:fs/promises"
import { join } from "node:path"

const files = [
  ["/", "index.html", "text/html; charset=utf-8"],
  ["/page.css", "page.css", "text/css; charset=utf-8"],
  ["/page.js", "page.js", "text/javascript; charset=utf-8"]
] as const

const headers = {
  "content-security-policy":
    "default-src 'self'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "cache-control": "no-cache"
}

export const layer = HttpRouter.use((router) =>
  Effect.forEach(
    files,
    Effect.fnUntraced(function* ([path, name, contentType]) {
      const body = yield* Effect.promise(() => readFile(join(import.meta.dirname, "page", name)))
      yield* router.add("GET", path, HttpServerResponse.uint8Array(body, { contentType, headers }))
    }),
    { discard: true }
  )
)
