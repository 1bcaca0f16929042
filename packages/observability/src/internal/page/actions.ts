/** Pause, resume and concurrency, as the page asks for them. */
import type { Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { actionRefused, type Refusal } from "./guard.ts"
import type { Guesses } from "./guesses.ts"

const tokenHeader = "x-concurrent-kafka-token"

const partitions = Schema.optionalKey(
  Schema.Array(Schema.Struct({ topic: Schema.String, partition: Schema.Int })).check(Schema.isMaxLength(100))
)
const Action = Schema.Union([
  Schema.Struct({ consumer: Schema.String, action: Schema.Literals(["pause", "resume"]), partitions }),
  Schema.Struct({ consumer: Schema.String, action: Schema.Literal("concurrency"), concurrency: Schema.Int })
])
type Action = typeof Action.Type
const decode = Schema.decodeUnknownEffect(Action, { onExcessProperty: "error" })

/** bytes; a hundred partitions with long names fit */
const longestBody = 65_536

const refuse = (status: Refusal["status"], error: string): Refusal => ({ status, error })

const carryOut = (registry: Registry, action: Action): Effect.Effect<void, Refusal> =>
  Effect.gen(function* () {
    const consumer = (yield* registry.consumers).find(({ name }) => name === action.consumer)
    if (consumer === undefined) return yield* Effect.fail(refuse(404, "there is no such consumer"))
    if (action.action === "concurrency") {
      return yield* Effect.mapError(consumer.setConcurrency(action.concurrency), ({ accepted }) =>
        refuse(400, `concurrency is ${accepted}`)
      )
    }
    yield* Effect.mapError(consumer[action.action](action.partitions), () =>
      refuse(409, "a partition is not owned by this consumer now")
    )
  })

const verdictOf = (request: HttpServerRequest.HttpServerRequest, guesses: Guesses): Effect.Effect<void, Refusal> => {
  const given = request.headers[tokenHeader]
  const wrong = refuse(401, "this is not the token")
  if (given === undefined) return Effect.fail(wrong)
  return Effect.flatMap(
    guesses.look(
      Option.getOrElse(request.remoteAddress, () => ""),
      given
    ),
    (verdict) =>
      verdict === "right"
        ? Effect.void
        : Effect.fail(
            verdict === "wrong" ? wrong : refuse(429, "too many tokens are being tried; ask again in a moment")
          )
  )
}

/** What is asked for, or why it is not done. Everything that is done is in the log, and what is refused, unless for being too many. */
export const act = (
  registry: Registry,
  hosts: ReadonlyArray<string> | undefined,
  guesses: Guesses,
  headers: Readonly<Record<string, string>>
) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const refused = actionRefused(request, hosts)
    if (refused !== undefined) return yield* Effect.fail(refused)
    yield* verdictOf(request, guesses)
    const text = yield* Effect.mapError(request.text, () => refuse(413, "the request cannot be read, or is too long"))
    const action = yield* Effect.try({ try: (): unknown => JSON.parse(text), catch: () => undefined }).pipe(
      Effect.flatMap(decode),
      Effect.mapError(() => refuse(400, "this is not one of the actions"))
    )
    yield* carryOut(registry, action)
    const what = action.action === "concurrency" ? `concurrency ${action.concurrency}` : action.action
    const where = "partitions" in action ? ` of ${action.partitions?.length ?? 0} partitions` : ""
    yield* Effect.logInfo(`the live page: ${what}${where} for ${JSON.stringify(action.consumer)}`)
    return HttpServerResponse.jsonUnsafe({ ok: true }, { headers })
  }).pipe(
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(longestBody)),
    Effect.catch(({ error, status }) =>
      Effect.as(
        // as fast as somebody sends them
        status === 429
          ? Effect.void
          : Effect.logWarning(`the live page: refused to do something (${status}): ${error}`),
        HttpServerResponse.jsonUnsafe(
          { error },
          { headers: status === 429 ? { ...headers, "retry-after": "1" } : headers, status }
        )
      )
    )
  )
