import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { isFatal } from "@concurrent-kafka/driver/Protocol"
import {
  AuthenticationError,
  NetworkError,
  ResponseError,
  TimeoutError,
  UnexpectedCorrelationIdError,
  UserError
} from "@platformatic/kafka"
import { assert, it } from "@effect/vitest"
import { inspect } from "node:util"
import { classify } from "../src/internal/errors.ts"
import { suiteOf } from "../../driver/test/client.ts"
import { client } from "./client.ts"

/** An answer with an error code, as its parsers throw it. */
const answered = (code: number) => new ResponseError(17, 1, { "/": [code, null] }, {})
const unsupportedMechanism = 33
const illegalSaslState = 34
const authenticationFailed = 58

const thrown: ReadonlyArray<
  readonly [name: string, error: unknown, reason: KafkaClientError["reason"], fatal: boolean]
> = [
  [
    "a refused connection",
    new NetworkError("Connection failed.", { cause: new Error("ECONNREFUSED") }),
    "Connection",
    false
  ],
  ["a request without an answer", new TimeoutError("Request timed out"), "Timeout", false],
  [
    "a connection that took too long",
    new NetworkError("Connection failed.", { cause: new TimeoutError("timed out") }),
    "Timeout",
    false
  ],
  [
    "refused credentials",
    new NetworkError("Connection failed.", {
      cause: new AuthenticationError("SASL authentication failed.", { cause: answered(authenticationFailed) })
    }),
    "Authentication",
    true
  ],
  [
    "an unknown mechanism",
    new NetworkError("Connection failed.", {
      cause: new AuthenticationError("Cannot find a suitable SASL mechanism.", {
        cause: answered(unsupportedMechanism)
      })
    }),
    "Authentication",
    true
  ],
  [
    "a broker that does not prove that it knows the password",
    new NetworkError("Connection failed.", { cause: new AuthenticationError("Invalid server signature.") }),
    "Authentication",
    true
  ],
  [
    "a connection that broke while a mechanism was looked for",
    new NetworkError("Connection failed.", {
      cause: new AuthenticationError("Cannot find a suitable SASL mechanism.", {
        cause: new NetworkError("Connection closed")
      })
    }),
    "Connection",
    false
  ],
  ["a forbidden topic", answered(29), "Authorization", true],
  ["an error of our own", new KafkaClientError({ reason: "Closed", detail: "x" }), "Closed", false],
  [
    "a token that could not be had",
    new NetworkError("Connection failed.", { cause: new KafkaClientError({ reason: "Authorization", detail: "idp" }) }),
    "Authorization",
    true
  ],
  ["a broker that wants TLS", new UserError("Broker requires TLS."), "Connection", false],
  ["a mistake inside of the library", new TypeError("Cannot read properties of undefined"), "Connection", false],
  ["no error at all", undefined, "Connection", false]
]

suiteOf(client, "what @platformatic/kafka throws", () => {
  it.each(thrown)("%s", (_, error, reason, fatal) => {
    const classified = classify(error, "try")
    assert.strictEqual(classified.reason, reason)
    assert.strictEqual(isFatal(classified), fatal)
  })

  it("a state of SASL says nothing of the credentials that were taken before", () => {
    assert.strictEqual(classify(answered(illegalSaslState), "ask").reason, "Authentication")
    assert.strictEqual(classify(answered(illegalSaslState), "ask", true).reason, "Connection")
  })

  it("bytes of an answer are not passed on", () => {
    const unexpected = new UnexpectedCorrelationIdError("Received unexpected response", { raw: Buffer.from("secret") })
    const classified = classify(new NetworkError("Connection error", { cause: unexpected }), "fetch")
    assert.strictEqual(classified.reason, "Connection")
    assert.notInclude(inspect(classified, { depth: 9 }), String(inspect(Buffer.from("secret"))))
  })

  it("an error that refers to itself ends", () => {
    const error = new NetworkError("round")
    error.cause = error
    assert.strictEqual(classify(error, "try").reason, "Connection")
  })
})
