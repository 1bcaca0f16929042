/** The service's layers on a database in memory, for tests of its parts. */
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { ConfigProvider, Duration, Effect, Layer, Schedule } from "effect"
import { deadLettersOf, Topics, topicNames } from "../src/events.ts"
import * as Database from "../src/database.ts"
import { Outbox } from "../src/outbox.ts"
import { Settings } from "../src/settings.ts"
import { Tasks } from "../src/tasks.ts"

export const settings = (environment: Readonly<Record<string, string>> = {}) =>
  Settings.layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment))))

export const World = Layer.mergeAll(Tasks.layer).pipe(
  Layer.provideMerge(Layer.mergeAll(Outbox.layer, Topics.layer)),
  Layer.provideMerge(Database.layerOf(":memory:")),
  Layer.provideMerge(settings())
)

/** The Kafka in memory, with the topics of the service and their dead letters. */
export const Kafka = Layer.effectDiscard(
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka
    const names = topicNames(yield* Settings)
    for (const name of [...names, ...names.map((name) => deadLettersOf({ name }))]) {
      yield* kafka.createTopic(name, { partitions: 3 })
    }
  })
).pipe(Layer.provideMerge(MemoryKafka.layer()))

/** Reads until it is so. */
export const until = <A, E, R>(what: string, read: Effect.Effect<A, E, R>, is: (seen: A) => boolean) =>
  read.pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: is }),
    Effect.timeoutOrElse({
      duration: Duration.seconds(40),
      orElse: () => Effect.flatMap(read, (last) => Effect.die(new Error(`never ${what}: ${JSON.stringify(last)}`)))
    })
  )
