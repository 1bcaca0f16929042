/**
 * Server-sent events: a frame for each look, of one consumer, and before the first one the points of the charts since the page's last.
 * Where nothing has changed there is a short event all the same, so that a page can tell silence from a broken connection.
 *
 * An event's id is the start of this server's layer, the number of the look, and whose charts the page has until then, so that a page that
 * comes back gets what it has missed, and everything after a restart, or when it sees another consumer. The first event has none: a
 * connection may break before the points that follow it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as RcRef from "effect/RcRef"
import * as Stream from "effect/Stream"
import { Duplex } from "node:stream"
import type { Look, Sampler } from "./sampler.ts"

/** how often it is looked whether the server closes */
const closingLooks = "250 millis"
/** how long a page may take to read what is on its way to it when the server closes */
const lastReadMillis = 2_000

const event = (name: string, id: string | undefined, data: string): string =>
  `event: ${name}\n${id === undefined ? "" : `id: ${id}\n`}data: ${data}\n\n`

/** A name may be anything that is text; a header is not. */
const idOf = (start: string, seq: number, name: string | undefined): string =>
  `${start}.${seq}.${encodeURIComponent((name ?? "").toWellFormed())}`

/** The number of the look until which a page has the charts of this consumer; 0 when it has nothing of them. */
const seenUntil = (lastId: string | undefined, start: string, newest: number, name: string): number => {
  const seq = Number(lastId?.split(".")[1])
  return seq > 0 && seq <= newest && lastId === idOf(start, seq, name) ? seq : 0
}

/** Of what the platform's own request says; `undefined` where it has no such thing. */
const told = ({ source }: HttpServerRequest.HttpServerRequest, ...names: ReadonlyArray<string>): unknown => {
  let at: unknown = source
  for (const name of names) {
    if (typeof at !== "object" || at === null) return undefined
    at = Reflect.get(at, name)
  }
  return at
}

/**
 * Ends when the server takes no connections any more. Node's server waits for what is open when it is closed, and interrupts nothing
 * before: a page that stays open would hold up the end of the program for 20 seconds.
 */
const closing = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<unknown> =>
  Effect.sleep(closingLooks).pipe(
    Effect.repeat({ until: () => told(request, "socket", "server", "listening") === false })
  )

/**
 * The same of who does not read, as a tab in a debugger: once the buffers between are full the stream waits for him and makes nothing more,
 * and what it made last lies in them. So the connection ends whatever becomes of the stream. A timer and no fiber: the stream may have ended
 * long before what it wrote has gone out.
 */
const cutOff = (request: HttpServerRequest.HttpServerRequest): void => {
  // of HTTP/2 only the stream is ours; HTTP/1.1 has none
  const connection = told(request, "stream") ?? told(request, "socket")
  if (!(connection instanceof Duplex)) return
  const timer = setTimeout(() => connection.destroy(), lastReadMillis)
  connection.once("close", () => clearTimeout(timer))
}

/** For the same reason: the connection ends with the stream. HTTP/2 knows no such header. */
export const endsConnection = (request: HttpServerRequest.HttpServerRequest): { readonly connection?: string } =>
  told(request, "httpVersionMajor") === 1 ? { connection: "close" } : {}

export interface Wanted {
  readonly consumer: string
  readonly find: string
  /** of the last event that the page has seen */
  readonly lastId: string | undefined
}

/** What a page has to know before anything else. */
export interface Hello {
  /** of this server, different after each restart */
  readonly start: string
  readonly everyMillis: number
  readonly actions: boolean
}

interface Sent {
  readonly seq: number
  /** of the newest frame, to say "the same" */
  readonly frame: string | undefined
  /** whose charts it has */
  readonly name: string | undefined
}

export const eventsOf = (
  sampling: RcRef.RcRef<Sampler>,
  hello: Hello,
  request: HttpServerRequest.HttpServerRequest,
  { consumer, find, lastId }: Wanted
): Stream.Stream<Uint8Array> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const sampler = yield* RcRef.get(sampling)
      const closes = yield* Deferred.make<undefined>()
      // beside the stream, which stands while its reader does
      yield* Effect.forkScoped(
        Effect.map(closing(request), () => {
          cutOff(request)
          Deferred.doneUnsafe(closes, Exit.succeed(undefined))
        })
      )
      const { start } = hello
      const write = (look: Look, name: string | undefined, sent: Sent): string => {
        const id = idOf(start, look.seq, name)
        const frame = look.frame(consumer, find)
        const time = `{"at":${look.at}}`
        if (frame === sent.frame) return event("same", id, time)
        const now = event("frame", id, `{"at":${look.at},"frame":${frame}}`)
        const first = sent.frame === undefined
        // the consumer that it has looked at may be gone, and another one is shown in its place
        if (!first && name === sent.name) return now
        const before = first && name !== undefined ? seenUntil(lastId, start, look.seq, name) : 0
        const points = name === undefined ? [] : sampler.pointsAfter(name, before)
        return (
          (first ? event("hello", undefined, JSON.stringify(hello)) : "") +
          event("points", id, JSON.stringify({ name, points, all: before === 0 })) +
          now
        )
      }
      return Stream.unfold({ seq: 0, frame: undefined, name: undefined }, (sent: Sent | undefined) => {
        if (sent === undefined) return Effect.undefined
        return Effect.map(Effect.raceFirst(sampler.after(sent.seq), Deferred.await(closes)), (look) => {
          if (look === undefined) return [event("closing", undefined, "{}"), undefined] as const
          const name = look.nameOf(consumer)
          return [write(look, name, sent), { seq: look.seq, frame: look.frame(consumer, find), name }] as const
        })
      })
    })
  ).pipe(Stream.encodeText)
