import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import {
  KafkaProducer,
  type Producer,
  type ProducerRecord,
  type PublishError
} from "@concurrent-kafka/core/KafkaProducer"
import type { Fault, FaultKind } from "@concurrent-kafka/testing/Faults"
import {
  type ClientOptions,
  type Cluster,
  MemoryKafka,
  type MemoryKafkaOptions
} from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { advance, cluster, seeded, turns } from "./support.ts"

const utf8 = new TextEncoder()
const text = new TextDecoder()

const record = (value: string | number, partition?: number): ProducerRecord => ({
  topic: "t",
  partition,
  value: utf8.encode(String(value))
})

const values = (kafka: Cluster, partition = 0): ReadonlyArray<string> =>
  kafka.recordsUnsafe("t", partition).map(({ value }) => text.decode(value!))

/** Starts a send. */
const start = ({ send }: Producer, ...records: ReadonlyArray<ProducerRecord>) =>
  Effect.forkChild(send(records), { startImmediately: true })

const errorOf = (fiber: Fiber.Fiber<boolean, PublishError>): PublishError => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined || Exit.isSuccess(exit)) return assert.fail(`it did not fail: ${exit?._tag}`)
  return Cause.squash(exit.cause) as PublishError
}

const withProducer = <A, E>(
  options: MemoryKafkaOptions & ClientOptions & { readonly partitions?: number },
  f: (kafka: Cluster, producer: Producer) => Effect.Effect<A, E, Scope.Scope>
) => cluster(options, (kafka) => Effect.flatMap(kafka.client(options).openProducer, (producer) => f(kafka, producer)))

