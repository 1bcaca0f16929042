/**
 * Everything that this library can say, said once, by a process whose whole output is looked through: `program.ts <hidden | revealed> <file>`
 *
 * Records, credentials and every error that a handler, a policy or a function of the user throws carry markers. What is logged goes to
 * standard output by each of Effect's loggers; what else can be seen (spans, metrics, answers, snapshots, errors) goes into the file, each
 * with the place where it was seen.
 */
import { explain, redrive } from "@concurrent-kafka/cli"
import {
  type ConcurrentConsumerShape,
  ConcurrentConsumer,
  ConsumerRegistry,
  type Delivery,
  Directive,
  type Failure as Failed,
  FailurePolicy,
  Handler,
  KafkaProducer,
  makeRegistry,
  Topic
} from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { LivePage, Observability, Top } from "@concurrent-kafka/observability"
import { Platformatic } from "@concurrent-kafka/platformatic"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { WorkerPool } from "@concurrent-kafka/workers"
import { Cause, ConfigProvider, Effect, Exit, Layer, Logger, Redacted, References, Schedule, Schema } from "effect"
import { writeFileSync } from "node:fs"
import { inspect } from "node:util"
import { endpoints } from "../../packages/observability/test/http.ts"
import { flush, meter, receiver, tracer } from "../../packages/observability/test/otlp.ts"
import { until } from "../integration/until.ts"
import { markers } from "./markers.ts"
import { askPage } from "./page.ts"
import * as OnThreads from "./quoting.worker.ts"

const [mode, file] = process.argv.slice(2)
const revealRecords = mode === "revealed"

// ---------------------------------------------------------------------------------------------------------------------
// What was seen, and where
// ---------------------------------------------------------------------------------------------------------------------

const seen: Array<{ readonly place: string; readonly text: string }> = []
const see = (place: string, text: string): void => void seen.push({ place, text })

const json = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? String(inner) : inner)) ?? ""

/** As whoever has it in hands prints it. */
const seeValue = (place: string, value: unknown): void => {
  see(place, inspect(value, { depth: 12, showHidden: false }))
  see(place, json(value))
  see(place, String(value))
}

/** The error that an effect ends with: printed, and logged as an error, a cause and a message. */
const seeFailure = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  Effect.flatMap(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) return Effect.die(new Error(`${what} has not failed`))
    const { cause } = exit
    const error = Cause.squash(cause)
    seeValue("errors", error)
    seeValue("errors", cause)
    see("errors", Cause.pretty(cause))
    seeValue("errors", Cause.prettyErrors(cause))
    return Effect.andThen(Effect.logError(what, cause), Effect.logError(error))
  })

const everything = Logger.make<unknown, void>((entry) => {
  const annotations = entry.fiber.getRef(References.CurrentLogAnnotations)
  see(
    "logs",
    inspect([entry.message, entry.cause, annotations, entry.fiber.getRef(References.CurrentLogSpans)], { depth: 12 })
  )
})

const loggers = Layer.mergeAll(
  Logger.layer([
    everything,
    Logger.consolePretty(),
    Logger.consoleJson,
    Logger.consoleLogFmt,
    Logger.consoleStructured,
    Logger.tracerLogger
  ]),
  Layer.succeed(References.MinimumLogLevel, "All")
)

// ---------------------------------------------------------------------------------------------------------------------
// Handlers that quote what they could not handle
// ---------------------------------------------------------------------------------------------------------------------

const decoder = new TextDecoder()
const quote = (record: Pick<Delivery, "key" | "value" | "headers">): string =>
  [record.key, record.value, ...record.headers.map(([, value]) => value)]
    .map((bytes) => decoder.decode(bytes ?? new Uint8Array()))
    .join(" ") + record.headers.map(([name]) => name).join(" ")

class Quoting extends Error {
  readonly _tag = "Quoting"
  readonly record: unknown
  constructor(record: Delivery) {
    super(`cannot handle ${quote(record)}`, { cause: new Error(quote(record)) })
    this.record = { headers: record.headers, value: record.value }
  }
}

