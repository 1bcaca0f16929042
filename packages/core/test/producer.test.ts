import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { murmur2 } from "../src/internal/murmur2.ts"
import { KafkaClient, KafkaClientError } from "../src/KafkaClient.ts"
import {
  KafkaProducer,
  partitionOfKey,
  type Producer,
  type ProducerRecord,
  PublishedRecords,
  PublishError
} from "../src/KafkaProducer.ts"
import { Topic } from "../src/Topic.ts"

const utf8 = new TextEncoder()
const record: ProducerRecord = { topic: "t", value: utf8.encode("v") }
const unused = Effect.die(new Error("not asked for here"))

/** a client that is asked for nothing but producers */
const clientOf = (openProducer: KafkaClient["Service"]["openProducer"]) =>
  Layer.succeed(KafkaClient, {
    name: "fake",
    enabled: true,
    openSession: () => unused,
    openAdmin: unused,
    openProducer
  })

const build = (openProducer: KafkaClient["Service"]["openProducer"]) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* Layer.buildWithScope(Layer.provide(KafkaProducer.layer, clientOf(openProducer)), scope)
    const producer = yield* Effect.provide(Effect.service(KafkaProducer), context)
    return { producer, close: Scope.close(scope, Exit.void) }
  })

const stored: Producer = { send: () => Effect.succeed(true) }

describe("KafkaProducer", () => {
  it.effect("opens nothing before the first send, and one producer for all who send", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const { close, producer } = yield* build(
        Effect.acquireRelease(
          Effect.andThen(
            Effect.sync(() => log.push("open")),
            Effect.as(Deferred.await(gate), stored)
          ),
          () => Effect.sync(() => log.push("close"))
        )
      )
      assert.deepStrictEqual(log, [])
      const sends = yield* Effect.forkChild(
        Effect.forEach([1, 2, 3], () => producer.send([record]), { concurrency: "unbounded" })
      )
      yield* Effect.yieldNow
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(sends), [true, true, true])
      assert.isTrue(yield* producer.send([record]))
      assert.deepStrictEqual(log, ["open"])
      yield* close
      assert.deepStrictEqual(log, ["open", "close"])
      const error = yield* Effect.flip(producer.send([record]))
      assert.strictEqual(error.reason, "closed")
    })
  )

  it.effect("what is sent while it opens keeps its order, also against what comes just after", () =>
    Effect.gen(function* () {
      const sent: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const text = new TextDecoder()
      const { producer } = yield* build(
        Effect.as(Deferred.await(gate), {
          send: (records) =>
            Effect.sync(() => {
              for (const { value } of records) sent.push(text.decode(value!))
              return true
            })
        })
      )
      const start = (i: number) =>
        Effect.forkChild(producer.send([{ topic: "t", value: utf8.encode(String(i)) }]), { startImmediately: true })
      const before = yield* Effect.forEach([0, 1, 2, 3, 4], start)
      yield* Deferred.succeed(gate, undefined)
      const after: Array<Fiber.Fiber<boolean, PublishError>> = []
      for (let i = 5; i < 15; i++) {
        after.push(yield* start(i))
        yield* Effect.yieldNow
      }
      for (const fiber of [...before, ...after]) yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        sent,
        Array.from({ length: 15 }, (_, i) => String(i))
      )
    })
  )

  it.effect(
    "a first sender that is interrupted while it opens leaves the next one to open, and nothing open behind",
    () =>
      Effect.gen(function* () {
        let opened = 0
        let released = 0
        const { producer } = yield* build(
          Effect.gen(function* () {
            opened++
            yield* Effect.addFinalizer(() => Effect.sync(() => released++))
            return opened === 1 ? yield* Effect.never : stored
          })
        )
        const first = yield* Effect.forkChild(producer.send([record]), { startImmediately: true })
        const second = yield* Effect.forkChild(producer.send([record]), { startImmediately: true })
        yield* Fiber.interrupt(first)
        assert.isTrue(yield* Fiber.join(second))
        assert.deepStrictEqual([opened, released], [2, 1])
      })
  )

  it.effect(
    "a producer that cannot be opened fails the send by what the client says, and the next send tries again",
    () =>
      Effect.gen(function* () {
        const answers: Array<Effect.Effect<Producer, KafkaClientError>> = [
          Effect.fail(new KafkaClientError({ reason: "Connection", detail: "down" })),
          Effect.fail(new KafkaClientError({ reason: "Authentication", detail: "no" })),
          Effect.fail(new KafkaClientError({ reason: "Closed", detail: "over" })),
          Effect.succeed(stored)
        ]
        const { producer } = yield* build(Effect.suspend(() => answers.shift()!))
        const seen: Array<readonly [string, string, boolean]> = []
        for (let i = 0; i < 3; i++) {
          const error = yield* Effect.flip(producer.send([record]))
          seen.push([error.reason, error.code, error.isRetryable])
        }
        assert.deepStrictEqual(seen, [
          ["retriable", "Connection", true],
          ["refused", "Authentication", false],
          ["closed", "Closed", false]
        ])
        assert.isTrue(yield* producer.send([record]))
      })
  )

  it.effect("closed before anybody has sent: nothing is opened any more", () =>
    Effect.gen(function* () {
      const { close, producer } = yield* build(Effect.die(new Error("opened")))
      yield* close
      assert.strictEqual((yield* Effect.flip(producer.send([record]))).reason, "closed")
    })
  )

  it.effect("the test layer keeps what was sent, in its order", () =>
    Effect.gen(function* () {
      const producer = yield* KafkaProducer
      const second = { ...record, topic: "u", headers: [["h", null]] as const }
      assert.isTrue(yield* producer.send([record]))
      assert.isTrue(yield* producer.send([second]))
      assert.deepStrictEqual(yield* (yield* PublishedRecords).all, [record, second])
    }).pipe(Effect.provide(KafkaProducer.layerTest))
  )
})

