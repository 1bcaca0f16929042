/** Traces as a collector gets them: Effect's own OTLP exporter sends to a receiver of the test. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Headers } from "@concurrent-kafka/core/ConsumerRecord"
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Directive } from "@concurrent-kafka/core/Directive"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import { KafkaProducer, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { Traces } from "@concurrent-kafka/core/Traces"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as OtlpExporter from "effect/observability/OtlpExporter"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import {
  Boom,
  Desk,
  ended,
  pass,
  passUntil,
  turns,
  whileTimePasses,
  type World,
  world
} from "../../core/test/harness.ts"
import { Letters, publishError, refused, taken } from "../../core/test/letters.ts"
import { at, given, outcomes, scripted, unreadableAt } from "../../core/test/script.ts"
import { Observability } from "../src/index.ts"
import { flush, type ReceivedSpan, type Receiver, receiver, tracer } from "./otlp.ts"

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"
const parent = `00-${traceId}-${spanId}-01`
const unsampled = `00-${traceId}-${spanId}-00`

interface Collector {
  readonly receiver: Receiver
  readonly flush: Effect.Effect<void>
  /** those of a name that came so far, oldest first */
  readonly named: (name: string) => Effect.Effect<ReadonlyArray<ReceivedSpan>>
  readonly one: (name: string) => Effect.Effect<ReceivedSpan>
}

/** Runs it with traces on, and a tracer that sends to a receiver. */
const traced = <A, E>(
  body: (collector: Collector) => Effect.Effect<A, E, Scope.Scope>,
  options: Observability.TracesOptions = {}
): Effect.Effect<A, E, Scope.Scope> =>
  Effect.gen(function* () {
    const to = yield* receiver
    const context: Context.Context<OtlpExporter.Flusher> = yield* Layer.build(
      Layer.mergeAll(Observability.layerTraces(options), tracer(to))
    ).pipe(Effect.orDie)
    const send = Effect.provideContext(flush, context)
    const named = (name: string) =>
      Effect.map(Effect.andThen(turns, send), () => to.spans.filter((span) => span.name === name))
    const collector: Collector = {
      receiver: to,
      flush: send,
      named,
      one: (name) =>
        Effect.map(named(name), (found) => {
          assert.lengthOf(found, 1, name)
          return found[0]!
        })
    }
    return yield* Effect.provideContext(body(collector), context)
  })

const produce = (w: World, headers: ReadonlyArray<readonly [string, string]>, value = "v", key?: string) =>
  Effect.andThen(
    w.kafka.produce("t", [{ value, partition: 0, headers, ...(key === undefined ? {} : { key }) }]),
    pass(1_000)
  )

const textOf = (headers: Headers | undefined, name: string): ReadonlyArray<string> =>
  (headers ?? []).filter((header) => header[0] === name).map(([, value]) => new TextDecoder().decode(value!))

/** trace and span of the one `traceparent` */
const carried = (headers: Headers | undefined) => {
  const all = textOf(headers, "traceparent")
  assert.lengthOf(all, 1)
  const [version, trace, span, flags] = all[0]!.split("-")
  assert.strictEqual(version, "00")
  return { trace, span, flags }
}

const isRoot = (span: ReceivedSpan): void => {
  assert.isUndefined(span.parentSpanId)
  assert.notStrictEqual(span.traceId, traceId)
}

