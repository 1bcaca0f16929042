/** `KAFKA_ENABLED=false`: everything is there and nothing happens. */
import type { Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { type KafkaAdmin, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Producer } from "@concurrent-kafka/core/KafkaProducer"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { capabilities } from "./session.ts"

export const disabledSession = (settings: SessionSettings): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(Queue.unbounded<Signal, KafkaClientError | Cause.Done>(), (inbox) => Queue.end(inbox)),
    (inbox): Session => ({
      settings,
      capabilities: capabilities(1, settings, { staticMembership: true, groupProtocols: ["classic", "consumer"] }),
      enabled: false,
      join: Effect.void,
      inbox,
      generationUnsafe: () => -1,
      beginUnsafe: () => undefined,
      pauseUnsafe: () => undefined,
      resumeUnsafe: () => undefined,
      reopenUnsafe: () => undefined,
      commit: (entries) =>
        Effect.succeed(
          entries.map(({ epoch, partition, topic }) => ({ topic, partition, epoch, outcome: "stale", code: "EPOCH" }))
        ),
      logOffsets: () => Effect.succeed([]),
      leave: Effect.void
    })
  )

const refused = Effect.fail(new KafkaClientError({ reason: "Closed", detail: "Kafka is disabled (KAFKA_ENABLED)" }))

export const disabledAdmin: KafkaAdmin = {
  partitions: () => refused,
  committed: () => refused,
  logOffsets: () => refused
}

export const disabledProducer: Producer = { send: () => Effect.succeed(false) }
