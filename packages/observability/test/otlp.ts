/** A receiver of OTLP over HTTP with JSON, as a collector is one: what came, taken apart. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as OtlpExporter from "effect/observability/OtlpExporter"
import * as OtlpMetrics from "effect/observability/OtlpMetrics"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"

const AnyValue = Schema.Struct({
  stringValue: Schema.optionalKey(Schema.String),
  intValue: Schema.optionalKey(Schema.Union([Schema.String, Schema.Number])),
  doubleValue: Schema.optionalKey(Schema.Number),
  boolValue: Schema.optionalKey(Schema.Boolean)
})
const Attributes = Schema.Array(Schema.Struct({ key: Schema.String, value: AnyValue }))

const TraceData = Schema.Struct({
  resourceSpans: Schema.Array(
    Schema.Struct({
      scopeSpans: Schema.Array(
        Schema.Struct({
          spans: Schema.Array(
            Schema.Struct({
              traceId: Schema.String,
              spanId: Schema.String,
              parentSpanId: Schema.optionalKey(Schema.String),
              name: Schema.String,
              kind: Schema.Number,
              startTimeUnixNano: Schema.String,
              endTimeUnixNano: Schema.String,
              attributes: Attributes,
              events: Schema.Array(Schema.Struct({ name: Schema.String, attributes: Attributes })),
              links: Schema.Array(Schema.Struct({ traceId: Schema.String, spanId: Schema.String })),
              status: Schema.Struct({ code: Schema.Number, message: Schema.optionalKey(Schema.String) })
            })
          )
        })
      )
    })
  )
})

const Point = Schema.Struct({
  attributes: Attributes,
  asDouble: Schema.optionalKey(Schema.NullOr(Schema.Number)),
  count: Schema.optionalKey(Schema.Number),
  sum: Schema.optionalKey(Schema.Number),
  bucketCounts: Schema.optionalKey(Schema.Array(Schema.Number)),
  explicitBounds: Schema.optionalKey(Schema.Array(Schema.Number))
})
const Points = Schema.optionalKey(Schema.Struct({ dataPoints: Schema.Array(Point) }))

const MetricData = Schema.Struct({
  resourceMetrics: Schema.Array(
    Schema.Struct({
      scopeMetrics: Schema.Array(
        Schema.Struct({
          metrics: Schema.Array(Schema.Struct({ name: Schema.String, sum: Points, gauge: Points, histogram: Points }))
        })
      )
    })
  )
})

const decodeTraces = Schema.decodeUnknownSync(TraceData)
const decodeMetrics = Schema.decodeUnknownSync(MetricData)

export type Values = Readonly<Record<string, string | number | boolean>>

const valuesOf = (attributes: typeof Attributes.Type): Values =>
  Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      value.stringValue ?? value.boolValue ?? value.doubleValue ?? Number(value.intValue)
    ])
  )

/** as OTLP numbers them */
const kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"] as const
const statuses = ["unset", "ok", "error"] as const

export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly name: string
  readonly kind: (typeof kinds)[number] | undefined
  readonly startedAt: bigint
  readonly endedAt: bigint
  readonly attributes: Values
  readonly events: ReadonlyArray<{ readonly name: string; readonly attributes: Values }>
  /** as `trace/span` */
  readonly links: ReadonlyArray<string>
  readonly status: (typeof statuses)[number] | undefined
  readonly message: string | undefined
}

export interface ReceivedMetric {
  readonly name: string
  readonly labels: Values
  readonly value: number | null | undefined
  readonly point: typeof Point.Type
}

export interface Receiver {
  readonly url: string
  /** all that came, in the order in which they ended */
  readonly spans: Array<ReceivedSpan>
  /** of the last request */
  metrics: ReadonlyArray<ReceivedMetric>
  /** every request as it came */
  readonly bodies: Array<string>
}

