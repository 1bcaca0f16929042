/**
 * One page that shows what the consumers of this process do, while they do it.
 *
 * It is made of the consumers' snapshots, taken once a second for all browsers together, and only while one looks: what it costs depends on
 * how many partitions there are, and not on how many records go through. What is held is gone through: records in flight, waiting for their
 * retry or parked, lanes that have records (`maxHeldRecords`, 20,000, at most), and what is done behind a gap (`maxUncommitted` of a
 * partition, 100,000, at most); that is 0.2 and 0.7 ms a look where all of it is there. It says which topics, partitions and offsets there
 * are, and nothing of what records carry, unless `revealRecords` shows the keys of hot lanes.
 *
 * @since 0.1.0
 */
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as loopMonitor from "./internal/loopMonitor.ts"
import { act } from "./internal/page/actions.ts"
import { type Asset, loadAssets } from "./internal/page/assets.ts"
import { endsConnection, eventsOf } from "./internal/page/events.ts"
import { hostRefused } from "./internal/page/guard.ts"
import { Guesses } from "./internal/page/guesses.ts"
import { Sampler } from "./internal/page/sampler.ts"

/**
 * @since 0.1.0
 * @category options
 */
export interface ActionOptions {
  /**
   * Whoever knows it may pause and resume consumers, and change how many records they handle at once. At least 16 characters of
   * printable ASCII without spaces, sent in a header and kept by the page only until it is closed. Over a network only with TLS in front.
   *
   * Make it at random: four a second may be tried, by all together. While somebody tries, others wait for a second at most; who has his
   * address, such as that of a proxy in front, may be told to come later (429), and others when several try at once.
   */
  readonly token: Redacted.Redacted<string>
}

/**
 * @since 0.1.0
 * @category options
 */
export interface PageOptions {
  /** Where the page is. Default `/kafka`. */
  readonly path?: HttpRouter.PathInput | undefined
  /** How often all consumers are looked at, while somebody looks. Default 1 second; 250 milliseconds to 1 minute. */
  readonly every?: Duration.Input | undefined
  /** Browsers that may look at once; the next one is told to come later. Default 16. */
  readonly viewers?: number | undefined
  /**
   * Names that the server is asked for by, without port: requests under others get 403. Default: any name for looking, only `localhost`,
   * `127.0.0.1` and `[::1]` for actions.
   */
  readonly hosts?: ReadonlyArray<string> | undefined
  /** Buttons to pause, to resume and to change concurrency. Default: none, and no route for them. */
  readonly actions?: ActionOptions | undefined
}

/** what a header can carry, and nobody guesses */
const allowedToken = /^[!-~]{16,1000}$/
const shortest = Duration.millis(250)
const longest = Duration.minutes(1)

/** Nothing from elsewhere, nothing inline, in nobody's frame. */
const secured = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY"
}
const fresh = { ...secured, "cache-control": "no-store" }

const invalid = (option: string, value: unknown, accepted: string): Effect.Effect<never, InvalidOptions> =>
  Effect.fail(new InvalidOptions({ option, value, accepted }))

const validate = Effect.fnUntraced(function* (options: PageOptions) {
  const every = Option.getOrUndefined(Duration.fromInput(options.every ?? "1 second"))
  if (every === undefined || !Duration.between(every, { minimum: shortest, maximum: longest })) {
    return yield* invalid("every", options.every, "a duration from 250 milliseconds to 1 minute")
  }
  const viewers = options.viewers ?? 16
  if (!Number.isSafeInteger(viewers) || viewers < 1) {
    return yield* invalid("viewers", viewers, "an integer of at least 1")
  }
  const hosts = options.hosts?.map((name) => name.toLowerCase())
  const odd = hosts?.find((name) => URL.parse(`http://${name}`)?.hostname !== name)
  if (odd !== undefined) return yield* invalid("hosts", odd, "names or addresses without scheme, port and path")
  const token = options.actions?.token
  if (token !== undefined && !allowedToken.test(Redacted.value(token))) {
    return yield* invalid("actions.token", "(not shown)", "16 to 1,000 characters of printable ASCII without spaces")
  }
  return { every, viewers, hosts, token }
})

const filesMissing =
  "its files are not there; a bundler has to leave @concurrent-kafka/observability and uplot where they are"

const answer = (asset: Asset, known: string | undefined) =>
  known === asset.etag
    ? HttpServerResponse.empty({ status: 304, headers: { ...secured, etag: asset.etag } })
    : HttpServerResponse.uint8Array(asset.body, {
        contentType: asset.contentType,
        headers: { ...secured, "cache-control": "no-cache", etag: asset.etag }
      })

