/**
 * A program as it is written for production, which ends by itself once it has said how its consumer is. With `KAFKA_ENABLED=false`
 * it needs no Kafka and no setting of one.
 */
import { ConcurrentConsumer, ConsumerRegistry, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"

const Consumer = ConcurrentConsumer.layerHandler(
  Handler.make("orders", () => Effect.void),
  { groupId: "shipping" }
)

const program = Effect.gen(function* () {
  const [consumer] = yield* (yield* ConsumerRegistry).consumers
  const { live, ready, reasons, status } = yield* consumer!.health
  yield* Effect.sync(() =>
    process.stdout.write(`${JSON.stringify({ status, live, ready, codes: reasons.map(({ code }) => code) })}\n`)
  )
})

NodeRuntime.runMain(Effect.provide(program, Consumer.pipe(Layer.provide(KafkaJs.layerConfig))))
