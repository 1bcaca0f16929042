/** Consumers in the test's own process, and what their health says over time. */
import { ConcurrentConsumer } from "@concurrent-kafka/core"
import type { ConcurrentConsumerShape, GroupOptions, Handler, HealthCode } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { Effect, Layer, References } from "effect"
import { until } from "./until.ts"

/** A consumer that handles until the scope closes. Its logs go nowhere: an outage is many lines. */
export const start = Effect.fnUntraced(
  function* <R>(brokers: ReadonlyArray<string>, handler: Handler<never, R>, options: GroupOptions) {
    const context = yield* Layer.build(
      Layer.fresh(
        ConcurrentConsumer.layer({ ...options, topics: handler.topics }).pipe(Layer.provide(KafkaJs.layer({ brokers })))
      )
    )
    const consumer = yield* Effect.provide(ConcurrentConsumer, context)
    yield* Effect.forkScoped(consumer.run(handler))
    return consumer
  },
  Effect.provideService(References.MinimumLogLevel, "None")
)

/** Every code that health has said since, in the order of their first appearance. */
export const watchHealth = Effect.fnUntraced(function* (consumer: ConcurrentConsumerShape) {
  const seen = new Set<HealthCode>()
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        Effect.map(consumer.health, ({ reasons }) => {
          for (const { code } of reasons) seen.add(code)
        }),
        Effect.sleep(20)
      )
    )
  )
  return seen
})

/** Until health says this, or says it no more. */
export const says = (consumer: ConcurrentConsumerShape, code: HealthCode, present = true) =>
  until(
    `health ${present ? "says" : "says no more"} ${code}`,
    consumer.health,
    ({ reasons }) => reasons.some((reason) => reason.code === code) === present
  )

/** Until health is without a reason. */
export const isWell = (consumer: ConcurrentConsumerShape) =>
  until("health has nothing to say", consumer.health, ({ reasons, status }) => status === "ok" && reasons.length === 0)
