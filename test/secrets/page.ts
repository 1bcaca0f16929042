/** The live page asked for everything that it answers, also by those who have no token, or what is no action. */
import * as Effect from "effect/Effect"
import { request } from "node:http"
import { markers } from "./markers.ts"

interface Asked {
  readonly what: string
  readonly status: number
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly body?: string
}

const doing = (action: object): string => JSON.stringify({ consumer: "orders", ...action })

/** what the page may be asked to do, and what comes of it */
const actions: ReadonlyArray<Asked> = [
  { what: "pause of one partition", status: 200, body: doing({ action: "pause", partitions: [place(0)] }) },
  { what: "resume of it", status: 200, body: doing({ action: "resume", partitions: [place(0)] }) },
  { what: "pause", status: 200, body: doing({ action: "pause" }) },
  { what: "resume", status: 200, body: doing({ action: "resume" }) },
  { what: "concurrency", status: 200, body: doing({ action: "concurrency", concurrency: 4 }) },
  { what: "no concurrency", status: 400, body: doing({ action: "concurrency", concurrency: 0 }) },
  { what: "a partition of nobody", status: 409, body: doing({ action: "pause", partitions: [place(99)] }) },
  { what: "no consumer", status: 404, body: JSON.stringify({ consumer: markers.value, action: "pause" }) },
  { what: "no action", status: 400, body: doing({ action: markers.value, [markers.key]: markers.header }) },
  { what: "no JSON", status: 400, body: markers.value },
  { what: "too much", status: 413, body: `"${markers.value.repeat(4_000)}"` },
  { what: "a form", status: 415, headers: { "content-type": `text/plain; ${markers.header}` } },
  { what: "another site", status: 403, headers: { origin: "https://example.test" } },
  { what: "another name", status: 403, headers: { host: "attacker.test" } },
  { what: "without a token", status: 401, headers: { "x-concurrent-kafka-token": undefined } },
  { what: "half a token", status: 401, headers: { "x-concurrent-kafka-token": markers.pageToken.slice(0, -3) } },
  { what: "more than the token", status: 401, headers: { "x-concurrent-kafka-token": `${markers.pageToken}x` } }
]

function place(partition: number): object {
  return { topic: "orders", partition }
}

/** As a browser sends it from the page, but for what is given. Gives back everything that is answered. */
const ask = (page: string, { body = doing({ action: "pause" }), headers = {}, status, what }: Asked) =>
  Effect.promise(
    () =>
      new Promise<string>((resolve, reject) => {
        const { host, origin } = new URL(page)
        const given: Record<string, string | undefined> = {
          host,
          origin,
          "sec-fetch-site": "same-origin",
          "content-type": "application/json",
          "x-concurrent-kafka-token": markers.pageToken,
          connection: "close",
          ...headers
        }
        const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
        const sent = request(`${page}actions`, { method: "POST", headers: known }, (response) => {
          let text = `${JSON.stringify(response.rawHeaders)}\n`
          response.setEncoding("utf8").on("data", (part: string) => (text += part))
          response.on("end", () =>
            response.statusCode === status
              ? resolve(`${what}: ${status} ${text}`)
              : reject(new Error(`the page answers ${response.statusCode} to ${what}: ${text}`))
          )
        })
        sent.on("error", reject).end(body)
      })
  )

/** What comes in a second of an answer that does not end. */
const beginning = (url: string): Effect.Effect<string> =>
  Effect.promise(async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000), headers: { connection: "close" } })
    const decoder = new TextDecoder()
    let text = `${JSON.stringify([...response.headers])}\n`
    try {
      for await (const chunk of response.body!) text += decoder.decode(chunk, { stream: true })
    } catch {
      // its time is over
    }
    return text
  })

/** `page`: where it is, with a slash at the end. */
export const askPage = (page: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    const files = ["", "main.js", "nothing"].map((file) => beginning(page + file))
    const events = ["orders", "stopping", "nobody"].map((name) =>
      beginning(`${page}events?${new URLSearchParams({ consumer: name, find: "orders" })}`)
    )
    const seen = yield* Effect.all([...files, ...events], { concurrency: "unbounded" })
    const answered = yield* Effect.forEach(actions, (asked) => ask(page, asked))
    return [...seen, ...answered]
  })
