import type { KafkaClient, KafkaClientError, Session, SessionSettings } from "@concurrent-kafka/core"
import type { Effect, Scope } from "effect"
import { describe, expect, test } from "tstyche"

describe("KafkaClient", () => {
  test("opens a session in a Scope, and fails in one way only", () => {
    expect<KafkaClient["Service"]["openSession"]>().type.toBe<
      (settings: SessionSettings) => Effect.Effect<Session, KafkaClientError, Scope.Scope>
    >()
  })

  test("names each reason, so that a handler of errors can be exhaustive", () => {
    expect<"Connection">().type.toBeAssignableTo<KafkaClientError["reason"]>()
    expect<string>().type.not.toBeAssignableTo<KafkaClientError["reason"]>()
  })
})
