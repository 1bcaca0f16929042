/** What the errors mean that kafkajs throws. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { reasonOf } from "@concurrent-kafka/driver/Protocol"
import { brokeOff } from "./wire.ts"

const byName: Readonly<Record<string, KafkaClientError["reason"]>> = {
  KafkaJSSASLAuthenticationError: "Authentication",
  KafkaJSRequestTimeoutError: "Timeout",
  KafkaJSLockTimeout: "Timeout",
  KafkaJSTimeout: "Timeout",
  KafkaJSNotImplemented: "MissingCodec",
  KafkaJSServerDoesNotSupportApiKey: "UnsupportedClient"
}

/**
 * Anything thrown below. What is not known is taken for trouble of the connection: it is tried again and shown, and a
 * mistake in kafkajs at a broken connection does not end a consumer.
 *
 * `authenticated`: the broker has taken our credentials over this connection before. kafkajs authenticates anew before each
 * request in the last 10 s of a SASL session; twice in a second a broker refuses that (ILLEGAL_SASL_STATE), which says
 * nothing of the credentials: another connection will do.
 */
export const classify = (error: unknown, what: string, authenticated = false): KafkaClientError => {
  for (let e = error as Thrown | null | undefined, depth = 0; e && depth < 8; e = e.cause, depth++) {
    if (e instanceof KafkaClientError) return e
    if (e.message?.includes(brokeOff) || (authenticated && e.type === "ILLEGAL_SASL_STATE")) break
    const reason = byName[e.name ?? ""] ?? reasonOf(e.type)
    if (reason) return new KafkaClientError({ reason, detail: `${what}: ${text(e)}`, cause: error })
  }
  return new KafkaClientError({ reason: "Connection", detail: `${what}: ${text(error)}`, cause: error })
}

/** what kafkajs's errors have */
interface Thrown {
  readonly name?: string
  readonly message?: string
  readonly type?: string
  readonly cause?: Thrown
}

const text = (error: unknown): string =>
  error instanceof Error
    ? error.message.slice(0, 300)
    : typeof error === "string"
      ? error.slice(0, 300)
      : "unknown error"