const Order = Topic.make("orders-typed", {
  key: Schema.String.check(Schema.isMaxLength(3)),
  value: Topic.json(Schema.Struct({ id: Schema.Int, lines: Schema.Record(Schema.String, Schema.Int) }))
})

const parsed = (record: Delivery): { readonly _tag: string; readonly name: string } => ({
  _tag: quote(record),
  name: quote(record)
})

type Thrown =
  | Quoting
  | string
  | { readonly _tag: string; readonly name: string }
  | { readonly record: string; readonly bytes: Uint8Array | null }
type Behaviour = (record: Delivery) => Effect.Effect<unknown, Thrown | Directive.Any, KafkaProducer>

const behaviours: ReadonlyArray<Behaviour> = [
  // the next ones of its key wait behind it: a lane to be shown, and a record that is stuck
  () => Effect.sleep(1_500),
  (record) => Effect.fail(new Quoting(record)),
  (record) => Effect.die(new TypeError(`cannot read ${quote(record)}`)),
  (record) => Effect.fail(quote(record)),
  (record) => Effect.fail({ record: quote(record), bytes: record.value }),
  (record) => Effect.die(new AggregateError([new Quoting(record)], quote(record))),
  (record) => {
    throw new Quoting(record)
  },
  (record) => Effect.logInfo("a record", record).pipe(Effect.withSpan("looks"), Effect.annotateLogs({ record })),
  (record) =>
    Effect.flatMap(KafkaProducer, (producer) =>
      Effect.orDie(producer.send([{ topic: "out", key: record.key, value: record.value, headers: record.headers }]))
    ),
  // what is not typed may send anything
  (record) =>
    Effect.flatMap(KafkaProducer, (producer) =>
      Effect.orDie(producer.send([{ topic: "out", value: quote(record) as unknown as Uint8Array }]))
    ),
  (record) =>
    Effect.flatMap(KafkaProducer, (producer) =>
      Effect.orDie(
        producer.publish(Order, { id: quote(record) as unknown as number, lines: {} }, { key: quote(record) })
      )
    ),
  () => Effect.never,
  () => Effect.uninterruptible(Effect.sleep(1_200)),
  () => Directive.deadLetter("dead", "as asked"),
  () => Directive.skip("as asked"),
  () => Effect.interrupt,
  (record) => Effect.andThen(record.ack, Effect.fail(new Quoting(record))),
  // a record that was parsed, and is taken for an error
  (record) => Effect.fail(parsed(record)),
  (record) => Effect.die(Object.assign(new Error("parsed"), { name: quote(record) }))
]

const quoting = Handler.make("orders", (record) => behaviours[Number(record.offset) % behaviours.length]!(record))

/** retried, parked, dead-lettered, skipped, in turn */
const policy = FailurePolicy.make(({ attempt, record }: Failed<unknown>) => {
  switch (Number(record.offset) % 4) {
    case 0:
      return attempt < 3 ? { _tag: "Retry", after: 20 } : { _tag: "DeadLetter", topic: "dead", reason: "retried" }
    case 1:
      return { _tag: "Park", limits: { atMost: 10, atMostFor: 300 }, then: { _tag: "Skip" } }
    case 2:
      return { _tag: "DeadLetter", topic: "dead" }
    default:
      return { _tag: "Skip" }
  }
})

const records = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    key: `${markers.key} ${i % 2}`,
    value: `${markers.value} ${i}`,
    headers: [
      [markers.headerName, markers.header],
      ["traceparent", i % 3 === 0 ? "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" : markers.header],
      ["tracestate", `vendor=${markers.header}`]
    ] as const,
    partition: 0
  }))

// ---------------------------------------------------------------------------------------------------------------------
// What there is
// ---------------------------------------------------------------------------------------------------------------------

const quick = {
  revealRecords,
  batchSize: 1,
  minCommitInterval: 0,
  stuckAfter: "200 millis",
  interruptGrace: "100 millis",
  revokeDrain: "100 millis"
} as const