export const receiver: Effect.Effect<Receiver, never, Scope.Scope> = Effect.gen(function* () {
  const spans: Array<ReceivedSpan> = []
  const bodies: Array<string> = []
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString("utf8")
      bodies.push(body)
      if (request.url === "/v1/traces") spans.push(...spansOf(JSON.parse(body)))
      else received.metrics = metricsOf(JSON.parse(body))
      // no connection is kept: closing the server would wait for it
      response.writeHead(200, { "content-type": "application/json", connection: "close" }).end("{}")
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const received: Receiver = { url: `http://127.0.0.1:${port}`, spans, metrics: [], bodies }
  return received
})

const spansOf = (body: unknown): ReadonlyArray<ReceivedSpan> =>
  decodeTraces(body)
    .resourceSpans.flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap(({ spans }) => spans)
    .map((span) => ({
      traceId: span.traceId,
      spanId: span.spanId,
      parentSpanId: span.parentSpanId,
      name: span.name,
      kind: kinds[span.kind],
      startedAt: BigInt(span.startTimeUnixNano),
      endedAt: BigInt(span.endTimeUnixNano),
      attributes: valuesOf(span.attributes),
      events: span.events.map(({ attributes, name }) => ({ name, attributes: valuesOf(attributes) })),
      links: span.links.map(({ spanId, traceId }) => `${traceId}/${spanId}`),
      status: statuses[span.status.code],
      message: span.status.message
    }))

const metricsOf = (body: unknown): ReadonlyArray<ReceivedMetric> =>
  decodeMetrics(body)
    .resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics)
    .flatMap(({ metrics }) => metrics)
    .flatMap(({ gauge, histogram, name, sum }) =>
      [gauge, sum, histogram].flatMap((points) =>
        (points?.dataPoints ?? []).map((point) => ({
          name,
          labels: valuesOf(point.attributes),
          value: point.asDouble,
          point
        }))
      )
    )

export interface Silent {
  readonly url: string
  /** requests that came, and those of them that wait for an answer */
  asked: number
  waiting: number
}

/** Takes every request and answers none, or only begins to. */
export const silentReceiver = Effect.fnUntraced(function* (begins: boolean) {
  const server = createServer((_, response) => {
    silent.asked++
    silent.waiting++
    if (begins) response.writeHead(200, { "content-type": "application/json", "content-length": 2 }).flushHeaders()
    response.on("close", () => silent.waiting--)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const silent: Silent = { url: `http://127.0.0.1:${port}`, asked: 0, waiting: 0 }
  return silent
})

/** nothing goes out by itself: a test says when */
const exportInterval = "1 hour"
const resource = { serviceName: "test" }
const sending = Layer.mergeAll(OtlpSerialization.layerJson, FetchHttpClient.layer)

export const tracer = ({ url }: Receiver): Layer.Layer<OtlpExporter.Flusher> =>
  OtlpTracer.layer({ url: `${url}/v1/traces`, resource, exportInterval, maxBatchSize: 1_000_000 }).pipe(
    Layer.provide(sending)
  )

/** The client of the documents, with a limit of its own. */
const limited = (most: Duration.Input): Layer.Layer<HttpClient.HttpClient> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(
      HttpClient.HttpClient,
      HttpClient.transformResponse((answer) =>
        answer.pipe(
          Effect.tap(({ arrayBuffer }) => arrayBuffer),
          Effect.timeout(most),
          Effect.catchTag("TimeoutError", Effect.die)
        )
      )
    )
  ).pipe(Layer.provide(FetchHttpClient.layer))

/** Sends with each span, to somebody who has to answer within that time. */
export const impatientTracer = (url: string, most: Duration.Input): Layer.Layer<OtlpExporter.Flusher> =>
  OtlpTracer.layer({
    url: `${url}/v1/traces`,
    resource,
    exportInterval,
    maxBatchSize: 1,
    shutdownTimeout: "100 millis"
  }).pipe(Layer.provide([OtlpSerialization.layerJson, limited(most)]))

export const meter = ({ url }: Receiver): Layer.Layer<OtlpExporter.Flusher> =>
  OtlpMetrics.layer({ url: `${url}/v1/metrics`, resource, exportInterval }).pipe(Layer.provide(sending))

export const flush: Effect.Effect<void, never, OtlpExporter.Flusher> = Effect.flatMap(
  OtlpExporter.Flusher,
  (flusher) => flusher.flush
)
