import { ConcurrentConsumer, ConsumerRegistry, FailurePolicy, Handler } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, References } from "effect"
import { inject } from "vitest"
import { valueOf } from "../../packages/observability/test/exposition.ts"
import { endpoints } from "../../packages/observability/test/http.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

describe("/metrics and /health", () => {
  it.live("say what the brokers say: offsets, lag, and every record under one outcome (I10, C29)", () =>
    Effect.gen(function* () {
      const partitions = 3
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("observed")
      yield* outside.createTopic(topic, partitions)
      const messages = (count: number, value: string) =>
        Array.from({ length: count }, (_, i) => ({ value, partition: i % partitions }))
      yield* outside.send(topic, [...messages(297, "good"), ...messages(3, "bad")])

      const gate = yield* Deferred.make<void>()
      const handler = Handler.make(topic, ({ value }) => {
        const text = new TextDecoder().decode(value!)
        return text === "held" ? Deferred.await(gate) : text === "bad" ? Effect.fail("bad") : Effect.void
      })
      const http = yield* endpoints()
      const consumer = ConcurrentConsumer.layerHandler(handler, {
        groupId: topic,
        name: "observed",
        concurrency: 20,
        batchInterval: "200 millis",
        onFailure: FailurePolicy.skip
      })
      yield* Layer.build(Layer.provide(consumer, KafkaJs.layer({ brokers }))).pipe(
        Effect.provideService(ConsumerRegistry, http.registry),
        // what is skipped is said there
        Effect.provideService(References.MinimumLogLevel, "None")
      )
      yield* until("it is ready", http.get("/health/ready"), ({ status }) => status === 200)
      const metrics = Effect.map(http.get("/metrics"), ({ text }) => text)
      const lagOf = (text: string) => valueOf(text, "concurrent_kafka_topic_lag_offsets", { topic })
      const all = yield* until("all is handled and committed", metrics, (text) => {
        const done = ["handled", "skipped"].map(
          (outcome) => valueOf(text, "concurrent_kafka_records_total", { outcome }) ?? 0
        )
        return done[0]! + done[1]! === 300 && lagOf(text) === 0
      })
      assert.strictEqual(valueOf(all, "concurrent_kafka_records_total", { outcome: "skipped" }), 3)
      assert.strictEqual(valueOf(all, "messaging_process_duration_seconds_count", { error_type: "_OTHER" }), 3)
      assert.strictEqual(valueOf(all, "messaging_client_consumed_messages_total"), 300)
      assert.isAtLeast(valueOf(all, "concurrent_kafka_commits_total", { result: "ok" })!, 1)
      assert.isTrue(Outside.same(yield* outside.committed(topic, topic), yield* outside.ends(topic)))

      // held back: what lies behind is the same for us and for the brokers
      yield* outside.send(topic, messages(9, "held"))
      const behind = yield* until(
        "nine are behind, and in flight",
        metrics,
        (text) => lagOf(text) === 9 && valueOf(text, "concurrent_kafka_in_flight_records") === 9
      )
      const ends = yield* outside.ends(topic)
      const committed = yield* outside.committed(topic, topic)
      for (const [partition, end] of ends) {
        assert.strictEqual(
          valueOf(behind, "concurrent_kafka_partition_lag_offsets", { topic, partition: String(partition) }),
          Number(end - committed.get(partition)!)
        )
      }
      yield* Deferred.succeed(gate, undefined)
      yield* until("nothing is behind", metrics, (text) => lagOf(text) === 0)
      assert.deepStrictEqual(JSON.parse((yield* http.get("/health")).text).consumers, [
        { name: "observed", status: "ok", live: true, ready: true, reasons: [] }
      ])

      // a member that joins now is given no record, and what it lags behind is known all the same
      const quiet = yield* endpoints()
      yield* Layer.build(
        Layer.provide(
          ConcurrentConsumer.layerHandler(handler, { groupId: topic, name: "second", onFailure: FailurePolicy.skip }),
          KafkaJs.layer({ brokers })
        )
      ).pipe(Effect.provideService(ConsumerRegistry, quiet.registry))
      const known = yield* until(
        "its lag is known",
        Effect.map(quiet.get("/metrics"), ({ text }) => text),
        (text) => lagOf(text) !== undefined
      )
      assert.strictEqual(lagOf(known), 0)
      assert.strictEqual(valueOf(known, "concurrent_kafka_attempts_total"), 0)
    })
  )
})
