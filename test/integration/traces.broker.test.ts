import { ConcurrentConsumer, FailurePolicy, Handler, KafkaProducer } from "@concurrent-kafka/core"
import { Observability } from "@concurrent-kafka/observability"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, References } from "effect"
import { inject } from "vitest"
import { suiteOf } from "../../packages/driver/test/client.ts"
import { client as kafkajs } from "../../packages/kafkajs/test/client.ts"
import { flush, type ReceivedSpan, receiver, tracer } from "../../packages/observability/test/otlp.ts"
import { client as platformatic } from "../../packages/platformatic/test/client.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"

for (const client of [kafkajs, platformatic]) {
  suiteOf(client, "a trace", () => {
    it.live("goes from a producer that knows nothing of us through a handler, what it sends, and a dead letter", () =>
      Effect.gen(function* () {
        const outside = yield* Outside.connect(brokers)
        const [orders, shipped, dead] = [Outside.fresh("orders"), Outside.fresh("shipped"), Outside.fresh("dead")]
        for (const topic of [orders, shipped, dead]) yield* outside.createTopic(topic, 1)
        const headers = { traceparent: `00-${traceId}-${spanId}-01`, tracestate: "vendor=1" }
        yield* outside.send(orders, [
          { value: "fine", partition: 0, headers },
          { value: "broken", partition: 0, headers }
        ])

        const collector = yield* receiver
        const ship = Handler.make(
          orders,
          Effect.fn("ship")(function* ({ value }) {
            const producer = yield* KafkaProducer
            if (new TextDecoder().decode(value!) === "broken") return yield* Effect.fail("broken")
            yield* producer.send([{ topic: shipped, value }])
          })
        )
        const read = Handler.make([shipped, dead], () => Effect.void)
        const context = yield* Layer.build(
          Layer.mergeAll(
            ConcurrentConsumer.layerHandler(ship, {
              groupId: orders,
              batchSize: 1,
              onFailure: FailurePolicy.deadLetter(dead)
            }),
            ConcurrentConsumer.layerHandler(read, { groupId: shipped, batchSize: 1 })
          ).pipe(
            Layer.provide(client.layer({ brokers })),
            Layer.provide(Observability.layerTraces()),
            Layer.provideMerge(tracer(collector))
          )
        )
        const find = (name: string, outcome?: string): ReceivedSpan | undefined =>
          collector.spans.find(
            (span) =>
              span.name === name && (outcome === undefined || span.attributes["concurrent_kafka.outcome"] === outcome)
          )
        const wanted = () => ({
          handled: find(`process ${orders}`, "handled"),
          failed: find(`process ${orders}`, "dead_letter"),
          // the other one has failed
          ship: collector.spans.find(({ name, status }) => name === "ship" && status === "ok"),
          sent: find(`send ${shipped}`),
          letter: find(`send ${dead}`),
          next: find(`process ${shipped}`),
          buried: find(`process ${dead}`),
          commit: find(`commit ${orders}`)
        })
        const spans = yield* until(
          "all spans have come",
          Effect.map(Effect.provideContext(flush, context), wanted),
          (all) => Object.values(all).every((span) => span !== undefined)
        )
        const { buried, commit, failed, handled, letter, next, sent, ship: shipping } = spans
        for (const span of [buried, failed, handled, letter, next, sent, shipping]) {
          assert.strictEqual(span?.traceId, traceId, span?.name)
        }
        assert.strictEqual(handled?.parentSpanId, spanId)
        assert.strictEqual(failed?.parentSpanId, spanId)
        assert.strictEqual(shipping?.parentSpanId, handled?.spanId)
        assert.strictEqual(sent?.parentSpanId, shipping?.spanId)
        assert.strictEqual(next?.parentSpanId, sent?.spanId)
        assert.strictEqual(letter?.parentSpanId, failed?.spanId)
        // its headers are those of the record that failed
        assert.strictEqual(buried?.parentSpanId, spanId)
        assert.strictEqual(commit?.attributes["messaging.consumer.group.name"], orders)
        assert.strictEqual(failed?.attributes["messaging.kafka.offset"], 1)
      }).pipe(Effect.provideService(References.MinimumLogLevel, "None"), Effect.scoped)
    )
  })
}
