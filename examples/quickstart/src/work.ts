/** Work to look at: a topic that somebody writes to all the time, and two consumers with records that are slow, fail once, or fail for good. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { Effect, Layer, Schedule, Schema } from "effect"
import { type Cluster, handlerMillis } from "./cluster.ts"

const concurrency = 50
const recordsAtOnce = 500
const slowMillis = 4_000

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const deadLetterTopic = (topic: string): string => `${topic}.dead-letter`

/** Waits 20 ms for most records, 4 s for some; of some the first attempt fails, of few each one. */
const shipping = (topic: string) =>
  ConcurrentConsumer.layerHandler(
    Handler.make(
      topic,
      Effect.fnUntraced(function* ({ attempt, offset }) {
        yield* Effect.sleep(offset % 397n === 396n ? slowMillis : handlerMillis)
        if (offset % 997n === 996n || (offset % 331n === 330n && attempt === 1)) return yield* new Refused()
      })
    ),
    {
      groupId: `${topic}-shipping`,
      name: "shipping",
      concurrency,
      onFailure: FailurePolicy.retry(Schedule.upTo(Schedule.spaced("2 seconds"), { times: 1 })).pipe(
        FailurePolicy.orDeadLetter(deadLetterTopic(topic))
      )
    }
  )

/** One customer after the other, and none fails. */
const invoices = (topic: string) =>
  ConcurrentConsumer.layerHandler(
    Handler.make(topic, () => Effect.sleep(handlerMillis)),
    { groupId: `${topic}-invoices`, name: "invoices", concurrency, ordering: "key" }
  )

/** Both consumers, until the scope closes. */
export const consumers = (cluster: Cluster, topic: string) =>
  Layer.mergeAll(shipping(topic), invoices(topic)).pipe(
    Layer.provide(KafkaProducer.layer),
    Layer.provide(cluster.client)
  )

export const createTopics = (cluster: Cluster, topic: string) =>
  Effect.andThen(cluster.createTopic(topic), cluster.createTopic(deadLetterTopic(topic)))

/** Writes without end. */
export const write = (cluster: Cluster, topic: string) =>
  Effect.forever(Effect.andThen(cluster.produce(topic, recordsAtOnce), Effect.sleep("400 millis")))