describe("publish", () => {
  const Orders = Topic.make("orders", {
    key: Schema.String,
    value: Topic.json(Schema.Struct({ amount: Schema.Int })),
    headers: Schema.Struct({ tenant: Schema.String })
  })

  it.effect("sends one record as the topic's schemas write it", () =>
    Effect.gen(function* () {
      const producer = yield* KafkaProducer
      assert.isTrue(yield* producer.publish(Orders, { amount: 2 }, { key: "k", headers: { tenant: "a" } }))
      assert.deepStrictEqual(yield* (yield* PublishedRecords).all, [
        {
          topic: "orders",
          key: utf8.encode("k"),
          value: utf8.encode('{"amount":2}'),
          headers: [["tenant", utf8.encode("a")]]
        }
      ])
    }).pipe(Effect.provide(KafkaProducer.layerTest))
  )

  it.effect("what the schemas do not accept fails with EncodeError, and nothing is sent", () =>
    Effect.gen(function* () {
      const producer = yield* KafkaProducer
      const error = yield* Effect.flip(
        producer.publish(Orders, { amount: 0.5 }, { key: "k", headers: { tenant: "a" } })
      )
      assert.strictEqual(error._tag, "EncodeError")
      assert.deepStrictEqual(yield* (yield* PublishedRecords).all, [])
    }).pipe(Effect.provide(KafkaProducer.layerTest))
  )

  it.effect("fails as the send does", () =>
    Effect.gen(function* () {
      const refusal = new PublishError({ reason: "refused", code: "MESSAGE_TOO_LARGE", detail: "send" })
      const producer = KafkaProducer.fromProducer({ send: () => Effect.fail(refusal) })
      const sent = producer.publish(Orders, { amount: 2 }, { key: "k", headers: { tenant: "a" } })
      assert.strictEqual(yield* Effect.flip(sent), refusal)
    })
  )
})

describe("PublishError", () => {
  it("of several records is the worst of theirs, and names all of them", () => {
    const of = (index: number, reason: PublishError["reason"], code: string) => ({
      index,
      error: new PublishError({ reason, code, detail: `send ${index}` })
    })
    const combined = PublishError.combine([
      of(4, "retriable", "REQUEST_TIMED_OUT"),
      of(1, "refused", "MESSAGE_TOO_LARGE"),
      of(2, "unconfirmed", "NO_ANSWER")
    ])
    assert.deepInclude(combined, { reason: "refused", code: "MESSAGE_TOO_LARGE", detail: "send 1" })
    assert.deepStrictEqual(combined.unconfirmed, [1, 2, 4])
    assert.isFalse(combined.isRetryable)
    const mild = PublishError.combine([of(0, "retriable", "A"), of(1, "unconfirmed", "B"), of(2, "retriable", "C")])
    assert.deepInclude(mild, { reason: "unconfirmed", code: "B", isRetryable: true })
  })
})

describe("partitions of keys", () => {
  it("are those of Java's producer", () => {
    // Kafka's own UtilsTest.testMurmur2
    const golden: ReadonlyArray<[string, number]> = [
      ["21", -973932308],
      ["foobar", -790332482],
      ["a-little-bit-long-string", -985981536],
      ["a-little-bit-longer-string", -1486304829],
      ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
      ["abc", 479470107]
    ]
    for (const [text, hash] of golden) assert.strictEqual(murmur2(utf8.encode(text)), hash, text)
    // (-973932308 & 0x7fffffff) % 7
    assert.strictEqual(partitionOfKey(utf8.encode("21"), 7), 1173551340 % 7)
    assert.strictEqual(partitionOfKey(utf8.encode("abc"), 3), 479470107 % 3)
  })
})
