/** A Kafka with a topic of 200 orders: the one that `KAFKA_BROKERS` names, else the one in memory. */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { KafkaClientError, type KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { Effect, Layer } from "effect"
import kafkajs from "kafkajs"

export const topic = "one-at-a-time.orders"
const partitions = 4
const count = 200

const text = new TextEncoder()

const orders = Effect.flatMap(KafkaProducer, ({ send }) =>
  send(
    Array.from({ length: count }, (_, order) => ({
      topic,
      key: text.encode(`customer-${order % 50}`),
      value: text.encode(`order ${order}`)
    }))
  )
)

/** Plain kafkajs sets timers in the past, and Node 24 warns of it. They do no harm: the timer fires at once. */
const ignoreNegativeTimeouts = () => {
  const printers = process.listeners("warning")
  process.removeAllListeners("warning")
  process.on("warning", (warning) => {
    if (warning.name !== "TimeoutNegativeWarning") for (const print of printers) print(warning)
  })
}

const real = (brokers: ReadonlyArray<string>) =>
  Layer.effectDiscard(
    Effect.andThen(
      Effect.tryPromise({
        try: async () => {
          ignoreNegativeTimeouts()
          const admin = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).admin()
          await admin.connect()
          // not with kafkajs's own wait, which fails when a broker has not heard of the topic yet: the producer waits for it
          await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: false })
          await admin.disconnect()
        },
        catch: (cause) =>
          new KafkaClientError({ reason: "Connection", detail: `no topic on ${brokers.join(", ")}`, cause })
      }),
      orders
    )
  ).pipe(Layer.provideMerge(KafkaJs.layer({ brokers })))

const inMemory = Layer.effectDiscard(
  Effect.gen(function* () {
    yield* (yield* MemoryKafka).createTopic(topic, { partitions })
    yield* orders
  })
).pipe(Layer.provideMerge(MemoryKafka.layer()))

const brokers = (process.env["KAFKA_BROKERS"] ?? "").split(",").filter((broker) => broker !== "")

export const where = brokers.length === 0 ? "in memory, because KAFKA_BROKERS names none" : brokers.join(", ")

export const Kafka: Layer.Layer<KafkaClient | KafkaProducer, InvalidOptions | KafkaClientError | PublishError> =
  brokers.length === 0 ? inMemory : real(brokers)
