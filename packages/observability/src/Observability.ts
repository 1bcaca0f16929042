/**
 * Health and metrics of all consumers of the process, as routes of an `HttpRouter`; and traces, for whatever tracer there is.
 *
 * The first two are made from the consumers' snapshots when somebody asks, and cost nothing between: the engine counts what they say
 * anyway, 14 ns a record. They say which topics, partitions and offsets there are, and nothing of what records carry.
 *
 * @since 0.1.0
 */
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { Traces } from "@concurrent-kafka/core/Traces"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { exportedRegistry, ownRegistry } from "./internal/exported.ts"
import * as loopMonitor from "./internal/loopMonitor.ts"
import { reportOf, verdictOf } from "./internal/report.ts"
import { type Bounds, seriesOf } from "./internal/series.ts"

/**
 * @since 0.1.0
 * @category options
 */
export interface HealthOptions {
  /** Where the report is; the probes are at `live` and `ready` below it. Default `/health`. */
  readonly path?: HttpRouter.PathInput | undefined
  /**
   * Not ready while there are fewer consumers than this: a consumer is there when its layer is built, which may wait for a broker. Default
   * 1; 0 for a process that may have none.
   */
  readonly consumers?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface MetricsOptions {
  /** Default `/metrics`. */
  readonly path?: HttpRouter.PathInput | undefined
  /**
   * A consumer that owns more partitions than this has series for its topics only: the sum, the greatest, and which partition that is.
   * Default 200, which makes about 1,200 series. 0: never a series for a partition.
   */
  readonly partitionSeries?: number | undefined
  /**
   * A consumer that owns partitions of more topics than this has one series for all topics together, with the label `topic="*"`, in place of
   * one for each: the sum and the greatest. Default 200, which makes 3,600 series. 0: never a series for a topic.
   */
  readonly topicSeries?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface TracesOptions {
  /**
   * `"continue"`: the span of a record is the child of the one that its `traceparent` names, and one trace goes from whoever sent the record
   * to its handler. `"link"`: it begins a trace of its own, and links to that one; for producers that are not to be trusted with a trace id,
   * and for traces that would else grow without end. Default `"continue"`.
   */
  readonly parent?: Traces["parent"] | undefined
}

const wholeNumber = (
  option: string,
  value: number | undefined,
  byDefault: number
): Effect.Effect<number, InvalidOptions> =>
  value === undefined
    ? Effect.succeed(byDefault)
    : Number.isSafeInteger(value) && value >= 0
      ? Effect.succeed(value)
      : Effect.fail(new InvalidOptions({ option, value, accepted: "an integer of at least 0" }))

const boundsOf = (
  options: Pick<MetricsOptions, "partitionSeries" | "topicSeries">
): Effect.Effect<Bounds, InvalidOptions> =>
  Effect.all({
    partitions: wholeNumber("partitionSeries", options.partitionSeries, 200),
    topics: wholeNumber("topicSeries", options.topicSeries, 200)
  })

/** what is asked for is how it is now */
const headers = { "cache-control": "no-store" }

/**
 * Three routes, of all consumers together:
 *
 * - `/health/live`: 503 when one is not live, which a restart can mend; else 200. For a liveness probe.
 * - `/health/ready`: 503 when one is not ready, or not there yet; else 200. For a readiness probe.
 * - `/health`: everything as JSON, with the reasons of each; 503 when the status is down.
 *
 * The consumers are those of the `ConsumerRegistry` that this layer is built with. Close it after them, so that it says "shutting down" to
 * the end: `Layer.provide(Consumers, Endpoints)`.
 *
 * **Errors**: an option that cannot be used.
 *
 * **Cost**: what `health` of each consumer costs, for each request.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerHealth = (options: HealthOptions = {}): Layer.Layer<never, InvalidOptions, HttpRouter.HttpRouter> =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const expected = yield* wholeNumber("consumers", options.consumers, 1)
      const registry = yield* ConsumerRegistry
      const report = Effect.flatMap(registry.consumers, (all) => reportOf(all, expected))
      const path = options.path ?? "/health"
      yield* router.add(
        "GET",
        path,
        Effect.map(report, (body) =>
          HttpServerResponse.jsonUnsafe(body, { headers, status: body.status === "down" ? 503 : 200 })
        )
      )
      for (const which of ["live", "ready"] as const) {
        yield* router.prefixed(path).add(
          "GET",
          `/${which}`,
          Effect.map(report, (all) =>
            HttpServerResponse.jsonUnsafe(verdictOf(all, which), { headers, status: all[which] ? 200 : 503 })
          )
        )
      }
    })
  )

/**
 * The route `/metrics`: every number of every consumer in Prometheus' text format, and after them the program's own Effect metrics.
 *
 * Series of partitions are of those that are owned now. With `layerLoopDelay` the event loop's delay is among them.
 *
 * **Errors**: an option that cannot be used.
 *
 * **Cost**: what `snapshot` of each consumer costs, and about 10 us a series, for each request.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMetrics = (options: MetricsOptions = {}): Layer.Layer<never, InvalidOptions, HttpRouter.HttpRouter> =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const most = yield* boundsOf(options)
      const registry = yield* ConsumerRegistry
      const monitor = yield* loopMonitor.Monitor
      const context = yield* Effect.context<never>()
      const scrape = Effect.gen(function* () {
        const snapshots = yield* Effect.forEach(yield* registry.consumers, ({ snapshot }) => snapshot)
        const ours = seriesOf(snapshots, monitor?.delays, most, context)
        // under layerMetricsExport that registry has our series, too, as they are called there
        const all = new Map([...ours, ...ownRegistry(Context.get(context, Metric.MetricRegistry))])
        const body = PrometheusMetrics.formatUnsafe(Context.add(context, Metric.MetricRegistry, all))
        return HttpServerResponse.text(body, { headers, contentType: "text/plain; version=0.0.4; charset=utf-8" })
      })
      yield* router.add("GET", options.path ?? "/metrics", scrape)
    })
  )

/**
 * What `/metrics` has, for an exporter of Effect's metrics: provide it to that one, such as `OtlpMetrics.layer`, and each of its exports has
 * the consumers' numbers, made at that moment, beside the program's own metrics. Counts are totals: its `temporality` may be either.
 *
 * What OpenTelemetry has a name for is called by it (`messaging.process.duration`); the rest as in `/metrics`. Least and greatest of
 * histograms are not known, and a consumer without a limit of permits has no series for it.
 *
 * **Errors**: an option that cannot be used.
 *
 * **Cost**: what `snapshot` of each consumer costs, and about 10 us a series, for each export.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMetricsExport = (
  options: Pick<MetricsOptions, "partitionSeries" | "topicSeries"> = {}
): Layer.Layer<never, InvalidOptions> =>
  Layer.effect(
    Metric.MetricRegistry,
    Effect.gen(function* () {
      const most = yield* boundsOf(options)
      const registry = yield* ConsumerRegistry
      const monitor = yield* loopMonitor.Monitor
      const context = yield* Effect.context<never>()
      const snapshots = Effect.flatMap(registry.consumers, (all) => Effect.forEach(all, ({ snapshot }) => snapshot))
      // whoever exports reads a Map, and nobody waits there
      return exportedRegistry(
        context,
        () => Effect.runSyncWith(context)(snapshots),
        () => monitor?.delays,
        most
      )
    })
  )

/**
 * `layerHealth` and `layerMetrics` with their defaults.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<never, InvalidOptions, HttpRouter.HttpRouter> = Layer.mergeAll(
  layerHealth(),
  layerMetrics()
)

/**
 * Measures how long the event loop stands still. Consumers built with it can say `eventLoopBlocked` and which records were in handlers
 * then, and `/metrics` has the numbers.
 *
 * When it has stood still for half of a consumer's `sessionTimeout`, a line on standard error says so: the rest is left before its session
 * ends. It comes from a thread of its own, and not through the program's loggers, because these stand still, too; where none can be had a
 * warning in the log says so, and all else goes on. Under KIP-848 a setting of the brokers counts, which they do not tell: there the line
 * counts with `sessionTimeout` too, and says so.
 *
 * **Cost**: two native timers of 20 ms, and a thread that sleeps, with some MB of memory.
 *
 * **Source**: `monitorEventLoopDelay` of `node:perf_hooks`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerLoopDelay: Layer.Layer<never> = loopMonitor.layer

/**
 * Turns traces on: consumers and committers that are built with it, what their handlers send, and what else is sent with a `KafkaProducer`
 * below it. The spans go to the tracer that is there: provide one, such as Effect's `OtlpTracer.layer`.
 *
 * By OpenTelemetry's conventions for messaging: `process {topic}` for each attempt to handle a record, with what the handler does below
 * it; `send {topic}`, whose context goes into the `traceparent` of the records that have none; `commit {topic}`. They say where a record is
 * and how its handling ended, and nothing of what it carries, unless its consumer has `revealRecords`.
 *
 * What a producer has marked as not sampled is not sampled here.
 *
 * **Cost**: nothing without it. With it 4 us of CPU a record whose span is not sampled; 20 us one whose span goes out through Effect's
 * `OtlpTracer`, most of it the exporter's.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTraces = (options: TracesOptions = {}): Layer.Layer<never, InvalidOptions> =>
  Layer.effect(
    Traces,
    Effect.suspend(() => {
      const { parent = "continue" } = options
      return parent === "continue" || parent === "link"
        ? Effect.succeed<Traces>({ parent })
        : Effect.fail(new InvalidOptions({ option: "parent", value: parent, accepted: '"continue" or "link"' }))
    })
  )