const consumers = Effect.gen(function* () {
  const kafka = yield* MemoryKafka
  const registry = yield* ConsumerRegistry
  const named = (name: string) =>
    Effect.map(registry.consumers, (all): ConcurrentConsumerShape | undefined => all.find((one) => one.name === name))
  const topics = ["orders", "orders-typed", "ordered", "stopping", "policy", "defect", "threads", "crashing"]
  topics.push("out", "dead", "again")
  for (const topic of topics) yield* kafka.createTopic(topic, { partitions: 1 })
  for (const topic of ["orders", "ordered", "stopping", "policy", "defect"]) {
    yield* kafka.produce(topic, records(behaviours.length + 1))
  }
  yield* kafka.produce("threads", records(OnThreads.count))
  yield* kafka.produce("crashing", records(1))
  const threads = yield* WorkerPool.make<typeof OnThreads>({
    module: new URL("./quoting.worker.ts", import.meta.url),
    error: OnThreads.error,
    size: 2
  })
  yield* kafka.produce("orders-typed", [
    { key: markers.key, value: "{}", partition: 0 },
    { key: "k", value: json({ id: 1, lines: { [markers.value]: 1 } }), partition: 0 },
    { key: "k", value: markers.value, partition: 0 },
    { key: "k", value: json({ id: markers.value, lines: { [markers.value]: markers.value } }), partition: 0 }
  ])
  const stopped = (topic: string, onFailure: FailurePolicy<unknown, never>) =>
    ConcurrentConsumer.layerHandler(
      Handler.make(topic, (record) => Effect.fail(new Quoting(record))),
      { ...quick, groupId: topic, name: topic, onEnd: "report", onFailure }
    )
  const all = Layer.mergeAll(
    ConcurrentConsumer.layerHandler(quoting.pipe(Handler.timeout("400 millis")), {
      ...quick,
      groupId: "orders",
      name: "orders",
      ordering: "key",
      concurrency: 4,
      onFailure: policy,
      wrap: (effect) => effect,
      headerFilter: (record) => {
        if (record.offset === BigInt(behaviours.length)) throw new Error(quote(record))
        return true
      }
    }),
    ConcurrentConsumer.layerHandler(
      Topic.handler(Order, (_, message) =>
        Effect.logInfo("a message", message).pipe(Effect.withSpan("looks"), Effect.annotateLogs({ message }))
      ),
      { ...quick, groupId: "typed", name: "typed", onFailure: FailurePolicy.deadLetter("dead") }
    ),
    ConcurrentConsumer.layerHandler(
      Handler.make("ordered", () => Effect.void),
      {
        ...quick,
        groupId: "ordered",
        name: "ordered",
        ordering: (record) => {
          throw new Error(quote(record))
        },
        onFailure: FailurePolicy.skip
      }
    ),
    // each record once, half of them to dead letters
    ConcurrentConsumer.layerHandler(Handler.make("threads", threads.handle), {
      ...quick,
      groupId: "threads",
      name: "threads",
      onFailure: FailurePolicy.make(({ record }) =>
        record.offset % 2n === 0n ? { _tag: "DeadLetter", topic: "dead" } : { _tag: "Skip" }
      )
    }),
    ConcurrentConsumer.layerHandler(Handler.make("crashing", threads.handle), {
      ...quick,
      groupId: "crashing",
      name: "crashing",
      onEnd: "report",
      onFailure: FailurePolicy.stop
    }),
    stopped("stopping", FailurePolicy.retry(Schedule.recurs(1)).pipe(FailurePolicy.orStop)),
    stopped(
      "policy",
      FailurePolicy.make(({ record }) => Effect.die(new Error(quote(record))))
    ),
    ConcurrentConsumer.layerHandler(
      Handler.make("defect", (record) => Effect.die(new Error(quote(record)))),
      { ...quick, groupId: "defect", name: "defect", onEnd: "report" }
    )
  )
  yield* Layer.build(all)
  return { kafka, registry, named }
})

