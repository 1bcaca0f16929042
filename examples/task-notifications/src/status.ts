/** What of the service is on, for people and for the page. `/health` of the library says how each consumer is. */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { Effect } from "effect"
import { Outbox } from "./outbox.ts"

/** What there is not without Kafka; events of the time are kept, and sent when it is back. */
export const withoutKafka = ["the audit trail", "live updates of pages", "notifications", "covers"] as const

export const status = Effect.gen(function* () {
  const { enabled } = yield* KafkaClient
  const { counts } = yield* Outbox
  return { kafka: enabled ? "on" : "off", off: enabled ? [] : withoutKafka, outbox: yield* counts } as const
})