describe("the span of a record", () => {
  it.effect("continues the trace of its producer, says where the record is, and has the handler's spans below it", () =>
    traced(({ named, one }) =>
      Effect.gen(function* () {
        const w = yield* world()
        w.expect("passedOver")
        const handler = Handler.make("t", () =>
          Effect.sleep(30).pipe(Effect.withSpan("inner"), Effect.andThen(Effect.sleep(10)), Effect.withSpan("ship"))
        )
        yield* w.member("a", { handler, groupId: "shipping" })
        yield* produce(w, [["traceparent", parent]], "v", "k")
        yield* pass(1_000)
        const process = yield* one("process t")
        assert.strictEqual(process.kind, "consumer")
        assert.strictEqual(process.traceId, traceId)
        assert.strictEqual(process.parentSpanId, spanId)
        assert.deepStrictEqual(process.links, [`${traceId}/${spanId}`])
        assert.strictEqual(process.status, "ok")
        assert.deepStrictEqual(process.attributes, {
          "messaging.system": "kafka",
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "messaging.destination.name": "t",
          "messaging.destination.partition.id": "0",
          "messaging.kafka.offset": 0,
          "messaging.consumer.group.name": "shipping",
          "concurrent_kafka.attempt": 1,
          "concurrent_kafka.outcome": "handled"
        })
        assert.isAtLeast(Number(process.endedAt - process.startedAt), 40e6)
        const ship = yield* one("ship")
        const inner = yield* one("inner")
        assert.strictEqual(ship.parentSpanId, process.spanId)
        assert.strictEqual(inner.parentSpanId, ship.spanId)
        assert.strictEqual(inner.traceId, traceId)
        assert.lengthOf(yield* named("process t"), 1)
      })
    )
  )

  it.effect("begins a trace of its own and links to its producer's, where that was asked for", () =>
    traced(
      ({ one }) =>
        Effect.gen(function* () {
          const w = yield* world()
          yield* w.member("a", { desk: new Desk({ auto: true }) })
          yield* produce(w, [["traceparent", parent]])
          const process = yield* one("process t")
          isRoot(process)
          assert.deepStrictEqual(process.links, [`${traceId}/${spanId}`])
        }),
      { parent: "link" }
    )
  )

  it.effect("begins a trace where the record says nothing of one, or nothing that is valid", () =>
    traced(({ named }) =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.member("a", { desk: new Desk({ auto: true }) })
        yield* produce(w, [])
        yield* produce(w, [["traceparent", "00-nonsense"]])
        yield* produce(w, [
          ["traceparent", parent],
          ["traceparent", parent]
        ])
        const spans = yield* named("process t")
        assert.lengthOf(spans, 3)
        for (const span of spans) {
          isRoot(span)
          assert.deepStrictEqual(span.links, [])
        }
        assert.strictEqual(new Set(spans.map((span) => span.traceId)).size, 3)
      })
    )
  )

  it.effect("is never the child of what goes on around run", () =>
    traced(({ one }) =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.member("a", { desk: new Desk({ auto: true }) })
        yield* produce(w, [])
        const process = yield* one("process t")
        assert.isUndefined(process.parentSpanId)
        assert.isUndefined((yield* one("commit t")).parentSpanId)
      }).pipe(Effect.withSpan("program"))
    )
  )

  for (const mode of ["continue", "link"] as const) {
    it.effect(`that its producer did not sample is not sampled, nor what is below it (${mode})`, () =>
      traced(
        ({ flush, receiver }) =>
          Effect.gen(function* () {
            const w = yield* world({ topics: ["t", "out"] })
            w.expect("passedOver")
            const handler = Handler.make(
              "t",
              Effect.fn("ship")(function* () {
                const producer = yield* KafkaProducer
                yield* Effect.orDie(producer.send([{ topic: "out", value: null }]))
              })
            )
            yield* w.member("a", { handler })
            yield* produce(w, [["traceparent", unsampled]])
            yield* pass(1_000)
            yield* flush
            assert.deepStrictEqual([...new Set(receiver.spans.map(({ name }) => name))], ["commit t"])
            const { flags, trace } = carried(w.kafka.recordsUnsafe("out", 0)[0]!.headers)
            assert.strictEqual(flags, "00")
            assert.strictEqual(trace === traceId, mode === "continue")
          }),
        { parent: mode }
      )
    )
  }

  it.effect("each attempt has one; the later ones link to the one before, and their outcomes are there", () =>
    traced(({ named, receiver }) =>
      Effect.gen(function* () {
        const w = yield* world()
        w.expect("passedOver")
        const { desk } = yield* w.member("a", {
          policy: FailurePolicy.make(({ attempt }) =>
            attempt === 1 ? { _tag: "Retry", after: 5_000 } : { _tag: "Skip" }
          )
        })
        yield* produce(w, [["traceparent", parent]])
        yield* desk.end(0, 0, Exit.fail(new Boom("secret")))
        yield* pass(6_000)
        yield* desk.end(0, 0, Exit.fail(new Boom("secret")))
        const [first, second] = yield* named("process t")
        assert.deepStrictEqual(
          [first, second].map((span) => [
            span!.attributes["concurrent_kafka.attempt"],
            span!.attributes["concurrent_kafka.outcome"],
            span!.attributes["error.type"],
            span!.status,
            span!.message
          ]),
          [
            [1, "retry", "Boom", "error", "Boom"],
            [2, "skip", "Boom", "error", "Boom"]
          ]
        )
        assert.deepStrictEqual(second!.links, [`${traceId}/${spanId}`, `${first!.traceId}/${first!.spanId}`])
        const [exception] = first!.events
        assert.strictEqual(exception?.name, "exception")
        assert.include(String(exception?.attributes["exception.stacktrace"]), "traces.test.ts")
        assert.notInclude(receiver.bodies.join(), "secret")
      })
    )
  )

  it.effect("ends when the handler ended, however long the policy takes", () =>
    traced(({ one }) =>
      Effect.gen(function* () {
        const w = yield* world()
        w.expect("passedOver")
        const { desk } = yield* w.member("a", {
          policy: FailurePolicy.make(() => Effect.as(Effect.sleep(10_000), { _tag: "Skip" as const }))
        })
        yield* produce(w, [])
        yield* desk.end(0, 0, Exit.fail(new Boom()))
        yield* pass(20_000)
        const span = yield* one("process t")
        assert.isBelow(Number(span.endedAt - span.startedAt), 5_000e6)
        assert.strictEqual(span.attributes["concurrent_kafka.outcome"], "skip")
      })
    )
  )

  it.effect("has key and error as they are with revealRecords, and a mark for a tombstone", () =>
    traced(({ named }) =>
      Effect.gen(function* () {
        const w = yield* world()
        w.expect("passedOver")
        const member = yield* w.member("a", { policy: FailurePolicy.skip, revealRecords: true })
        yield* w.kafka.produce("t", [{ value: null, key: "key\n1", partition: 0 }])
        yield* pass(1_000)
        yield* member.desk.end(0, 0, Exit.fail(new Boom("bad value 17")))
        const [span] = yield* named("process t")
        assert.strictEqual(span!.attributes["messaging.kafka.message.key"], "key 1")
        assert.strictEqual(span!.attributes["messaging.kafka.message.tombstone"], true)
        assert.strictEqual(span!.message, "bad value 17")
      })
    )
  )
})

