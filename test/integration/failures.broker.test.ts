import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, References } from "effect"
import { inject } from "vitest"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

describe("handlers of which some fail", () => {
  it.live("run as many at once as they may and no more, and everything is committed (I5, I9)", () =>
    Effect.gen(function* () {
      const partitions = 3
      const records = 300
      const concurrency = 20
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("failures")
      yield* outside.createTopic(topic, partitions)
      const values = Array.from({ length: records }, (_, i) =>
        i % 10 === 0 ? "fails" : i % 11 === 0 ? "dies" : "ends"
      )
      yield* outside.send(
        topic,
        values.map((value, i) => ({ value, partition: i % partitions }))
      )
      let running = 0
      let most = 0
      const handler = Handler.make(topic, (record) =>
        Effect.acquireUseRelease(
          Effect.sync(() => void (most = Math.max(most, ++running))),
          () => Effect.sleep(20),
          () => Effect.sync(() => void running--)
        ).pipe(
          Effect.andThen(
            Effect.suspend((): Effect.Effect<void, "refused"> => {
              const value = new TextDecoder().decode(record.value ?? new Uint8Array())
              if (value === "fails") return Effect.fail("refused")
              return value === "dies" ? Effect.die(new Error("a fault of the handler")) : Effect.void
            })
          )
        )
      )
      const context = yield* Layer.build(
        ConcurrentConsumer.layer({ groupId: topic, topics: [topic], concurrency }).pipe(
          Layer.provide(KafkaJs.layer({ brokers }))
        )
      )
      const consumer = yield* Effect.provide(ConcurrentConsumer, context)
      yield* Effect.forkScoped(consumer.run(handler, { onFailure: FailurePolicy.skip }))
      const { outcomes } = yield* until(
        "all have an outcome",
        consumer.snapshot,
        (now) => now.outcomes.handled + now.outcomes.skipped === records
      )
      const failing = values.filter((value) => value !== "ends").length
      assert.strictEqual(outcomes.skipped, failing)
      assert.strictEqual(outcomes.handled, records - failing)
      assert.strictEqual(most, concurrency)
      yield* consumer.flush
      assert.deepStrictEqual(
        Outside.sorted(yield* outside.committed(topic, topic)),
        Outside.sorted(yield* outside.ends(topic))
      )
      assert.strictEqual((yield* consumer.health).status, "ok")
      // each skipped record is a line in the log
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"), Effect.scoped)
  )
})