/** The router answers with and without a slash at the end; what the page asks for is below the one with it. */
const below = (
  { originalUrl }: HttpServerRequest.HttpServerRequest,
  { path }: Asset
): HttpServerResponse.HttpServerResponse | undefined => {
  const last = originalUrl.split("?")[0]!.split("/").at(-1)!
  return path !== "" || last === ""
    ? undefined
    : HttpServerResponse.empty({ status: 307, headers: { ...fresh, location: `./${last}/` } })
}

/** Of the path as it was asked for: a URL is made of the client's `Host` too, and not every one is a URL. */
const queryOf = ({ url }: HttpServerRequest.HttpServerRequest): URLSearchParams => {
  const at = url.indexOf("?")
  return new URLSearchParams(at === -1 ? "" : url.slice(at + 1))
}

const parameter = (params: URLSearchParams, name: string): string => (params.get(name) ?? "").slice(0, 300)

/**
 * The page, with everything that it needs below its path. The consumers are those of the `ConsumerRegistry` that this layer is built with.
 *
 * Each open page is one connection that stays. When the server is closed it is ended, so that nothing waits for a browser. A browser that is
 * slow to read gets the newest state, not each; after a break it comes back by itself and gets what its charts have missed.
 *
 * In a program that was bundled into one file the page's files are not there: then a warning says so once, the page answers 503, and
 * everything else goes on. Tell the bundler to leave this package and `uplot` out (external).
 *
 * **Errors**: an option that cannot be used.
 *
 * **Cost**: what `snapshot` of each consumer costs, each time that it is looked (`every`), whatever the number of browsers; see the table
 * in the README of this package. Nothing while nobody looks.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: PageOptions = {}): Layer.Layer<never, InvalidOptions, HttpRouter.HttpRouter> =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const { every, hosts, token, viewers } = yield* validate(options)
      const registry = yield* ConsumerRegistry
      const sampler = new Sampler(registry, yield* loopMonitor.Monitor)
      const sampling = yield* sampler.looking(every)
      const hello = {
        start: (yield* Effect.clockWith((clock) => clock.currentTimeMillis)).toString(36),
        everyMillis: Duration.toMillis(every),
        actions: token !== undefined
      }
      const path = options.path ?? "/kafka"
      const pages = router.prefixed(path)
      const assets = yield* Effect.catch(loadAssets, ({ cause }) =>
        Effect.as(Effect.logWarning(`the live page at ${path} answers 503: ${filesMissing}`, cause), undefined)
      )

      /** to whoever asks for the server by a name that is ours */
      const guarded = <E, R>(
        respond: (
          request: HttpServerRequest.HttpServerRequest
        ) => Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
      ) =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
          const refused = hosts === undefined ? undefined : hostRefused(request, hosts)
          return refused === undefined
            ? respond(request)
            : Effect.succeed(HttpServerResponse.text(refused.error, { headers: fresh, status: refused.status }))
        })

      if (assets === undefined) {
        const missing = HttpServerResponse.text(filesMissing, { headers: fresh, status: 503 })
        yield* pages.add(
          "GET",
          "/",
          guarded(() => Effect.succeed(missing))
        )
      }
      for (const asset of assets ?? []) {
        yield* pages.add(
          "GET",
          `/${asset.path}`,
          guarded((request) => Effect.succeed(below(request, asset) ?? answer(asset, request.headers["if-none-match"])))
        )
      }
      let looking = 0
      yield* pages.add(
        "GET",
        "/events",
        guarded((request) =>
          Effect.suspend(() => {
            if (looking >= viewers) {
              return Effect.succeed(
                HttpServerResponse.jsonUnsafe(
                  { error: `${viewers} pages look already, which is as many as may` },
                  { headers: { ...fresh, ...endsConnection(request) }, status: 503 }
                )
              )
            }
            // who is let in gives the place back, whatever becomes of the request
            return Effect.map(
              Effect.acquireRelease(
                Effect.sync(() => looking++),
                () => Effect.sync(() => looking--)
              ),
              () => {
                const asked = queryOf(request)
                const events = eventsOf(sampling, hello, request, {
                  consumer: parameter(asked, "consumer"),
                  find: parameter(asked, "find"),
                  lastId: request.headers["last-event-id"]
                })
                return HttpServerResponse.stream(events, {
                  contentType: "text/event-stream",
                  headers: { ...fresh, ...endsConnection(request), "x-accel-buffering": "no" }
                })
              }
            )
          })
        )
      )
      if (token !== undefined) {
        yield* pages.add("POST", "/actions", act(registry, hosts, new Guesses(token), fresh))
      }
    })
  )