describe("every attempt's span ends, once", () => {
  /** what began and what ended, by a tracer of the test */
  const counted = () => {
    const spans: Array<Tracer.NativeSpan> = []
    const ends = new Map<string, number>()
    const counting = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        const end = span.end.bind(span)
        span.end = (time, exit) => {
          ends.set(span.spanId, (ends.get(span.spanId) ?? 0) + 1)
          end(time, exit)
        }
        spans.push(span)
        return span
      }
    })
    const outcomesOf = () =>
      spans
        .filter(({ kind }) => kind === "consumer")
        .map((span) => {
          assert.strictEqual(ends.get(span.spanId), 1, "ends once")
          const error = span.attributes.get("error.type")
          return [span.attributes.get("concurrent_kafka.outcome"), ...(error === undefined ? [] : [error])].join(" ")
        })
    return { counting, outcomesOf, spans }
  }

  const on = <A, E, R>(effect: Effect.Effect<A, E, R>, counting: Tracer.Tracer): Effect.Effect<A, E, R> =>
    effect.pipe(Effect.provideService(Traces, { parent: "continue" }), Effect.provideService(Tracer.Tracer, counting))

  it.effect("handled, skipped by a directive, acknowledged and then failed, interrupted by somebody else", () => {
    const { counting, outcomesOf } = counted()
    return on(
      Effect.gen(function* () {
        const s = yield* given([4], {
          handler: Handler.make("t", (record) =>
            record.offset === 0n
              ? Effect.void
              : record.offset === 1n
                ? Directive.skip("as it says")
                : record.offset === 2n
                  ? Effect.andThen(record.ack, Effect.die(new TypeError("late")))
                  : Effect.interrupt
          ) as Handler<Boom, KafkaProducer>,
          policy: FailurePolicy.skip
        })
        yield* pass(100)
        assert.sameMembers(outcomesOf(), ["handled", "skip", "handled TypeError", "skip HandlerInterrupted"])
        yield* s.close
      }),
      counting
    )
  })

  it.effect("as handled once it is acknowledged, whoever interrupts its handler then", () => {
    const { counting, spans } = counted()
    return on(
      Effect.gen(function* () {
        const stubborn = new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
        const s = yield* given([2, 1], {
          desk: stubborn,
          handler: Handler.make("t", (record) =>
            record.partition === 0
              ? Effect.andThen(record.ack, record.offset === 0n ? Effect.interrupt : Effect.never)
              : Effect.andThen(record.ack, stubborn.handle(record))
          ) as Handler<Boom, KafkaProducer>
        })
        yield* s.session.lost(at(0, 1), at(1, 2))
        // the third is left behind
        yield* pass(5_000)
        const ended = spans.filter(({ kind, status }) => kind === "consumer" && status._tag === "Ended")
        assert.deepStrictEqual(
          ended.map(({ attributes, status }) => [
            attributes.get("messaging.destination.partition.id"),
            attributes.get("concurrent_kafka.outcome"),
            attributes.get("error.type"),
            status._tag === "Ended" && Exit.isSuccess(status.exit)
          ]),
          [
            ["0", "handled", undefined, true],
            ["0", "handled", undefined, true],
            ["1", "handled", undefined, true]
          ]
        )
        yield* stubborn.finishAll()
      }),
      counting
    )
  })

  it.effect("as released when it is acknowledged too late, which counts for nothing", () => {
    const { counting, outcomesOf } = counted()
    return on(
      Effect.gen(function* () {
        const s = yield* given([2], {
          handler: Handler.make("t", (record) =>
            record.offset === 0n
              ? Effect.onInterrupt(Effect.never, () => record.ack)
              : Effect.uninterruptible(Effect.andThen(Effect.sleep(500), record.ack))
          ) as Handler<Boom, KafkaProducer>
        })
        yield* s.session.lost(at(0, 1))
        yield* pass(5_000)
        assert.deepStrictEqual(outcomesOf(), ["released", "released"])
        assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 0)
      }),
      counting
    )
  })

  it.effect("one that is not run again, after three sessions were lost while it ran, has one all the same (D38)", () =>
    traced(({ named }) =>
      Effect.gen(function* () {
        const testClock = yield* TestClock.testClockWith(Effect.succeed)
        let blocked = 0
        const clock: Clock.Clock = Object.assign(Object.create(testClock), {
          currentTimeMillisUnsafe: () => testClock.currentTimeMillisUnsafe() + blocked,
          monotonicTimeNanosUnsafe: () => testClock.monotonicTimeNanosUnsafe() + BigInt(blocked) * 1_000_000n
        })
        const w = yield* Effect.provideService(world(), Clock.Clock, clock)
        w.expect("passedOver")
        const a = yield* w.member("a", { policy: FailurePolicy.skip })
        yield* produce(w, [["traceparent", parent]])
        for (let lost = 1; lost <= 3; lost++) {
          yield* pass(1_000)
          blocked += 40_000
          yield* a.session().evict
          yield* passUntil("joined again", () => a.rows.filter((row) => row === "partition:P2").length > lost, 60_000)
        }
        yield* pass(1_000)
        const spans = yield* named("process t")
        assert.deepStrictEqual(
          spans.map((span) => [
            span.attributes["concurrent_kafka.outcome"],
            span.attributes["error.type"],
            span.traceId
          ]),
          [
            ["released", undefined, traceId],
            ["released", undefined, traceId],
            ["released", undefined, traceId],
            ["skip", "SessionsLost", traceId]
          ]
        )
        assert.strictEqual(spans.at(-1)!.status, "error")
        assert.match(spans.at(-1)!.message ?? "", /^the session was lost 3 times because the event loop stood still/)
      })
    )
  )

  it.effect("parked, interrupted by a lost partition, and stopped at", () => {
    const { counting, outcomesOf } = counted()
    return on(
      Effect.gen(function* () {
        const s = yield* given([2, 1], {
          policy: FailurePolicy.make(({ record }) =>
            record.partition === 0
              ? { _tag: "Park", limits: { atMost: 10, atMostFor: 60_000 }, then: { _tag: "Skip" } }
              : { _tag: "Stop" }
          )
        })
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        yield* s.session.lost(at(0, 1))
        yield* pass(100)
        yield* s.desk.end(1, 0, Exit.fail(new Boom()))
        yield* pass(30_000)
        assert.sameMembers(outcomesOf(), ["park Boom", "released", "stop Boom"])
      }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
      counting
    )
  })

  it.effect("too late, and left behind: by its time limit, and by the end of its epoch", () => {
    const { counting, outcomesOf } = counted()
    return on(
      Effect.gen(function* () {
        const desk = new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
        const s = yield* given([1, 1], {
          desk,
          handler: Handler.make("t", desk.handle).pipe(Handler.timeout("1 second")) as Handler<Boom, KafkaProducer>,
          policy: FailurePolicy.skip
        })
        yield* s.session.lost(at(1, 2))
        yield* pass(5_000)
        assert.sameMembers(outcomesOf(), ["skip HandlerTimeout", "released"])
        yield* s.desk.finishAll()
        assert.lengthOf(outcomesOf(), 2)
      }),
      counting
    )
  })

  it.effect("and an attempt holds no other one: a record that is tried for days would hold them all", () => {
    const { counting, outcomesOf, spans } = counted()
    return on(
      Effect.gen(function* () {
        let attempts = 0
        const s = yield* given([1], {
          handler: Handler.make("t", () => (++attempts < 4 ? Effect.fail(new Boom()) : Effect.void)) as Handler<
            Boom,
            KafkaProducer
          >,
          policy: FailurePolicy.make(() => ({ _tag: "Retry", after: 10 }))
        })
        yield* pass(1_000)
        assert.deepStrictEqual(outcomesOf(), ["retry Boom", "retry Boom", "retry Boom", "handled"])
        const [, second, third] = spans.filter(({ kind }) => kind === "consumer")
        assert.deepStrictEqual(
          third!.links.map(({ span }) => [span._tag, span.spanId]),
          [["ExternalSpan", second!.spanId]]
        )
        yield* s.close
      }),
      counting
    )
  })

  it.effect(
    "and the consumer ends with it: without a policy, by one that dies, by one that says what cannot be done",
    () => {
      const { counting, outcomesOf } = counted()
      return on(
        Effect.gen(function* () {
          for (const policy of [
            "none",
            FailurePolicy.make(() => Effect.die(new Error("secret"))),
            FailurePolicy.make(() => ({ _tag: "Retry", after: -1 }))
          ] as const) {
            const s = yield* given([1], { policy })
            yield* s.desk.end(0, 0, Exit.fail(new Boom()))
            yield* pass(30_000)
          }
          assert.deepStrictEqual(outcomesOf(), ["stop Boom", "stop Boom", "stop Boom"])
        }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
        counting
      )
    }
  )

  it.effect(
    "by what is done, where a decision cannot be: park without the map, a dead letter to where it came from",
    () => {
      const { counting, outcomesOf } = counted()
      return on(
        Effect.gen(function* () {
          const s = yield* given([2], {
            offsetMap: "off",
            policy: FailurePolicy.make(({ record }) =>
              record.offset === 0n
                ? { _tag: "Park", limits: { atMost: 10, atMostFor: 60_000 }, then: { _tag: "Skip" } }
                : { _tag: "DeadLetter", topic: "t", then: { _tag: "Skip" } }
            )
          })
          yield* s.desk.end(0, 0, Exit.fail(new Boom()))
          yield* s.desk.end(0, 1, Exit.fail(new Boom()))
          assert.deepStrictEqual(outcomesOf(), ["skip Boom", "skip Boom"])
        }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
        counting
      )
    }
  )

  it.effect("interrupted while the policy is being asked", () => {
    const { counting, outcomesOf } = counted()
    return on(
      Effect.gen(function* () {
        const s = yield* given([1], { policy: FailurePolicy.make(() => Effect.never) })
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        yield* s.session.lost(at(0, 1))
        yield* pass(100)
        assert.deepStrictEqual(outcomesOf(), ["released"])
      }),
      counting
    )
  })

  it.effect("nothing is made, and no header is added, while traces are off, whatever tracer is there", () => {
    const { counting, spans } = counted()
    return Effect.gen(function* () {
      const letters = new Letters({ always: taken })
      const s = yield* given([2], { policy: FailurePolicy.deadLetter("dead"), producer: letters.producer })
      yield* s.desk.end(0, 0, Exit.fail(new Boom()))
      yield* s.desk.finish(0, 1)
      yield* pass(20_000)
      assert.lengthOf(letters.sends, 1)
      assert.deepStrictEqual(textOf(letters.sends[0]!.record.headers, "traceparent"), [])
      assert.deepStrictEqual(
        spans.map(({ name }) => name),
        ["program"]
      )
    }).pipe(Effect.withSpan("program"), Effect.provideService(Tracer.Tracer, counting))
  })

  it.effect("nothing is made, and no header is added, where the program has switched tracing off", () => {
    const { counting, spans } = counted()
    return on(
      Effect.gen(function* () {
        const letters = new Letters({ always: taken })
        const s = yield* given([1], { policy: FailurePolicy.deadLetter("dead"), producer: letters.producer })
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        yield* pass(20_000)
        assert.deepStrictEqual(textOf(letters.sends[0]!.record.headers, "traceparent"), [])
        assert.lengthOf(spans, 0)
      }).pipe(Effect.withTracerEnabled(false)),
      counting
    )
  })
})

describe("what is sent", () => {
  it.effect("by a handler carries on its trace: the send is below what sends, and the record names the send", () =>
    traced(({ named, one }) =>
      Effect.gen(function* () {
        const w = yield* world({ topics: ["t", "out"] })
        w.expect("passedOver")
        const handler = Handler.make(
          "t",
          Effect.fn("ship")(function* () {
            const producer = yield* KafkaProducer
            yield* Effect.orDie(producer.send([{ topic: "out", partition: 0, value: null, headers: [["a", null]] }]))
          })
        )
        yield* w.member("a", { handler })
        yield* w.member("b", { desk: new Desk({ auto: true }), topics: ["out"], groupId: "next" })
        yield* produce(w, [
          ["traceparent", parent],
          ["tracestate", "vendor=1"]
        ])
        yield* pass(1_000)
        const send = yield* one("send out")
        assert.strictEqual(send.kind, "producer")
        assert.strictEqual(send.parentSpanId, (yield* one("ship")).spanId)
        assert.strictEqual(send.status, "ok")
        assert.deepStrictEqual(send.links, [])
        assert.deepStrictEqual(send.attributes, {
          "messaging.system": "kafka",
          "messaging.operation.name": "send",
          "messaging.operation.type": "send",
          "messaging.destination.name": "out",
          "messaging.destination.partition.id": "0",
          "messaging.kafka.message.tombstone": true
        })
        const { headers } = w.kafka.recordsUnsafe("out", 0)[0]!
        assert.deepStrictEqual(headers[0], ["a", null])
        assert.deepStrictEqual(carried(headers), { trace: traceId, span: send.spanId, flags: "01" })
        assert.deepStrictEqual(textOf(headers, "tracestate"), ["vendor=1"])
        const next = yield* one("process out")
        assert.strictEqual(next.traceId, traceId)
        assert.strictEqual(next.parentSpanId, send.spanId)
        assert.lengthOf(yield* named("send out"), 1)
      })
    )
  )

  it.effect(
    "keeps a context that it brings, and the send links to it; several records of several topics are one send",
    () =>
      traced(({ one }) =>
        Effect.gen(function* () {
          const letters: Array<Headers | undefined> = []
          const producer = KafkaProducer.fromProducer({
            send: (records) =>
              Effect.sync(() => {
                letters.push(...records.map(({ headers }) => headers))
                return true
              })
          })
          const own = new TextEncoder().encode(parent)
          yield* producer.send([{ topic: "a", value: null, headers: [["traceparent", own]] }])
          yield* producer.send([
            { topic: "a", value: null, headers: [["TraceParent", new Uint8Array([1])]] },
            { topic: "b", value: null }
          ])
          yield* producer.send([])
          const client = yield* one("send a")
          assert.strictEqual(client.kind, "client")
          assert.deepStrictEqual(client.links, [`${traceId}/${spanId}`])
          assert.deepStrictEqual(letters[0], [["traceparent", own]])
          const both = yield* one("send")
          assert.strictEqual(both.kind, "producer")
          assert.strictEqual(both.attributes["messaging.batch.message_count"], 2)
          assert.isUndefined(both.attributes["messaging.destination.name"])
          assert.deepStrictEqual(both.links, [])
          assert.deepStrictEqual(letters[1], [["TraceParent", new Uint8Array([1])]])
          assert.strictEqual(carried(letters[2]).span, both.spanId)
        })
      )
  )

  it.effect("and not taken says why, by Kafka's name, and nothing of what the client has said beside it", () =>
    traced(({ one, receiver }) =>
      Effect.gen(function* () {
        const producer = KafkaProducer.fromProducer({
          send: () =>
            Effect.fail(
              new PublishError({
                reason: "refused",
                code: "MESSAGE_TOO_LARGE",
                detail: "send 1 records",
                cause: new Error("secret")
              })
            )
        })
        yield* Effect.flip(producer.send([{ topic: "a", value: null }]))
        const span = yield* one("send a")
        assert.strictEqual(span.attributes["error.type"], "MESSAGE_TOO_LARGE")
        assert.strictEqual(span.status, "error")
        assert.strictEqual(span.message, "send 1 records (MESSAGE_TOO_LARGE)")
        assert.notInclude(receiver.bodies.join(), "secret")
      })
    )
  )

  it.effect("by a client that dies has failed, and says by what; one that was interrupted has not", () =>
    traced(({ one, receiver }) =>
      Effect.gen(function* () {
        const producer = KafkaProducer.fromProducer({
          send: ([record]) => (record?.topic === "a" ? Effect.die(new TypeError("secret")) : Effect.interrupt)
        })
        yield* Effect.exit(producer.send([{ topic: "a", value: null }]))
        yield* Effect.exit(producer.send([{ topic: "b", value: null }]))
        const dead = yield* one("send a")
        assert.deepStrictEqual(
          [dead.status, dead.attributes["error.type"], dead.message],
          ["error", "TypeError", "TypeError"]
        )
        const interrupted = yield* one("send b")
        assert.deepStrictEqual([interrupted.status, interrupted.attributes["error.type"]], ["unset", undefined])
        assert.notInclude(receiver.bodies.join(), "secret")
      })
    )
  )

  it.effect(
    "a dead letter: below the attempt that failed, with the context of the record, or its own where that had none",
    () =>
      traced(({ named }) =>
        Effect.gen(function* () {
          const w = yield* world({ topics: ["t", "dead"] })
          w.expect("passedOver")
          const { desk } = yield* w.member("a", { policy: FailurePolicy.deadLetter("dead") })
          yield* produce(w, [
            ["traceparent", parent],
            ["tracestate", "vendor=1"]
          ])
          yield* desk.end(0, 0, Exit.fail(new Boom()))
          yield* pass(1_000)
          yield* produce(w, [])
          yield* desk.end(0, 1, Exit.fail(new Boom()))
          yield* pass(1_000)
          const attempts = yield* named("process t")
          const sends = yield* named("send dead")
          assert.deepStrictEqual(
            attempts.map((span) => span.attributes["concurrent_kafka.outcome"]),
            ["dead_letter", "dead_letter"]
          )
          assert.deepStrictEqual(
            sends.map((span) => [span.parentSpanId, span.traceId, span.kind]),
            [
              [attempts[0]!.spanId, traceId, "client"],
              [attempts[1]!.spanId, attempts[1]!.traceId, "producer"]
            ]
          )
          assert.deepStrictEqual(sends[0]!.links, [`${traceId}/${spanId}`])
          const [first, second] = w.kafka.recordsUnsafe("dead", 0)
          assert.deepStrictEqual(carried(first!.headers), { trace: traceId, span: spanId, flags: "01" })
          assert.deepStrictEqual(textOf(first!.headers, "tracestate"), ["vendor=1"])
          assert.deepStrictEqual(carried(second!.headers), {
            trace: attempts[1]!.traceId,
            span: sends[1]!.spanId,
            flags: "01"
          })
        })
      )
  )

  it.effect("a dead letter that is sent again and then refused: each send below the attempt", () =>
    traced(({ named, one }) =>
      Effect.gen(function* () {
        const letters = new Letters()
        const s = yield* given([1], {
          policy: FailurePolicy.make(() => ({ _tag: "DeadLetter", topic: "dead", then: { _tag: "Skip" } })),
          producer: letters.producer
        })
        yield* s.desk.end(0, 0, Exit.fail(new Boom()))
        yield* letters.answer(Exit.fail(publishError("retriable")))
        yield* pass(10_000)
        yield* letters.answer(refused)
        const attempt = yield* one("process t")
        assert.deepStrictEqual(
          (yield* named("send dead")).map((span) => [span.parentSpanId, span.attributes["error.type"]]),
          [
            [attempt.spanId, "NOT_ENOUGH_REPLICAS"],
            [attempt.spanId, "MESSAGE_TOO_LARGE"]
          ]
        )
      })
    )
  )
})

describe("commits", () => {
  it.effect("have a span for each request: of which group and topic, and why one was not stored", () =>
    traced(({ named }) =>
      Effect.gen(function* () {
        const s = yield* given([3, 1], { batchSize: 1, minCommitInterval: 0, desk: new Desk() })
        s.session.answers.push(outcomes("retriable", "NO_ANSWER"))
        yield* s.desk.finish(0, 0)
        yield* pass(10_000)
        yield* s.desk.finish(0, 1)
        yield* s.desk.finish(1, 0)
        yield* pass(10_000)
        const spans = yield* named("commit t")
        const [failed, stored] = spans
        assert.strictEqual(failed!.attributes["error.type"], "NO_ANSWER")
        assert.strictEqual(failed!.status, "error")
        assert.strictEqual(failed!.message, "NO_ANSWER")
        assert.strictEqual(stored!.kind, "client")
        assert.strictEqual(stored!.status, "ok")
        assert.isUndefined(stored!.parentSpanId)
        assert.deepStrictEqual(stored!.attributes, {
          "messaging.system": "kafka",
          "messaging.operation.name": "commit",
          "messaging.operation.type": "settle",
          "messaging.consumer.group.name": s.session.session.settings.groupId,
          "messaging.destination.name": "t",
          "messaging.destination.partition.id": "0",
          "messaging.kafka.offset": 1
        })
        assert.lengthOf(spans, s.session.sent.length)
      })
    )
  )
})

describe("commits that end otherwise", () => {
  it.effect("a client that dies has failed and was not interrupted: the span says by what, and nothing more", () =>
    traced(({ one, receiver }) =>
      Effect.gen(function* () {
        const s = yield* given([1], { batchSize: 1, minCommitInterval: 0, desk: new Desk() })
        s.session.answers.push(() => Effect.die(new TypeError("secret")))
        yield* s.desk.finish(0, 0)
        yield* pass(30_000)
        const span = yield* one("commit t")
        assert.strictEqual(span.status, "error")
        assert.strictEqual(span.attributes["error.type"], "TypeError")
        assert.strictEqual(span.message, "TypeError")
        assert.notInclude(receiver.bodies.join(), "secret")
      }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
    )
  )
})

describe("a tracer that fails", () => {
  const secret = "secret of the record"
  const fault = () => {
    throw new Boom(secret)
  }
  const parts = ["span", "attribute", "end", "traceId", "sampled"] as const

  /** Does what a tracer does, except for this, at the first time or always; gives back how often it has failed. */
  const failing = (part: (typeof parts)[number], times: number) => {
    let failures = 0
    const fails = () => {
      if (failures >= times) return
      failures++
      fault()
    }
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        if (part === "span") fails()
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        if (part === "span") return span
        return new Proxy(span, {
          get: (target, name) => {
            const value: unknown = Reflect.get(target, name)
            if (name === part && typeof value !== "function") fails()
            return typeof value !== "function"
              ? value
              : (...args: ReadonlyArray<unknown>): unknown => {
                  if (name === part) fails()
                  return Reflect.apply(value, target, args)
                }
          }
        })
      }
    })
    return {
      tracer,
      failures: () => failures,
      open: () => spans.filter(({ status }) => status._tag === "Started").length
    }
  }

  const on = <A, E, R>(effect: Effect.Effect<A, E, R>, tracer: Tracer.Tracer): Effect.Effect<A, E, R> =>
    effect.pipe(Effect.provideService(Traces, { parent: "continue" }), Effect.provideService(Tracer.Tracer, tracer))

  for (const part of parts) {
    for (const times of [1, Number.POSITIVE_INFINITY]) {
      const title = `${part}${times === 1 ? ", once" : ""}`

      it.effect(`decides of no record, and is told once: ${title}`, () => {
        const { failures, open, tracer } = failing(part, times)
        return on(
          Effect.gen(function* () {
            const letters = new Letters({ always: taken })
            let attempts = 0
            const s = yield* given([4], {
              handler: Handler.make("t", ({ offset }) => {
                if (offset === 1n && ++attempts < 3) return Effect.fail(new Boom())
                return offset === 2n ? Effect.fail(new Boom()) : offset === 3n ? Directive.skip("is done") : Effect.void
              }) as Handler<Boom, KafkaProducer>,
              policy: FailurePolicy.make(({ record }) =>
                record.offset === 1n ? { _tag: "Retry", after: 100 } : { _tag: "DeadLetter", topic: "dead" }
              ),
              producer: letters.producer
            })
            yield* pass(20_000)
            const { outcomes } = yield* s.consumer.snapshot
            assert.deepStrictEqual(outcomes, ended({ handled: 2, skipped: 1, deadLettered: 1 }))
            assert.strictEqual(attempts, 3)
            assert.lengthOf(letters.sends, 1)
            assert.strictEqual(s.session.commits.at(-1), "0=4")
            assert.isUndefined(s.fiber().pollUnsafe())
            assert.isAtLeast(failures(), 1)
            // what could not be described ends all the same
            if (part !== "end") assert.strictEqual(open(), 0)
            const told = s.logs.filter((line) => line.includes("the tracer"))
            const [first = ""] = told
            assert.include(first, "Boom")
            assert.notInclude(s.logs.join(), secret)
            // one of each: consumer, producer, committer
            assert.isAtMost(told.length, times === 1 ? 1 : 3)
            yield* s.close
          }),
          tracer
        )
      })
    }
  }

  for (const part of parts) {
    it.effect(`is no failure of what its commit or send has brought about: ${part}`, () => {
      const { tracer } = failing(part, Number.POSITIVE_INFINITY)
      return on(
        Effect.gen(function* () {
          const producer = KafkaProducer.fromProducer({
            send: ([record]) =>
              record?.topic === "a" ? Effect.succeed(true) : Effect.fail(publishError("refused", "MESSAGE_TOO_LARGE"))
          })
          assert.isTrue(yield* producer.send([{ topic: "a", value: null }]))
          const error = yield* Effect.flip(producer.send([{ topic: "b", value: null }]))
          assert.strictEqual(error.code, "MESSAGE_TOO_LARGE")

          const s = yield* given([2], { batchSize: 1, minCommitInterval: 0 })
          s.session.answers.push(outcomes("retriable", "NO_ANSWER"))
          yield* s.desk.finish(0, 0)
          yield* pass(10_000)
          yield* s.desk.finish(0, 1)
          yield* pass(10_000)
          assert.strictEqual(s.session.commits.at(-1), "0=2")
          assert.isUndefined(s.fiber().pollUnsafe())
        }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
        tracer
      )
    })
  }

  it.effect("is not what unreadable headers are: the attempt has a span, which begins a trace", () =>
    traced(({ one }) =>
      Effect.gen(function* () {
        const s = yield* scripted({ desk: new Desk({ auto: true }) })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.signal({
          _tag: "Chunk",
          ...at(0, 1),
          records: [unreadableAt(0, 0)],
          nextOffset: 1n,
          end: 1n
        })
        yield* pass(10_000)
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ handled: 1 }))
        isRoot(yield* one("process t"))
        assert.isFalse(s.logs.some((line) => line.includes("the tracer")))
        yield* s.close
      })
    )
  )
})

