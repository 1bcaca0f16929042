/**
 * Group `websocket-service`: what changes goes to the open pages of its user, over WebSockets.
 *
 * A page keeps no place in a log: it reads everything when it connects, and then hears what changes. So what could not be pushed is not
 * retried or kept. A page that is too slow is cut off, connects again, and reads everything.
 *
 * What changes before the consumer has found its place at the end of the log is pushed by nobody. So `hello` says whether it has, and when
 * it has found it later every open page gets another `hello`, and reads everything once more. A page works without Kafka all the while.
 */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { HealthCode } from "@concurrent-kafka/core/Health"
import { Topic } from "@concurrent-kafka/core/Topic"
import { type Cause, Context, Effect, Layer, Queue, Schedule, Schema, type Scope } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { common } from "./consume.ts"
import { UserId } from "./domain.ts"
import { Topics } from "./events.ts"
import { Settings } from "./settings.ts"

/** So many changes wait for a page at most. */
const behind = 256
/** By this a page knows that its connection still leads somewhere. */
const beat = "10 seconds"

type Outgoing = Queue.Queue<string, Cause.Done>

export class Pages extends Context.Service<
  Pages,
  {
    /** What is pushed to the user from now on, until the scope closes. Ends when the page is too slow, and when the service closes. */
    readonly join: (user: string) => Effect.Effect<Queue.Dequeue<string, Cause.Done>, never, Scope.Scope>
    readonly push: (user: string, text: string) => Effect.Effect<void>
    /** What a page is told first, and again when changes are pushed from then on: read everything. */
    readonly hello: Effect.Effect<string>
    /** Whether changes come here. When they begin to, every open page is told. */
    readonly setLive: (live: boolean) => Effect.Effect<void>
    readonly closeAll: Effect.Effect<void>
  }
>()("task-notifications/Pages") {
  static readonly layer = Layer.sync(Pages, () => {
    const open = new Map<string, Set<Outgoing>>()
    const leave = (user: string, page: Outgoing) => {
      const all = open.get(user)
      if (all?.delete(page) && all.size === 0) open.delete(user)
      Queue.endUnsafe(page)
    }
    const offer = (user: string, page: Outgoing, text: string) => {
      if (!Queue.offerUnsafe(page, text)) leave(user, page)
    }
    let closed = false
    let live = false
    const hello = () => JSON.stringify({ type: "hello", live })
    return Pages.of({
      join: (user) =>
        Effect.acquireRelease(
          Effect.map(Queue.bounded<string, Cause.Done>(behind), (page) => {
            if (closed) Queue.endUnsafe(page)
            else open.set(user, (open.get(user) ?? new Set()).add(page))
            return page
          }),
          (page) => Effect.sync(() => leave(user, page))
        ),
      push: (user, text) =>
        Effect.sync(() => {
          for (const page of open.get(user) ?? []) offer(user, page, text)
        }),
      hello: Effect.sync(hello),
      setLive: (now) =>
        Effect.sync(() => {
          const begins = now && !live
          live = now
          if (begins) for (const [user, pages] of open) for (const page of pages) offer(user, page, hello())
        }),
      closeAll: Effect.sync(() => {
        closed = true
        for (const [user, pages] of open) for (const page of pages) leave(user, page)
      })
    })
  })
}

/**
 * Whether a page of ours asks, or no page at all: a browser lets any site open a WebSocket to anywhere, and says of which one it is. What is
 * no browser says nothing, and could say anything.
 */
const isOurs = ({ headers }: HttpServerRequest.HttpServerRequest): boolean => {
  if (headers["origin"] === undefined) return true
  const origin = URL.parse(headers["origin"])
  return origin !== null && origin.host === URL.parse(`${origin.protocol}//${headers["host"] ?? ""}`)?.host
}

const isUser = Schema.is(UserId)

/** `GET /live?user=ada`: a browser cannot send headers with a WebSocket. */
export const route = HttpRouter.add(
  "GET",
  "/live",
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const user = new URLSearchParams(request.url.split("?")[1]).get("user")
    if (!isOurs(request))
      return HttpServerResponse.jsonUnsafe({ error: "only for pages of this server" }, { status: 403 })
    if (!isUser(user)) return HttpServerResponse.jsonUnsafe({ error: "which user?" }, { status: 400 })
    const pages = yield* Pages
    const outgoing = yield* pages.join(user)
    const socket = yield* request.upgrade
    const { pull } = yield* socket.reader
    const { write } = yield* socket.writer
    yield* write(yield* pages.hello)
    yield* Effect.raceAllFirst([
      // nothing that a page says matters, but that it goes
      Effect.forever(pull),
      Effect.forever(Effect.flatMap(Queue.take(outgoing), write)),
      Effect.forever(Effect.andThen(Effect.sleep(beat), write(`{"type":"beat"}`)))
    ]).pipe(Effect.ignore)
    return HttpServerResponse.empty()
  })
)

/** Lets the pages go before the HTTP server closes, which would wait for them. Provide the server to it. */
export const layerClosing = Layer.effectDiscard(
  Effect.flatMap(Pages, ({ closeAll }) => Effect.addFinalizer(() => closeAll))
)

class Consumer extends ConcurrentConsumer.Tag<Consumer>()("task-notifications/PagesConsumer") {}

/** While one of these holds there is something that it does not read, or no place yet from which it does. */
const notReading: ReadonlySet<HealthCode> = new Set(["disabled", "starting", "standby", "opening", "rebalancing"])
/** How often that is looked at. */
const lookEvery = "100 millis"

const followed = Layer.effectDiscard(
  Effect.gen(function* () {
    const { health } = yield* Consumer
    const { setLive } = yield* Pages
    yield* health.pipe(
      Effect.flatMap(({ reasons }) => setLive(!reasons.some(({ code }) => notReading.has(code)))),
      Effect.repeat(Schedule.spaced(lookEvery)),
      Effect.forkScoped
    )
  })
)

export const layerConsumer = Layer.unwrap(
  Effect.gen(function* () {
    const { push } = yield* Pages
    const { taskUpdates } = yield* Topics
    const { groups } = yield* Settings
    const encode = Topic.handler(taskUpdates, ({ changes, task_id, type, user_id }) =>
      push(user_id, JSON.stringify({ type, task_id, changes }))
    )
    const consumer = Consumer.layerHandler(encode, {
      ...(yield* common)(groups.websocket),
      // what was before nobody waits for
      startFrom: "latest",
      onFailure: FailurePolicy.skip
    })
    return followed.pipe(Layer.provide(consumer))
  })
)
