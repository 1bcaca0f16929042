/** What the errors mean that @platformatic/kafka throws. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { reasonOf } from "@concurrent-kafka/driver/Protocol"
import { AuthenticationError, NetworkError, TimeoutError } from "@platformatic/kafka"

/** what its errors have */
interface Thrown {
  readonly message?: string
  /** Kafka's name of an error that a broker has answered */
  readonly apiId?: string
  readonly cause?: unknown
  readonly errors?: ReadonlyArray<unknown>
  /** bytes of an answer, which may hold records */
  readonly raw?: unknown
}

/** The error, and what led to it, from the outside in. */
const chain = (error: unknown): ReadonlyArray<Thrown> => {
  const found: Array<Thrown> = []
  const add = (e: unknown): void => {
    if (typeof e !== "object" || e === null || found.length >= 16 || found.includes(e)) return
    const thrown: Thrown = e
    found.push(thrown)
    add(thrown.cause)
    if (Array.isArray(thrown.errors)) for (const one of thrown.errors) add(one)
  }
  add(error)
  return found
}

/**
 * What is not known is taken for trouble of the connection: it is tried again and shown. To the library whatever goes wrong while it
 * looks for a mechanism is an authentication that failed; a broker that is shut down in the middle of it has refused nothing.
 */
export const classify = (error: unknown, what: string, authenticated = false): KafkaClientError => {
  const all = chain(error)
  const ours = all.find((e) => e instanceof KafkaClientError)
  if (ours instanceof KafkaClientError) return ours
  const innermost = all.at(-1)
  const detail = `${what}: ${(innermost?.message ?? "unknown error").slice(0, 300)}`
  // records are not for logs
  const cause = all.some(({ raw }) => raw !== undefined) ? {} : { cause: error }
  const as = (reason: KafkaClientError["reason"]) => new KafkaClientError({ reason, detail, ...cause })
  for (const { apiId } of all) {
    // over a connection that the broker has authenticated before it says nothing of the credentials
    if (authenticated && apiId === "ILLEGAL_SASL_STATE") return as("Connection")
    const reason = reasonOf(apiId)
    if (reason !== undefined) return as(reason)
  }
  if (all.some((e) => e instanceof TimeoutError)) return as("Timeout")
  if (
    all.some((e, i) => e instanceof AuthenticationError && !all.slice(i).some((inner) => inner instanceof NetworkError))
  ) {
    return as("Authentication")
  }
  return as("Connection")
}
