/** The client of the package with a hand on what its sessions say to brokers. */
import type { Session } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { Library } from "@concurrent-kafka/driver/Driver"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Instrumented from "../../driver/test/instrumented.ts"
import { openClient } from "../src/internal/client.ts"
import type { Adapted } from "../src/internal/connector.ts"

export { controlOf, holdSync } from "../../driver/test/instrumented.ts"

const library: Library = { name: "kafkajs", open: openClient }

export const instrumented = (brokers: ReadonlyArray<string>): Layer.Layer<KafkaClient> =>
  Instrumented.instrumented(library, brokers)

export const evict = (brokers: ReadonlyArray<string>, session: Session): Effect.Effect<void> =>
  Instrumented.evict(library, brokers, session)

export const breakConnections = (session: Session): Effect.Effect<void> =>
  Instrumented.breakConnections(session, (broker) =>
    (broker as Adapted).connectionPool.pool.flatMap(({ socket }) => (socket === undefined ? [] : [socket]))
  )