type Running = Effect.Success<typeof consumers>

const look = ({ registry }: Running) =>
  Effect.gen(function* () {
    const looks: Array<Top.Looks> = []
    for (const consumer of yield* registry.consumers) {
      const now = yield* consumer.snapshot
      looks.push({ now, before: now })
      seeValue("snapshots", now)
      seeValue("health", yield* consumer.health)
    }
    for (const size of [
      { columns: 300, rows: undefined },
      { columns: 80, rows: 40 }
    ]) {
      see("terminal", Top.render(looks, size).join("\n"))
      see("terminal", Top.render(looks, size, Top.colorTheme).join("\n"))
    }
  })

const handles = (running: Running) =>
  Effect.gen(function* () {
    const orders = yield* until("the consumer", running.named("orders"), (one) => one !== undefined)
    const snapshot = Effect.suspend(() => orders!.snapshot)
    // while the first record keeps the others of its key waiting
    yield* until("a hot lane", snapshot, ({ hotLanes }) => hotLanes.length > 0)
    yield* until("a record that is stuck", orders!.health, ({ reasons }) =>
      reasons.some(({ code }) => code === "stuck")
    )
    yield* look(running)
    // another member, which comes and goes
    yield* Effect.scoped(
      Effect.andThen(
        Layer.build(
          ConcurrentConsumer.layerHandler(quoting, {
            ...quick,
            groupId: "orders",
            name: "other",
            onFailure: policy
          }).pipe(Layer.provide(MemoryKafka.layerClient({ clientId: "other" })))
        ),
        Effect.sleep(300)
      )
    )
    yield* until("all of its records are done", snapshot, ({ outcomes }) => {
      const { alreadyDone, deadLettered, filtered, handled, skipped } = outcomes
      return alreadyDone + deadLettered + filtered + handled + skipped >= behaviours.length + 1
    })
    const threads = yield* until("the consumer", running.named("threads"), (one) => one !== undefined)
    yield* until(
      "all that threads could not handle is done",
      threads!.snapshot,
      ({ outcomes }) => outcomes.deadLettered + outcomes.skipped === OnThreads.count
    )
    yield* look(running)
  })

const fails = (running: Running) =>
  Effect.gen(function* () {
    for (const name of ["stopping", "policy", "defect", "crashing"]) {
      const consumer = yield* until("the consumer", running.named(name), (one) => one !== undefined)
      yield* seeFailure(`the consumer ${name}`, consumer!.failure)
    }
    yield* seeFailure(
      "a program",
      Effect.scoped(
        ConcurrentConsumer.launch(
          ConcurrentConsumer.layerHandler(
            Handler.make("stopping", (record) => Effect.fail(new Quoting(record))),
            { ...quick, groupId: "launched", onFailure: FailurePolicy.stop }
          )
        )
      )
    )
  })

const tools = Effect.gen(function* () {
  seeValue("tools", yield* explain({ groupId: "orders", topic: "orders" }))
  seeValue(
    "tools",
    yield* redrive({
      from: "dead",
      to: "again",
      groupId: "redrive",
      onProgress: (progress) => Effect.sync(() => seeValue("tools", progress))
    })
  )
  yield* seeFailure("a redrive", redrive({ from: "nowhere", to: "again", groupId: "redrive" }))
})