describe("layerTraces", () => {
  it.effect("refuses what it does not know", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Observability.layerTraces({ parent: "follow" as unknown as "link" })))
      )
      assert.strictEqual(error.option, "parent")
    })
  )

  it.effect("of a consumer is enough: whoever runs it need not know of it, and its handlers send with it", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        ConcurrentConsumer.layer({ groupId: "g", topics: ["t"] }).pipe(
          Layer.provide(Observability.layerTraces({ parent: "link" })),
          Layer.provideMerge(MemoryKafka.layer())
        )
      ).pipe(Effect.provideService(ConsumerRegistry, makeRegistry()), Effect.orDie)
      const kafka = Context.get(context, MemoryKafka)
      yield* kafka.createTopic("t")
      yield* kafka.createTopic("out", { partitions: 1 })
      yield* kafka.produce("t", [{ value: "v" }])
      const handler = Handler.make("t", () =>
        Effect.flatMap(KafkaProducer, (producer) => Effect.orDie(producer.send([{ topic: "out", value: null }])))
      )
      yield* Effect.forkScoped(Effect.provideContext(Context.get(context, ConcurrentConsumer).run(handler), context))
      yield* pass(5_000)
      assert.strictEqual(carried(kafka.recordsUnsafe("out", 0)[0]!.headers).flags, "01")
    }).pipe(whileTimePasses, Effect.asVoid)
  )
})
