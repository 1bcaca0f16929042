/**
 * Who may look, and who may do something.
 *
 * A page that is only on loopback can be reached by any web site that the browser shows: by a form or a script that sends, and, where a name
 * of the site's own leads to 127.0.0.1 (DNS rebinding), by one that reads too. So what changes something is asked for with a header that no
 * other site can send, from the page's own origin, under a name that is known to be ours.
 */
import type * as HttpServerRequest from "effect/http/HttpServerRequest"

export interface Refusal {
  readonly status: 400 | 401 | 403 | 404 | 409 | 413 | 415 | 429
  readonly error: string
}

/** `name:port` or `[::1]:port`, without the port. */
const hostname = (host: string): string | undefined => {
  const url = URL.parse(`http://${host}`)
  return url === null || url.host === "" || url.pathname !== "/" || url.username !== "" ? undefined : url.hostname
}

const loopback: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"])

/** Asked for under one of these names; `undefined`: of this machine. */
export const hostRefused = (
  { headers }: HttpServerRequest.HttpServerRequest,
  hosts: ReadonlyArray<string> | undefined
): Refusal | undefined => {
  const name = hostname(headers["host"] ?? "")
  const known = name !== undefined && (hosts === undefined ? loopback.has(name) : hosts.includes(name))
  return known ? undefined : { status: 403, error: "this name of the server is not one that it is asked for by" }
}

/** By the page itself; whether by somebody who has the token is looked at after that, so that no other site can make a browser guess. */
export const actionRefused = (
  request: HttpServerRequest.HttpServerRequest,
  hosts: ReadonlyArray<string> | undefined
): Refusal | undefined => {
  const { headers } = request
  const host = hostRefused(request, hosts)
  if (host !== undefined) return host
  const origin = URL.parse(headers["origin"] ?? "")
  if (origin === null || origin.host !== URL.parse(`${origin.protocol}//${headers["host"] ?? ""}`)?.host) {
    return { status: 403, error: "only the page itself may ask for this" }
  }
  const site = headers["sec-fetch-site"]
  if (site !== undefined && site !== "same-origin") {
    return { status: 403, error: "only the page itself may ask for this" }
  }
  if ((headers["content-type"] ?? "").split(";")[0]!.trim().toLowerCase() !== "application/json") {
    return { status: 415, error: "this is asked for as application/json" }
  }
  return undefined
}
