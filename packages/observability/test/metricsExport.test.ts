/** The consumers' numbers as a collector gets them from Effect's own OTLP exporter. */
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { Boom, pass, turns, world } from "../../core/test/harness.ts"
import { exportedRegistry } from "../src/internal/exported.ts"
import { Observability } from "../src/index.ts"
import { familiesOf, samplesOf } from "./exposition.ts"
import { endpoints } from "./http.ts"
import { flush, meter, receiver, type Values } from "./otlp.ts"

const exporting = Effect.gen(function* () {
  const to = yield* receiver
  const registry = makeRegistry()
  const context = yield* Layer.build(
    Layer.provide(meter(to), Observability.layerMetricsExport({ partitionSeries: 1 }))
  ).pipe(Effect.provideService(ConsumerRegistry, registry), Effect.orDie)
  const series = (name: string, labels: Values = {}) =>
    to.metrics.filter(
      (one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value)
    )
  const valueOf = (name: string, labels?: Values) => {
    const found = series(name, labels)
    assert.isAtMost(found.length, 1, name)
    return found[0]?.value
  }
  return { to, registry, series, valueOf, flush: Effect.andThen(turns, Effect.provideContext(flush, context)) }
})

describe("layerMetricsExport", () => {
  it.effect("each export has the numbers of that moment, under the names of OpenTelemetry where it has any", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      const collector = yield* exporting
      const member = yield* w.member("a", { groupId: "shipping", policy: FailurePolicy.skip })
      yield* collector.registry.register(member.consumer)
      yield* w.produce(3)
      yield* pass(1_000)
      yield* collector.flush
      const labels = { consumer: "shipping", group: "shipping" }
      assert.strictEqual(collector.valueOf("concurrent_kafka_in_flight_records", labels), 3)
      assert.strictEqual(collector.valueOf("concurrent_kafka_records_total", { ...labels, outcome: "handled" }), 0)
      assert.strictEqual(
        collector.valueOf("concurrent_kafka_partition_uncommitted_offsets", { topic: "t", partition: "0" }),
        3
      )

      yield* member.desk.finish(0, 0, 1)
      yield* member.desk.end(0, 2, Exit.fail(new Boom()))
      yield* pass(20_000)
      yield* collector.flush
      assert.strictEqual(collector.valueOf("concurrent_kafka_in_flight_records", labels), 0)
      assert.strictEqual(collector.valueOf("concurrent_kafka_records_total", { ...labels, outcome: "handled" }), 2)
      assert.strictEqual(collector.valueOf("concurrent_kafka_records_total", { ...labels, outcome: "skipped" }), 1)
      const messaging = {
        consumer: "shipping",
        "messaging.system": "kafka",
        "messaging.consumer.group.name": "shipping",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process"
      }
      assert.strictEqual(collector.valueOf("messaging.client.consumed.messages", messaging), 3)
      const [durations] = collector
        .series("messaging.process.duration", messaging)
        .filter((one) => one.labels["error.type"] === undefined)
      assert.strictEqual(durations?.labels["unit"], "s")
      assert.strictEqual(durations?.point.count, 2)
      assert.strictEqual(
        durations?.point.bucketCounts?.reduce((sum, n) => sum + n, 0),
        2
      )
      assert.lengthOf(collector.series("messaging.process.duration", { "error.type": "_OTHER" }), 1)
    })
  )

  it.effect("the event loop's delay has the names of OpenTelemetry, and its unit", () =>
    Effect.gen(function* () {
      const delays = { p50: 1, p90: 2, p99: 3, mean: 1.5, max: 500 }
      const registry = exportedRegistry(
        yield* Effect.context<never>(),
        () => [],
        () => delays,
        { partitions: 0, topics: 0 }
      )
      const units = Array.from(registry.values(), ({ attributes, id }) => [id, attributes?.["unit"]])
      assert.sameDeepMembers(
        units,
        Object.keys(delays).map((name) => [`nodejs.eventloop.delay.${name}`, "s"])
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("the program's own metrics are there, whether they know of it or not; what is unbounded has no limit", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      const collector = yield* exporting
      const member = yield* w.member("a", { concurrency: "unbounded" })
      yield* collector.registry.register(member.consumer)
      const shipped = Metric.counter("shipped_orders", { incremental: true })
      yield* Metric.update(shipped, 3)
      yield* Effect.provide(
        Metric.update(shipped, 1),
        Layer.provide(Observability.layerMetricsExport(), Layer.succeed(ConsumerRegistry, collector.registry))
      )
      yield* w.produce(1)
      yield* pass(1_000)
      yield* collector.flush
      assert.strictEqual(collector.valueOf("shipped_orders"), 4)
      assert.strictEqual(collector.valueOf("concurrent_kafka_permits_used"), 1)
      assert.lengthOf(collector.series("concurrent_kafka_permits"), 0)
      // more than partitionSeries
      assert.lengthOf(collector.series("concurrent_kafka_partition_held_records"), 0)
      assert.lengthOf(collector.series("concurrent_kafka_topic_held_records"), 1)
      yield* member.desk.finishAll()
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("leaves /metrics as it is when it is around the whole program", () =>
    Effect.gen(function* () {
      const w = yield* world()
      const alone = yield* endpoints()
      const exported = yield* Layer.build(Observability.layerMetricsExport()).pipe(
        Effect.provideService(ConsumerRegistry, alone.registry)
      )
      // twice, as where a library provides it, too
      const again = yield* Layer.build(Observability.layerMetricsExport()).pipe(
        Effect.provideService(ConsumerRegistry, alone.registry),
        Effect.provideContext(exported)
      )
      const member = yield* w.member("a", { groupId: "shipping" })
      yield* Metric.update(Metric.counter("shipped_orders", { incremental: true }), 3).pipe(
        Effect.provideContext(exported)
      )
      yield* alone.registry.register(member.consumer)
      yield* w.produce(3)
      yield* pass(1_000)
      yield* member.desk.finishAll()
      const names = ({ text }: { readonly text: string }) => ({
        families: familiesOf(text),
        series: samplesOf(text).map(({ labels, name }) => `${name} ${Object.keys(labels).join()}`)
      })
      const without = names(yield* alone.get("/metrics"))
      assert.include(without.series.join("\n"), "messaging_process_duration_seconds_count")
      assert.include(without.series, "shipped_orders ")
      for (const context of [exported, again]) {
        const beside = yield* Effect.provideContext(endpoints(), context)
        yield* beside.registry.register(member.consumer)
        assert.deepStrictEqual(names(yield* beside.get("/metrics")), without)
      }
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("refuses what cannot be used", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Observability.layerMetricsExport({ partitionSeries: -1 })))
      )
      assert.strictEqual(error.option, "partitionSeries")
    })
  )
})
