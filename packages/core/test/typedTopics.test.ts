/**
 * Typed topics through the whole engine, from the bytes in the log to the dead letter, and what is told of records on the way.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { type Cluster, MemoryKafka } from "../../testing/src/index.ts"
import type { DecodeError } from "../src/Codec.ts"
import { ConcurrentConsumer, type ConcurrentConsumerShape, type HandlerOptions } from "../src/ConcurrentConsumer.ts"
import type { ConsumerRecord, Headers } from "../src/ConsumerRecord.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import { DeadLetter } from "../src/DeadLetter.ts"
import { Directive } from "../src/Directive.ts"
import { type Decision, type Failure, FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler, type HandlerTimeout } from "../src/Handler.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { KafkaProducer, type Producer, PublishError } from "../src/KafkaProducer.ts"
import type { Snapshot } from "../src/Snapshot.ts"
import { Topic } from "../src/Topic.ts"
import { ended, pass, wake, whileTimePasses } from "./harness.ts"

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

const Order = Schema.Struct({ id: Schema.String, amount: Schema.Int })
const Orders = Topic.make("orders", {
  key: Schema.String,
  value: Topic.json(Order),
  headers: Schema.Struct({ tenant: Schema.String })
})

class ShipError extends Data.TaggedError("ShipError")<{ readonly id: string }> {}

const place = (record: ConsumerRecord): string => `${record.topic}/${record.partition}/${record.offset}`

const recordsOf = (kafka: Cluster, topic: string): ReadonlyArray<ConsumerRecord> => kafka.recordsUnsafe(topic, 0)

describe("typed topics", () => {
  it.effect(
    "values reach their handlers, what cannot be decoded goes to the policy and as it was to the dead letters, and all is committed (D50)",
    () =>
      Effect.gen(function* () {
        yield* wake
        const kafka = yield* MemoryKafka.make()
        for (const topic of ["orders", "audit", "orders.dead", "orders.late"]) yield* kafka.createTopic(topic)
        const client = kafka.client()
        const producer = yield* Effect.provideService(KafkaProducer.make, KafkaClient, client)

        const publish = (id: string, amount: number, key: string) =>
          producer.publish(Orders, { id, amount }, { key, headers: { tenant: "acme" } })
        yield* publish("a", 1, "k")
        const broken: ReadonlyArray<{
          readonly key: Uint8Array | null
          readonly value: Uint8Array | null
          readonly headers: Headers
          readonly part: string
        }> = [
          {
            key: utf8("k"),
            value: Uint8Array.of(0x7b, 0xff, 0, 1),
            headers: [["tenant", utf8("acme")]],
            part: "value"
          },
          { key: utf8("k"), value: utf8('{"id":"b"}'), headers: [["tenant", utf8("acme")]], part: "value" },
          { key: null, value: utf8('{"id":"b","amount":1}'), headers: [["tenant", utf8("acme")]], part: "key" },
          {
            key: utf8("k"),
            value: utf8('{"id":"b","amount":1}'),
            headers: [
              ["tenant", null],
              ["other", Uint8Array.of(255, 0)],
              ["other", utf8("twice")]
            ],
            part: "headers"
          },
          { key: utf8("k"), value: null, headers: [["tenant", utf8("acme")]], part: "value" }
        ]
        yield* kafka.produce("orders", broken)
        yield* publish("fails", -1, "k")
        yield* publish("c", 3, "k")
        yield* publish("d", 4, "other")
        yield* kafka.produce("audit", [{ key: null, value: Uint8Array.of(1, 2, 255) }])

        const shipped: Array<string> = []
        const audited: Array<ReadonlyArray<number>> = []
        const shipOrder = Topic.handler(
          Orders,
          Effect.fnUntraced(function* (order, message) {
            shipped.push(
              `${order.id} ${order.amount} of ${message.decodedKey} for ${message.decodedHeaders.tenant} #${message.attempt}`
            )
            yield* Effect.sleep(5)
            if (order.amount < 0) return yield* new ShipError({ id: order.id })
          })
        )
        const audit = Handler.make("audit", (record) => Effect.sync(() => void audited.push([...record.value!])))
        const asked: Array<string> = []
        const registry = makeRegistry()
        yield* Layer.build(
          ConcurrentConsumer.layerHandler(Handler.merge(shipOrder, audit), {
            groupId: "g",
            ordering: "key",
            onFailure: FailurePolicy.make((failure: Failure<ShipError | DecodeError>) => {
              if (failure.error._tag === "None") return { _tag: "Stop" }
              const error = failure.error.value
              asked.push(`${place(failure.record)} ${error._tag} #${failure.attempt}`)
              if (error._tag === "DecodeError") return { _tag: "DeadLetter", topic: "orders.dead", reason: error.part }
              return failure.attempt < 3 ? { _tag: "Retry", after: 100 } : { _tag: "DeadLetter", topic: "orders.late" }
            })
          })
        ).pipe(
          Effect.provide(
            Context.make(KafkaClient, client).pipe(
              Context.add(KafkaProducer, producer),
              Context.add(ConsumerRegistry, registry)
            )
          ),
          Effect.provideService(References.MinimumLogLevel, "None"),
          Effect.orDie
        )
        yield* pass(500)
        yield* pass(500)
        yield* pass(10_000)

        // its key's order, over what cannot be decoded and over the retries
        const ofKey = shipped.filter((line) => line.includes("of k "))
        assert.deepStrictEqual(ofKey, [
          "a 1 of k for acme #1",
          "fails -1 of k for acme #1",
          "fails -1 of k for acme #2",
          "fails -1 of k for acme #3",
          "c 3 of k for acme #1"
        ])
        assert.deepStrictEqual(
          shipped.filter((line) => !line.includes("of k ")),
          ["d 4 of other for acme #1"]
        )
        assert.deepStrictEqual(audited, [[1, 2, 255]])
        assert.deepStrictEqual(
          asked.toSorted(),
          [
            ...broken.map((_, i) => `orders/0/${i + 1} DecodeError #1`),
            ...[1, 2, 3].map((n) => `orders/0/6 ShipError #${n}`)
          ].toSorted()
        )
        const dead = recordsOf(kafka, "orders.dead").toSorted(
          (a, b) => Number(DeadLetter.read(a)!.offset) - Number(DeadLetter.read(b)!.offset)
        )
        assert.lengthOf(dead, broken.length)
        broken.forEach(({ headers, key, part, value }, i) => {
          const letter = dead[i]!
          assert.deepStrictEqual([letter.key, letter.value], [key, value])
          assert.deepStrictEqual(letter.headers.slice(0, headers.length), headers)
          const read = DeadLetter.read(letter)!
          assert.deepInclude(read, { topic: "orders", offset: BigInt(i + 1), attempts: 1, error: "DecodeError" })
          assert.strictEqual(read.reason, part)
          assert.match(read.message!, new RegExp(`^cannot decode the ${part} of a record of orders: `))
        })
        const [late] = recordsOf(kafka, "orders.late")
        assert.deepInclude(DeadLetter.read(late!), { topic: "orders", offset: 6n, attempts: 3, error: "ShipError" })
        assert.strictEqual(new TextDecoder().decode(late!.value!), '{"id":"fails","amount":-1}')

        assert.strictEqual(kafka.committedUnsafe("g", "orders", 0)?.offset, 9n)
        assert.strictEqual(kafka.committedUnsafe("g", "audit", 0)?.offset, 1n)
        const [consumer] = yield* registry.consumers
        const { attempts, outcomes } = yield* consumer!.snapshot
        assert.deepStrictEqual(outcomes, ended({ handled: 4, deadLettered: 6 }))
        assert.strictEqual(attempts, 12)
      })
  )
})

describe("what is told of records", () => {
  const marker = "SECRET4711"
  /** the marker as text, and as what becomes of its bytes when somebody prints them */
  const forms = [
    marker,
    Buffer.from(marker).toString("hex"),
    Buffer.from(marker).toString("base64").slice(0, 12),
    [...utf8(marker)].join(","),
    [...utf8(marker)].join(", "),
    [...utf8(marker)].map((byte) => byte.toString(16)).join(" "),
    [...utf8(marker)]
      .map((byte, i) => `"${i}":${byte}`)
      .slice(0, 4)
      .join(",")
  ]
  const leaks = (text: string): boolean => {
    const line = text.replace(/\s+/g, " ")
    return forms.some((form) => line.includes(form))
  }

  class Leaky extends Data.TaggedError("Leaky")<{ readonly what: string }> {
    override get message(): string {
      return `cannot read ${this.what}`
    }
  }

  it("is seen in each form in which it could be", () => {
    const secret = utf8(marker)
    const printed = [marker, JSON.stringify(secret), String(secret), inspect(secret), inspect(Buffer.from(secret))]
    for (const text of [...printed, Buffer.from(secret).toString("base64")]) assert.isTrue(leaks(text), text)
  })

  const json = (value: unknown): string =>
    JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? String(each) : each))

  /** Every way in which one prints it. */
  const printed = (value: unknown): ReadonlyArray<string> => [
    inspect(value, { depth: 20, showHidden: true }),
    String(value),
    json(value) ?? "",
    ...(value instanceof Error ? [value.message, value.stack ?? "", Cause.pretty(Cause.fail(value))] : [])
  ]

  it.effect(
    "D50, F1: nothing of key, value or header values in any log line, error, span, health, snapshot or header, whatever is decided about a record",
    () =>
      Effect.gen(function* () {
        yield* wake
        const kafka = yield* MemoryKafka.make()
        const topics = ["orders", "audit", "dead", "refused"]
        for (const topic of topics) yield* kafka.createTopic(topic)
        const client = kafka.client()
        const real = yield* Effect.provideService(KafkaProducer.make, KafkaClient, client)
        const sendings: Record<string, number> = {}
        const producer: Producer = {
          send: (records) => {
            const topic = records[0]!.topic
            sendings[topic] = (sendings[topic] ?? 0) + 1
            const failure = { code: "NOT_ENOUGH_REPLICAS", detail: "send 1 records" }
            return topic === "refused"
              ? Effect.fail(new PublishError({ reason: "refused", ...failure, code: "MESSAGE_TOO_LARGE" }))
              : sendings[topic]! < 3
                ? Effect.fail(new PublishError({ reason: "retriable", ...failure }))
                : real.send(records)
          }
        }
        const lines: Array<string> = []
        const logger = Logger.make<unknown, void>(({ cause, date, fiber, logLevel, message }) => {
          const annotations = fiber.getRef(References.CurrentLogAnnotations)
          const spans = fiber.getRef(References.CurrentLogSpans)
          lines.push(...[message, annotations, spans, { date, logLevel }].flatMap(printed), Cause.pretty(cause))
        })
        const spans: Array<Tracer.Span> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          }
        })
        const registry = makeRegistry()

        const decisions: ReadonlyArray<readonly [name: string, decision: Decision]> = [
          ["skip", { _tag: "Skip" }],
          ["retry", { _tag: "Retry", after: 600_000 }],
          ["dead letter", { _tag: "DeadLetter", topic: "dead" }],
          ["refused dead letter", { _tag: "DeadLetter", topic: "refused", then: { _tag: "Skip" } }],
          ["circle", { _tag: "DeadLetter", topic: "audit", then: { _tag: "Skip" } }],
          ["park", { _tag: "Park", then: { _tag: "Skip" } }],
          [
            "park that is over",
            { _tag: "Park", limits: { atMostFor: 100 }, then: { _tag: "DeadLetter", topic: "dead" } }
          ]
        ]
        const secret = utf8(marker)
        const headers = [
          ["tenant", secret],
          ["other", secret]
        ] as const
        const cases = [
          () => Effect.fail(new Leaky({ what: marker })),
          () => Effect.die(new Leaky({ what: marker })),
          () => Effect.die(`a text of ${marker}`),
          () => Effect.interrupt
        ]
        // a record for every decision and every way to fail, and some more that decide themselves
        for (let i = 0; i < decisions.length * cases.length + 5; i++) {
          yield* kafka.produce("audit", [{ key: `${marker}-${i}`, value: secret, headers }])
        }
        // one key: what cannot be decoded, and a lane that is waited for
        for (let i = 0; i < decisions.length + 1; i++) {
          yield* kafka.produce("orders", [
            { key: `${marker}-${i}`, value: `{"id":"${marker}","amount":"${marker}"}`, headers }
          ])
        }
        for (let i = 0; i < 20; i++) {
          yield* kafka.produce("orders", [{ key: marker, value: `{"id":"${marker}","amount":1}`, headers }])
        }
        const ownDecisions = decisions.length * cases.length
        let stopNow = false
        const audit = Handler.make("audit", (record): Effect.Effect<void, Leaky | Directive.Any> => {
          const n = Number(record.offset)
          switch (n - ownDecisions) {
            case 0:
              return Directive.skip("a reason of our own")
            case 1:
              return Directive.deadLetter("dead", "a reason of our own")
            case 2:
              return Directive.retryAfter(600_000)
            case 3:
              return Effect.never
            case 4:
              return Effect.uninterruptible(Effect.sleep(3_600_000))
            default:
              return cases[n % cases.length]!()
          }
        }).pipe(Handler.timeout(1_000))
        const shipOrder = Topic.handler(Orders, () => Effect.never)
        const seen: Array<unknown> = []
        const options: HandlerOptions = {
          groupId: "g",
          ordering: "key",
          concurrency: 100,
          onEnd: "report",
          wrap: (effect, record) =>
            Effect.withSpan(effect, "handle", { attributes: { place: place(record), epoch: record.epoch } })
        }
        const policy = FailurePolicy.make((failure: Failure<Leaky | DecodeError | HandlerTimeout>): Decision => {
          const { error, record } = failure
          const n = Number(record.offset)
          if (error._tag === "Some" && error.value._tag === "DecodeError") {
            seen.push(error.value, failure.cause)
            if (n === decisions.length) return stopNow ? { _tag: "Stop" } : { _tag: "Retry", after: 30_000 }
            return decisions[n]![1]
          }
          return n >= ownDecisions ? { _tag: "Skip" } : decisions[Math.floor(n / cases.length)]![1]
        })
        const scope = yield* Effect.scope
        yield* Layer.buildWithScope(
          ConcurrentConsumer.layerHandler(Handler.merge(shipOrder, audit), { ...options, onFailure: policy }),
          scope
        ).pipe(
          Effect.provide(
            Context.make(KafkaClient, client).pipe(
              Context.add(KafkaProducer, KafkaProducer.fromProducer(producer)),
              Context.add(ConsumerRegistry, registry),
              Context.add(Logger.CurrentLoggers, new Set([logger])),
              Context.add(References.MinimumLogLevel, "All"),
              Context.add(Tracer.Tracer, tracer)
            )
          ),
          Effect.orDie
        )
        const [consumer] = yield* registry.consumers
        const look = (consumer: ConcurrentConsumerShape) =>
          Effect.gen(function* () {
            const snapshot = yield* consumer.snapshot
            const health = yield* consumer.health
            seen.push(snapshot, health)
            return snapshot
          })
        const codes = new Set<string>()
        let snapshot: Snapshot = yield* look(consumer!)
        for (let i = 0; i < 25; i++) {
          yield* pass(1_000)
          snapshot = yield* look(consumer!)
          for (const { code } of snapshot.health.reasons) codes.add(code)
        }
        // all of it has been there to be told
        for (const code of ["retrying", "parked", "laneBound", "zombie"]) assert.include([...codes], code)
        assert.isAbove(snapshot.hotLanes.length, 0)
        assert.isAbove(snapshot.outcomes.skipped, 5)
        assert.isAtLeast(snapshot.outcomes.deadLettered, 6)
        for (const part of [
          "skipped a record",
          "sent again",
          "refused for good",
          "that this consumer reads",
          "ignores its"
        ])
          assert.isTrue(
            lines.some((line) => line.includes(part)),
            part
          )

        stopNow = true
        const failure = yield* whileTimePasses(Effect.exit(consumer!.failure))
        seen.push(failure.value)
        yield* look(consumer!)
        assert.isTrue(lines.some((line) => line.includes("has ended")))
        assert.include(lines.find((line) => line.includes("has ended")) ?? "", `orders/0 offset ${decisions.length}`)

        for (const { attributes, name, status } of spans) {
          seen.push(name, [...attributes])
          // what a handler of the user's fails with is the user's: here only what this library has made
          if (String(attributes.get("place")).startsWith("orders")) seen.push(status)
        }
        assert.isAbove(spans.length, 30)
        for (const [name, value] of [...recordsOf(kafka, "dead"), ...recordsOf(kafka, "refused")].flatMap(
          ({ headers }) => headers
        )) {
          if (!name.startsWith("x-dead-letter-")) continue
          lines.push(name, new TextDecoder().decode(value!))
        }
        assert.isAtLeast(recordsOf(kafka, "dead").length, 6)
        const found = [...lines, ...seen.flatMap(printed)].filter(leaks)
        assert.deepStrictEqual(found.slice(0, 3), [])
      })
  )
})