describe("a producer of the Kafka in memory", () => {
  it.effect("with nothing wrong needs no moving clock", () =>
    withProducer({ partitions: 3 }, (kafka, producer) =>
      Effect.gen(function* () {
        for (let i = 0; i < 9; i++) assert.isTrue(yield* producer.send([record(i)]))
        assert.deepStrictEqual(
          [0, 1, 2].map((partition) => values(kafka, partition)),
          [
            ["0", "3", "6"],
            ["1", "4", "7"],
            ["2", "5", "8"]
          ]
        )
      })
    )
  )

  const undisturbed: ReadonlyArray<readonly [Fault, within: number]> = [
    [{ kind: "answerLost" }, 200],
    [{ kind: "dropped" }, 200],
    [{ kind: "refused" }, 200],
    [{ kind: "servedLate", ms: 50 }, 200],
    [{ kind: "servedLate", ms: 5_000 }, 200],
    [{ kind: "noAnswer" }, 1_200],
    [{ kind: "slowRequest", ms: 500 }, 600],
    [{ kind: "slowRequest", ms: 3_000 }, 1_200],
    [{ kind: "slowAnswer", ms: 500 }, 600],
    [{ kind: "slowAnswer", ms: 3_000 }, 1_200],
    [{ kind: "code", code: "NOT_LEADER_OR_FOLLOWER" }, 200],
    [{ kind: "code", code: "NOT_ENOUGH_REPLICAS" }, 200],
    [{ kind: "code", code: "REQUEST_TIMED_OUT" }, 200],
    [{ kind: "code", code: "OUT_OF_ORDER_SEQUENCE_NUMBER" }, 200]
  ]

  it.effect.each(undisturbed)(
    "%j: the records are confirmed within %d ms, and stored once and in order",
    ([fault, within]) =>
      withProducer({ requestTimeout: 1_000 }, (kafka, producer) =>
        Effect.gen(function* () {
          yield* producer.send([record("a")])
          kafka.faults.next("produce", fault)
          const first = yield* start(producer, record("b"), record("c"))
          yield* turns
          const second = yield* start(producer, record("d"))
          yield* turns
          assert.isUndefined(first.pollUnsafe())
          yield* advance(within)
          assert.isTrue(yield* Fiber.join(first))
          assert.isTrue(yield* Fiber.join(second))
          yield* advance(6_000)
          assert.deepStrictEqual(values(kafka), ["a", "b", "c", "d"])
          assert.strictEqual(kafka.faults.counts().get(`produce:${fault.kind}`), 1)
        })
      )
  )

  it.effect("latency is that of each request", () =>
    withProducer({ produceLatency: 20 }, (_, producer) =>
      Effect.gen(function* () {
        const sending = yield* start(producer, record("a"))
        yield* advance(19, 1)
        assert.isUndefined(sending.pollUnsafe())
        yield* advance(1, 1)
        assert.isTrue(yield* Fiber.join(sending))
      })
    )
  )

  it.effect("an error of one partition is that of its records; the others of the send are stored", () =>
    withProducer({ partitions: 2 }, (kafka, producer) =>
      Effect.gen(function* () {
        const partitions = [{ topic: "t", partition: 1 }]
        kafka.faults.next("produce", { kind: "code", code: "TOPIC_AUTHORIZATION_FAILED", partitions })
        const error = yield* Effect.flip(producer.send([record("a", 0), record("b", 1), record("c", 0)]))
        assert.deepInclude(error, { reason: "refused", code: "TOPIC_AUTHORIZATION_FAILED", isRetryable: false })
        assert.deepStrictEqual(error.unconfirmed, [1])
        assert.deepStrictEqual(values(kafka, 0), ["a", "c"])
        assert.isTrue(yield* producer.send([record("d", 1)]))
        assert.deepStrictEqual(values(kafka, 1), ["d"])
      })
    )
  )

  it.effect("faults meet the producers of their target only", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const one = yield* kafka.client({ clientId: "one" }).openProducer
        const two = yield* kafka.client({ clientId: "two" }).openProducer
        kafka.faults.next("produce", { kind: "code", code: "INVALID_TOPIC_EXCEPTION" }, { clientId: "two" })
        assert.isTrue(yield* one.send([record("a")]))
        assert.strictEqual((yield* Effect.flip(two.send([record("b")]))).reason, "refused")
        assert.deepStrictEqual(
          kafka.faults.injected().map(({ clientId, kind }) => [clientId, kind]),
          [["two", "produce:code"]]
        )
      })
    )
  )

  it.effect("no topic, or no such partition: refused after 5 s, unless it comes", () =>
    withProducer({}, (kafka, producer) =>
      Effect.gen(function* () {
        const never = yield* start(producer, { ...record("a"), topic: "missing" }, record("b", 7), record("c", -1))
        const late = yield* start(producer, { ...record("a"), topic: "late" })
        yield* advance(4_000)
        yield* kafka.createTopic("late")
        assert.isUndefined(never.pollUnsafe())
        yield* advance(1_500)
        assert.isTrue(yield* Fiber.join(late))
        assert.deepInclude(errorOf(never), { reason: "refused", code: "UNKNOWN_TOPIC_OR_PARTITION" })
        assert.deepStrictEqual(errorOf(never).unconfirmed, [0, 1, 2])
      })
    )
  )

  it.effect("a record above the limit, or without a key in a compacted topic, is refused alone", () =>
    withProducer({ maxRecordBytes: 1_000 }, (kafka, producer) =>
      Effect.gen(function* () {
        const records = Array.from({ length: 20 }, (_, i) => record(i === 13 ? "x".repeat(1_000) : i))
        const large = yield* Effect.flip(producer.send(records))
        assert.deepInclude(large, { reason: "refused", code: "MESSAGE_TOO_LARGE" })
        assert.deepStrictEqual(large.unconfirmed, [13])
        assert.strictEqual(values(kafka).length, 19)
        yield* kafka.createTopic("compacted", { compaction: true })
        const keyless = yield* Effect.flip(
          producer.send(
            [0, 1, 2].map((i) => ({ ...record(i), topic: "compacted", key: i === 1 ? null : utf8.encode("k") }))
          )
        )
        assert.deepInclude(keyless, { reason: "refused", code: "INVALID_RECORD" })
        assert.deepStrictEqual(keyless.unconfirmed, [1])
      })
    )
  )

  it.effect(
    "a broker that is down is waited for until the delivery timeout; what is given up in doubt is not taken for the next",
    () =>
      withProducer({ deliveryTimeout: 10_000 }, (kafka, producer) =>
        Effect.gen(function* () {
          yield* producer.send([record("a")])
          yield* kafka.brokerDown
          const waits = yield* start(producer, record("b"))
          yield* advance(5_000)
          yield* kafka.brokerUp
          yield* advance(200)
          assert.isTrue(yield* Fiber.join(waits))
          // it has it, and nobody hears of it
          kafka.faults.next("produce", { kind: "answerLost" }, { times: 1_000 })
          const doubtful = yield* start(producer, record("c"))
          yield* advance(11_000)
          assert.deepInclude(errorOf(doubtful), { reason: "retriable", isRetryable: true })
          kafka.faults.clear()
          yield* producer.send([record("d")])
          assert.deepStrictEqual(values(kafka), ["a", "b", "c", "d"])
        })
      )
  )

  it.effect("the delivery timeout counts from the send, also of what waits behind something else", () =>
    withProducer({ deliveryTimeout: 10_000 }, (kafka, producer) =>
      Effect.gen(function* () {
        yield* producer.send([record("a")])
        yield* kafka.brokerDown
        const first = yield* start(producer, record("b"))
        yield* advance(6_000)
        const second = yield* start(producer, record("c"))
        yield* advance(5_000)
        assert.strictEqual(errorOf(first).reason, "retriable")
        yield* advance(4_000)
        assert.isUndefined(second.pollUnsafe())
        yield* advance(2_500)
        assert.strictEqual(errorOf(second).reason, "retriable")
      })
    )
  )

  it.effect("of what the broker has not stored for certain each record has its own time, and may be taken back", () =>
    withProducer({ deliveryTimeout: 10_000 }, (kafka, producer) =>
      Effect.gen(function* () {
        kafka.faults.next("produce", { kind: "code", code: "NOT_ENOUGH_REPLICAS" }, { times: 1_000 })
        const old = yield* start(producer, record("a"))
        const takenBack = yield* start(producer, record("b"))
        const stays = yield* start(producer, record("c"))
        yield* advance(1_000)
        yield* Fiber.interrupt(takenBack)
        yield* advance(8_000)
        const young = yield* start(producer, record("d"))
        yield* advance(2_000)
        assert.strictEqual(errorOf(old).reason, "retriable")
        assert.strictEqual(errorOf(stays).reason, "retriable")
        assert.isUndefined(young.pollUnsafe())
        kafka.faults.clear()
        yield* advance(500)
        assert.isTrue(yield* Fiber.join(young))
        kafka.faults.next("produce", { kind: "code", code: "NOT_ENOUGH_REPLICAS" }, { times: 3 })
        const [one, two] = [yield* start(producer, record("e")), yield* start(producer, record("f"))]
        yield* turns
        yield* Fiber.interrupt(one)
        yield* advance(2_000)
        assert.isTrue(yield* Fiber.join(two))
        assert.deepStrictEqual(values(kafka), ["d", "f"])
      })
    )
  )

  it.effect("a gap in the sequence after an answer was lost: unconfirmed, and not sent again", () =>
    withProducer({}, (kafka, producer) =>
      Effect.gen(function* () {
        yield* producer.send([record("a")])
        kafka.faults.next("produce", { kind: "dropped" })
        kafka.faults.next("produce", { kind: "code", code: "OUT_OF_ORDER_SEQUENCE_NUMBER" })
        const doubtful = yield* start(producer, record("b"))
        yield* advance(300)
        assert.deepInclude(errorOf(doubtful), { reason: "unconfirmed", code: "OUT_OF_ORDER_SEQUENCE_NUMBER" })
        assert.isTrue(yield* producer.send([record("c")]))
        assert.deepStrictEqual(values(kafka), ["a", "c"])
      })
    )
  )

  it.effect("an interrupted send takes back what is not under way", () =>
    withProducer({ produceLatency: 10 }, (kafka, producer) =>
      Effect.gen(function* () {
        const first = yield* start(producer, record("a"))
        yield* turns
        const second = yield* start(producer, record("b"))
        const third = yield* start(producer, record("c"))
        yield* turns
        yield* Fiber.interrupt(second)
        yield* advance(30, 5)
        assert.isTrue(yield* Fiber.join(first))
        assert.isTrue(yield* Fiber.join(third))
        assert.deepStrictEqual(values(kafka), ["a", "c"])
      })
    )
  )

  it.effect("closing waits some seconds for what is under way; the rest fails with closed", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const producer = yield* Scope.provide(kafka.client().openProducer, scope)
        yield* kafka.brokerDown
        const sending = yield* start(producer, record("a"), record("b"))
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* advance(4_000)
        assert.isUndefined(closing.pollUnsafe())
        assert.strictEqual((yield* Effect.flip(producer.send([record("late")]))).reason, "closed")
        yield* advance(1_100)
        yield* Fiber.join(closing)
        yield* turns
        assert.deepInclude(errorOf(sending), { reason: "closed", isRetryable: false })
        assert.deepStrictEqual(errorOf(sending).unconfirmed, [0, 1])
        yield* kafka.brokerUp
        yield* advance(1_000)
        assert.deepStrictEqual(values(kafka), [])
      })
    )
  )

  it.effect("by chance: what is confirmed is there once, what is not at most once, all in the order of sending", () =>
    Effect.gen(function* () {
      const met = new Set<string>()
      for (let seed = 1; seed <= 20; seed++) {
        const kinds: ReadonlyArray<FaultKind> = [
          "slowRequest",
          "slowAnswer",
          "refused",
          "dropped",
          "answerLost",
          "servedLate",
          "noAnswer",
          "code"
        ]
        yield* withProducer({ partitions: 2, requestTimeout: 500, deliveryTimeout: 3_000 }, (kafka, producer) =>
          Effect.gen(function* () {
            const stop = kafka.faults.random({
              source: seeded(seed),
              weights: { produce: Object.fromEntries(kinds.map((kind) => [kind, 0.1])) },
              codes: {
                produce: [
                  "NOT_ENOUGH_REPLICAS",
                  "REQUEST_TIMED_OUT",
                  "OUT_OF_ORDER_SEQUENCE_NUMBER",
                  "MESSAGE_TOO_LARGE"
                ]
              }
            })
            const sends: Array<readonly [value: string, Fiber.Fiber<boolean, PublishError>]> = []
            for (let i = 0; i < 60; i++) {
              const value = String(i).padStart(2, "0")
              sends.push([value, yield* start(producer, record(value, i % 2))])
              if (i % 3 === 0) yield* advance(100)
            }
            yield* advance(20_000, 100)
            stop()
            yield* advance(5_000, 500)
            for (const kind of kafka.faults.counts().keys()) met.add(kind)
            const confirmed = new Set<string>()
            for (const [value, fiber] of sends) {
              const exit = fiber.pollUnsafe()
              assert.isDefined(exit, `seed ${seed}: ${value} has an end`)
              if (Exit.isSuccess(exit!)) confirmed.add(value)
            }
            const all = [...values(kafka, 0), ...values(kafka, 1)]
            assert.strictEqual(new Set(all).size, all.length, `seed ${seed}: nothing twice`)
            for (const value of confirmed) assert.include(all, value, `seed ${seed}`)
            for (const partition of [0, 1]) {
              const stored = values(kafka, partition).filter((value) => confirmed.has(value))
              assert.deepStrictEqual(stored, stored.toSorted(), `seed ${seed}`)
            }
          })
        ).pipe(Effect.scoped)
      }
      assert.strictEqual([...met].filter((kind) => kind.startsWith("produce:")).length, 8)
    })
  )

  it.effect("the layer brings a producer with the client, each client its own", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t")
      yield* (yield* KafkaProducer).send([record("a")])
      const other = yield* Layer.build(MemoryKafka.layerClient({ clientId: "other" }))
      kafka.faults.next("produce", { kind: "code", code: "INVALID_TOPIC_EXCEPTION" }, { clientId: "other" })
      const send = Effect.flatMap(KafkaProducer, ({ send }) => send([record("b")]))
      assert.strictEqual((yield* Effect.flip(Effect.provide(send, other))).reason, "refused")
      assert.strictEqual((yield* Effect.provide(KafkaClient, other)).name, "memory")
      assert.deepStrictEqual(values(kafka), ["a"])
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})
