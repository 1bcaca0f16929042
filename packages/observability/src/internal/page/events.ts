/**
 * Server-sent events: a frame for each look, of one consumer, and before the first one the points of the charts since the page's last.
 * Where nothing has changed there is a short event all the same, so that a page can tell silence from a broken connection.
 *
 * An event's id is the start of this server's layer and the number of the look, so that a page that comes back gets what it has missed, and
 * everything after a restart.
 */
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as RcRef from "effect/RcRef"
import * as Stream from "effect/Stream"
import type { Look, Sampler } from "./sampler.ts"

/** how often it is looked whether the server closes */
const closingLooks = "250 millis"

const event = (name: string, id: string, data: string): string => `event: ${name}\nid: ${id}\ndata: ${data}\n\n`

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
const closing = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<undefined> =>
  Effect.sleep(closingLooks).pipe(
    Effect.repeat({ until: () => told(request, "socket", "server", "listening") === false }),
    Effect.as(undefined)
  )

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
}

export const eventsOf = (
  sampling: RcRef.RcRef<Sampler>,
  hello: Hello,
  request: HttpServerRequest.HttpServerRequest,
  { consumer, find, lastId }: Wanted
): Stream.Stream<Uint8Array> =>
  Stream.unwrap(
    Effect.map(RcRef.get(sampling), (sampler) => {
      const { start } = hello
      const [of, seen] = lastId?.split(".") ?? []
      const before = of === start ? Number(seen) : 0
      const write = (look: Look, sent: Sent): string => {
        const id = `${start}.${look.seq}`
        const frame = look.frame(consumer, find)
        const time = `{"at":${look.at}}`
        if (frame === sent.frame) return event("same", id, time)
        const now = event("frame", id, `{"at":${look.at},"frame":${frame}}`)
        if (sent.frame !== undefined) return now
        const name = look.nameOf(consumer)
        const points = name === undefined ? [] : sampler.pointsAfter(name, Number.isSafeInteger(before) ? before : 0)
        return (
          event("hello", id, JSON.stringify(hello)) +
          event("points", id, JSON.stringify({ name, points, all: before === 0 })) +
          now
        )
      }
      return Stream.unfold({ seq: 0, frame: undefined }, (sent: Sent | undefined) => {
        if (sent === undefined) return Effect.undefined
        return Effect.map(Effect.raceFirst(sampler.after(sent.seq), closing(request)), (look) =>
          look === undefined
            ? ([event("closing", `${start}.${sent.seq}`, "{}"), undefined] as const)
            : ([write(look, sent), { seq: look.seq, frame: look.frame(consumer, find) }] as const)
        )
      })
    })
  ).pipe(Stream.encodeText)