/** Clients that cannot be opened, or are given what cannot be used. */
const clients = (port: string) =>
  Effect.gen(function* () {
    const { certificateKey, password, token, username } = markers
    const plain = { mechanism: "plain", username, password: Redacted.make(password) } as const
    const bearer = { mechanism: "oauthbearer", token: Effect.succeed(Redacted.make(token)) } as const
    const environment = (values: Record<string, string>) =>
      ConfigProvider.layer(
        ConfigProvider.fromEnvRecord({
          KAFKA_BOOTSTRAP_SERVERS: `127.0.0.1:${port}`,
          KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
          KAFKA_SASL_MECHANISM: "PLAIN",
          KAFKA_SASL_USERNAME: username,
          KAFKA_SASL_PASSWORD: password,
          ...values
        })
      )
    const attempts = [KafkaJs, Platformatic].flatMap(({ layer, layerConfig }) => {
      const at = { brokers: [`127.0.0.1:${port}`], connectTimeout: "700 millis" } as const
      return [
        ...[
          { ...at, sasl: plain },
          { ...at, sasl: { ...plain, mechanism: "scram-sha-256" } },
          { ...at, sasl: bearer },
          { ...at, sasl: plain, ssl: true },
          { ...at, ssl: { ca: certificateKey, cert: "none", key: Redacted.make(certificateKey) } },
          { ...at, brokers: [`kafka://${username}:${password}@127.0.0.1:9092`] },
          { ...at, brokers: [`${username}:${password}@127.0.0.1:9092`], sasl: plain },
          { ...at, sasl: { ...plain, password } },
          { ...at, sasl: { ...plain, mechanism: "none" } }
        ].map((settings) => layer(settings as Parameters<typeof layer>[0])),
        ...[
          { KAFKA_SECURITY_PROTOCOL: "none" },
          { KAFKA_SASL_MECHANISM: "none" },
          { KAFKA_BOOTSTRAP_SERVERS: `${username}:${password}@broker:9092` },
          { KAFKA_SSL_CERT: "none", KAFKA_SECURITY_PROTOCOL: "SASL_SSL" }
        ].map((values) => Layer.provide(layerConfig, environment(values)))
      ]
    })
    yield* Effect.forEach(attempts, (layer) => seeFailure("a client", Effect.scoped(Layer.build(layer))), {
      concurrency: "unbounded"
    })
  })

const program = Effect.gen(function* () {
  const collector = yield* receiver
  const page = LivePage.layer({ every: "250 millis", actions: { token: Redacted.make(markers.pageToken) } })
  // with spans of its own for what it is asked
  const serving = yield* Layer.build(tracer(collector))
  const http = yield* Effect.provideContext(endpoints(Layer.mergeAll(Observability.layer, page)), serving)
  const watching = yield* Layer.build(
    Layer.mergeAll(Layer.succeed(ConsumerRegistry, http.registry), Observability.layerTraces(), tracer(collector))
  )
  const exporting = yield* Layer.build(Layer.provide(meter(collector), Observability.layerMetricsExport())).pipe(
    Effect.provideService(ConsumerRegistry, http.registry)
  )
  yield* Effect.gen(function* () {
    const running = yield* consumers
    const ask = Effect.gen(function* () {
      for (const path of ["/health", "/health/live", "/health/ready"]) see("health", (yield* http.get(path)).text)
      see("metrics", (yield* http.get("/metrics")).text)
      // on standard output
      yield* Top.watch({ once: true, interval: "100 millis" })
      for (const text of yield* askPage(`${http.url}/kafka/`)) see("page", text)
    })
    yield* Effect.all([handles(running), Effect.andThen(Effect.sleep(600), ask)], { concurrency: "unbounded" })
    yield* fails(running)
    yield* ask
    yield* tools
  }).pipe(Effect.provide(MemoryKafka.layer({ clientId: "one" })), Effect.provideContext(watching))
  // they know nothing of the option
  if (!revealRecords) yield* clients(new URL(collector.url).port)
  yield* Effect.provideContext(flush, serving)
  yield* Effect.provideContext(flush, watching)
  yield* Effect.provideContext(flush, exporting)
  for (const body of collector.bodies) see(body.includes("resourceSpans") ? "spans" : "metrics", body)
})

const exit = await Effect.runPromiseExit(
  program.pipe(Effect.scoped, Effect.provideService(ConsumerRegistry, makeRegistry()), Effect.provide(loggers))
)
if (Exit.isFailure(exit)) process.stderr.write(`the program has failed: ${Cause.pretty(exit.cause)}\n`)
writeFileSync(file!, JSON.stringify(seen))
process.exit(Exit.isSuccess(exit) ? 0 : 1)
