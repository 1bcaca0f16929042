import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import { isFatal } from "@concurrent-kafka/driver/Protocol"
import { classify } from "../src/internal/kafkaJsErrors.ts"

/** kafkajs declares its error classes with other arguments than they take; what counts is what they are called */
const made = (name: string, rest: object = {}) => Object.assign(new Error(name), { name }, rest)
const protocolError = (type: string) => made("KafkaJSProtocolError", { type })

const thrown: ReadonlyArray<
  readonly [name: string, error: unknown, reason: KafkaClientError["reason"], fatal: boolean]
> = [
  ["a refused connection", made("KafkaJSConnectionError"), "Connection", false],
  ["a closed connection", made("KafkaJSConnectionClosedError"), "Connection", false],
  ["a request without an answer", made("KafkaJSRequestTimeoutError"), "Timeout", false],
  ["a lock that was not got", made("KafkaJSLockTimeout"), "Timeout", false],
  ["refused credentials", made("KafkaJSSASLAuthenticationError"), "Authentication", true],
  [
    "refused credentials, wrapped",
    made("KafkaJSNonRetriableError", { cause: made("KafkaJSSASLAuthenticationError") }),
    "Authentication",
    true
  ],
  ["an unknown mechanism", protocolError("UNSUPPORTED_SASL_MECHANISM"), "Authentication", true],
  ["a forbidden topic", protocolError("TOPIC_AUTHORIZATION_FAILED"), "Authorization", true],
  ["a forbidden group", protocolError("GROUP_AUTHORIZATION_FAILED"), "Authorization", true],
  ["a missing codec", made("KafkaJSNotImplemented"), "MissingCodec", true],
  ["a broker that lacks an API", made("KafkaJSServerDoesNotSupportApiKey"), "UnsupportedClient", true],
  ["an instance id used twice", protocolError("FENCED_INSTANCE_ID"), "FencedInstance", true],
  ["another assigner", protocolError("INCONSISTENT_GROUP_PROTOCOL"), "ProtocolMismatch", false],
  ["an error of our own", new KafkaClientError({ reason: "Closed", detail: "x" }), "Closed", false],
  [
    "a token that could not be had",
    made("KafkaJSNonRetriableError", { cause: new KafkaClientError({ reason: "Timeout", detail: "idp" }) }),
    "Timeout",
    false
  ],
  ["a mistake inside of kafkajs", new TypeError("Cannot read properties of undefined"), "Connection", false],
  ["no error at all", undefined, "Connection", false]
]

describe("what kafkajs throws", () => {
  it.each(thrown)("%s", (_, error, reason, fatal) => {
    const classified = classify(error, "try")
    assert.strictEqual(classified.reason, reason)
    assert.strictEqual(isFatal(classified), fatal)
  })

  it("an error that refers to itself ends", () => {
    const error: { cause?: unknown } = new Error("round")
    error.cause = error
    assert.strictEqual(classify(error, "try").reason, "Connection")
  })
})
