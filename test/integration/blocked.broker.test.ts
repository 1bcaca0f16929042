import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, References } from "effect"
import { inject } from "vitest"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")
const sessionTimeout = 1_500

describe("a record that blocks the event loop for longer than the session lasts", () => {
  it.live(
    "D38: costs three sessions, and then the policy decides; nobody who only ran beside it is suspected as often",
    () =>
      Effect.gen(function* () {
        const outside = yield* Outside.connect(brokers)
        const topic = Outside.fresh("blocked")
        yield* outside.createTopic(topic, 1)
        yield* outside.send(
          topic,
          Array.from({ length: 8 }, (_, i) => ({ value: `${i}` }))
        )
        const failures: Array<{ readonly offset: bigint; readonly kind: string; readonly text: string }> = []
        let blocked = 0
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* ({ offset }) {
            yield* Effect.sleep(50)
            if (offset === 2n) {
              blocked++
              const end = performance.now() + 2 * sessionTimeout
              while (performance.now() < end) JSON.stringify({ blocked })
              yield* Effect.never
            }
            // runs on beside it when the session is lost
            if (offset === 3n) yield* Effect.sleep(2 * sessionTimeout)
          })
        )
        const onFailure = FailurePolicy.make((failure) => {
          failures.push({ offset: failure.record.offset, kind: failure.kind, text: String(failure.cause.reasons[0]) })
          return { _tag: "Skip" }
        })
        const snapshot = yield* Effect.gen(function* () {
          const consumer = yield* ConcurrentConsumer
          yield* Effect.forkScoped(consumer.run(handler, { onFailure }))
          yield* until("everything is done", consumer.snapshot, ({ partitions }) => partitions[0]?.committable === 8n)
          yield* consumer.flush
          return yield* consumer.snapshot
        }).pipe(
          Effect.scoped,
          Effect.provide(
            ConcurrentConsumer.layer({
              groupId: topic,
              topics: [topic],
              sessionTimeout,
              heartbeatInterval: 300,
              offsetMap: "off"
            }).pipe(Layer.provide(KafkaJs.layer({ brokers })))
          ),
          Effect.provideService(References.MinimumLogLevel, "None")
        )
        assert.strictEqual(blocked, 3)
        assert.strictEqual(snapshot.outcomes.skipped, 1)
        assert.deepStrictEqual(
          failures.map(({ kind, offset }) => ({ kind, offset })),
          [{ kind: "defect", offset: 2n }]
        )
      }),
    90_000
  )
})
