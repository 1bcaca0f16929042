import { ConcurrentConsumer, FailurePolicy, Handler, KafkaProducer } from "@concurrent-kafka/core"
import { Observability } from "@concurrent-kafka/observability"
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Logger, References } from "effect"
import { inspect } from "node:util"
import { inject } from "vitest"
import { suiteOf } from "../../packages/driver/test/client.ts"
import { client as kafkajs } from "../../packages/kafkajs/test/client.ts"
import { flush, receiver, tracer } from "../../packages/observability/test/otlp.ts"
import { client as platformatic } from "../../packages/platformatic/test/client.ts"
import * as Outside from "../integration/outside.ts"
import { until } from "../integration/until.ts"
import { found, markers } from "./markers.ts"

const brokers = inject("brokers")

for (const client of [kafkajs, platformatic]) {
  suiteOf(client, "all that is said", () => {
    it.live("has nothing of a record, also of one that the broker refuses, and of one that is none", () =>
      Effect.gen(function* () {
        const said: Array<string> = []
        const everything = Logger.make<unknown, void>((entry) => {
          said.push(
            inspect([entry.message, entry.cause, entry.fiber.getRef(References.CurrentLogAnnotations)], { depth: 12 })
          )
          said.push(Logger.formatJson.log(entry), Logger.formatLogFmt.log(entry))
        })
        const outside = yield* Outside.connect(brokers)
        const [topic, dead, missing] = [Outside.fresh("told"), Outside.fresh("told-dead"), Outside.fresh("missing")]
        for (const name of [topic, dead]) yield* outside.createTopic(name, 1)
        const record = { key: markers.key, value: markers.value, headers: { [markers.headerName]: markers.header } }
        yield* outside.send(topic, [{ ...record, partition: 0 }])

        const collector = yield* receiver
        const text = new TextEncoder()
        yield* Effect.gen(function* () {
          const producer = yield* KafkaProducer
          const marked = {
            topic: dead,
            key: text.encode(markers.key),
            value: text.encode(markers.value),
            headers: [[markers.headerName, text.encode(markers.header)]] as const
          }
          const sends = [
            { ...marked, value: text.encode(markers.value.padEnd(2_000_000)) },
            { ...marked, topic: missing },
            // what is not typed may send anything
            { ...marked, value: markers.value as unknown as Uint8Array },
            { ...marked, key: markers.key as unknown as Uint8Array },
            { ...marked, headers: [[markers.headerName, markers.header as unknown as Uint8Array]] as const },
            { ...marked, headers: { [markers.headerName]: markers.header } as unknown as typeof marked.headers },
            { ...marked, timestamp: markers.value as unknown as bigint }
          ]
          for (const one of sends) {
            const exit = yield* Effect.exit(Effect.timeoutOption(producer.send([one]), 3_000))
            if (Exit.isSuccess(exit)) continue
            const { cause } = exit
            said.push(inspect(cause, { depth: 12 }), Cause.pretty(cause), inspect(Cause.squash(cause), { depth: 12 }))
            yield* Effect.logError("not sent", cause)
          }
          // the producer goes on
          yield* until("a record can be sent", Effect.exit(producer.send([marked])), Exit.isSuccess)
          yield* flush
        }).pipe(
          Effect.provide(
            ConcurrentConsumer.layerHandler(
              Handler.make(topic, ({ value }) => Effect.fail(new Error(new TextDecoder().decode(value!)))),
              { groupId: topic, batchSize: 1, onFailure: FailurePolicy.deadLetter(dead) }
            ).pipe(Layer.provideMerge(client.layer({ brokers, deliveryTimeout: "2 seconds" })))
          ),
          Effect.provide(Layer.mergeAll(Observability.layerTraces(), tracer(collector))),
          Effect.provide(Layer.mergeAll(Logger.layer([everything]), Layer.succeed(References.MinimumLogLevel, "All")))
        )
        said.push(...collector.bodies)
        assert.isTrue(collector.bodies.some((body) => body.includes("MESSAGE_TOO_LARGE")))
        const leaks = said.filter((one) => found(one).length > 0)
        assert.deepStrictEqual(
          leaks.map((one) => one.slice(0, 400)),
          []
        )
      }).pipe(Effect.scoped)
    )
  })
}
