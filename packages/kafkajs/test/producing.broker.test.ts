import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, type ProducerRecord, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { inject } from "vitest"
import * as Kafka from "../../../test/kafka/kafka.ts"
import { checkOptions, makeProducer, producerSettings } from "@concurrent-kafka/driver/Driver"
import { openClient } from "../src/internal/client.ts"
import { KafkaJs } from "../src/index.ts"
import { join, settingsOf, unique, until, world } from "./support.ts"

const utf8 = new TextEncoder()
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

/** The values of each partition as a session reads them. */
const logOf = (topic: string, partitions: number, count: number) =>
  Effect.gen(function* () {
    const member = yield* join(settingsOf(unique("reader"), [topic]))
    yield* until(`${count} records`, () => member.records.length >= count, 30_000)
    // whatever is there twice would come now
    yield* Effect.sleep(500)
    return numbers(partitions).map((partition) =>
      member.records.filter((record) => record.partition === partition).map(({ value }) => String(Buffer.from(value!)))
    )
  })

const end = (broker: Effect.Success<ReturnType<typeof world>>, topic: string) =>
  broker.promise(async () => {
    const offsets = await broker.admin.fetchTopicOffsets(topic)
    return offsets.reduce((sum, { high }) => sum + Number(high), 0)
  })

describe.skipIf(!inject("own"))("a producer and brokers that fail", () => {
  it.live(
    "SIGKILL of one of three brokers and its return under constant sends: everything is confirmed, and in the log once and in order",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true, nodes: 3 })
        yield* Effect.gen(function* () {
          const broker = yield* world(kafka.brokers)
          const topic = yield* broker.topic(6, { "min.insync.replicas": "2" })
          const strict = yield* broker.topic(1, { "min.insync.replicas": "3" })
          const { send } = yield* KafkaProducer
          let confirmed = 0
          let stop = false
          // several sends of each partition are always under way
          const writers = yield* Effect.forEach(numbers(6), (partition) =>
            Effect.forkChild(
              Effect.gen(function* () {
                let next = 0
                yield* Effect.forEach(
                  numbers(20),
                  () =>
                    Effect.gen(function* () {
                      while (!stop) {
                        const records = numbers(1 + (next % 3)).map((): ProducerRecord => ({
                          topic,
                          partition,
                          value: utf8.encode(`${next++}`)
                        }))
                        yield* send(records)
                        confirmed += records.length
                        yield* Effect.sleep(2)
                      }
                    }),
                  { concurrency: "unbounded" }
                )
                return next
              })
            )
          )
          const more = (count: number) => {
            const before = confirmed
            return until(`${count} more records are confirmed`, () => confirmed >= before + count, 60_000)
          }
          yield* more(3000)
          yield* kafka.kill(1)
          yield* more(3000)
          // fewer replicas than this topic wants: they wait
          const waiting = yield* Effect.forkChild(
            Effect.forEach(numbers(20), (i) => send([{ topic: strict, value: utf8.encode(`${i}`) }]), {
              concurrency: "unbounded"
            })
          )
          yield* more(3000)
          assert.isUndefined(waiting.pollUnsafe())
          yield* kafka.restart(1)
          yield* more(3000)
          yield* Fiber.join(waiting)
          stop = true
          const counts = yield* Effect.forEach(writers, Fiber.join)
          const logs = yield* logOf(topic, 6, confirmed)
          logs.forEach((log, partition) => {
            assert.deepStrictEqual(
              log,
              numbers(counts[partition]!).map(String),
              `partition ${partition} of ${counts[partition]} records`
            )
          })
          assert.deepStrictEqual(yield* logOf(strict, 1, 20), [numbers(20).map(String)])
        }).pipe(Effect.provide(KafkaJs.layer({ brokers: kafka.brokers })))
      }).pipe(Effect.scoped),
    180_000
  )

  it.live(
    "answers that never arrive: what the broker has already is stored once, the rest is sent again, all in order",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true, proxy: true })
        const proxy = kafka.nodes[0]!.proxy!
        const broker = yield* world(kafka.brokers)
        const topic = yield* broker.topic(2)
        const open = openClient(checkOptions({ brokers: kafka.proxied }), yield* Effect.context<never>())
        const settings = { ...producerSettings(60_000), requestTimeout: 2000 }
        const { send } = yield* makeProducer(() => open(2000, 0), settings)
        const value = (i: number): ProducerRecord => ({ topic, partition: i % 2, value: utf8.encode(`${i}`) })
        const sendAll = (from: number, to: number) =>
          Effect.forkChild(
            Effect.forEach(numbers(to - from), (i) => send([value(from + i)]), { concurrency: "unbounded" }),
            { startImmediately: true }
          )
        const stored = (count: number) =>
          Effect.gen(function* () {
            while ((yield* end(broker, topic)) < count) yield* Effect.sleep(10)
          })
        yield* Effect.flatMap(sendAll(0, 10), Fiber.join)
        // the connection is reset while the answer is on its way
        yield* proxy.blackhole("answers")
        const cut = yield* sendAll(10, 60)
        yield* stored(60)
        assert.isUndefined(cut.pollUnsafe())
        yield* proxy.cut
        yield* proxy.heal
        yield* Fiber.join(cut)
        // nothing is reset: the request times out
        yield* proxy.blackhole("answers")
        const silent = yield* sendAll(60, 120)
        yield* stored(120)
        yield* Effect.sleep(3500)
        assert.isUndefined(silent.pollUnsafe())
        yield* proxy.heal
        yield* Fiber.join(silent)
        // requests do not arrive
        yield* proxy.refuse
        const refused = yield* sendAll(120, 160)
        yield* Effect.sleep(500)
        yield* proxy.heal
        yield* Fiber.join(refused)
        yield* Effect.flatMap(sendAll(160, 200), Fiber.join)
        const logs = yield* Effect.provide(logOf(topic, 2, 200), KafkaJs.layer({ brokers: kafka.brokers }))
        assert.deepStrictEqual(logs, [numbers(100).map((i) => `${i * 2}`), numbers(100).map((i) => `${i * 2 + 1}`)])
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "a broker that stays away: a send fails with retriable after the delivery timeout, and nothing is left of the next when it closes",
    () =>
      Effect.gen(function* () {
        const kafka = yield* Kafka.start({ own: true })
        const broker = yield* world(kafka.brokers)
        const topic = yield* broker.topic(1)
        const producing = Effect.gen(function* () {
          const { send } = yield* KafkaProducer
          assert.isTrue(yield* send([{ topic, value: utf8.encode("before") }]))
          yield* kafka.kill(0)
          const began = performance.now()
          const error: PublishError = yield* Effect.flip(send([{ topic, value: utf8.encode("never") }]))
          assert.deepInclude(error, { reason: "retriable", isRetryable: true })
          const waited = performance.now() - began
          assert.isTrue(waited >= 2000 && waited < 8000, `${waited} ms`)
          return yield* Effect.forkDetach(Effect.flip(send([{ topic, value: utf8.encode("under way") }])), {
            startImmediately: true
          })
        })
        const left = yield* Effect.provide(
          producing,
          KafkaJs.layer({ brokers: kafka.brokers, deliveryTimeout: "2 seconds" })
        )
        const error = yield* Fiber.join(left)
        assert.include(["closed", "retriable"], error.reason)
        yield* kafka.restart(0)
        const logs = yield* Effect.provide(logOf(topic, 1, 1), KafkaJs.layer({ brokers: kafka.brokers }))
        assert.deepStrictEqual(logs, [["before"]])
      }).pipe(Effect.scoped),
    90_000
  )
})

describe("what a producer sends", () => {
  const brokers = inject("brokers")
  const layer = KafkaJs.layer({ brokers })

  it.live("is read by plain kafkajs as it was sent, batch after batch", () =>
    Effect.gen(function* () {
      const broker = yield* world(brokers)
      const topic = yield* broker.topic(1)
      const { send } = yield* KafkaProducer
      const record = (i: number): ProducerRecord => ({
        topic,
        key: i % 3 === 0 ? null : utf8.encode(`k${i}`),
        value: i % 5 === 0 ? null : utf8.encode(`v${i}`),
        headers: [
          ["a", utf8.encode(`${i}`)],
          ["b", null],
          ["a", utf8.encode("again")]
        ],
        timestamp: 1_600_000_000_000n + BigInt(i)
      })
      yield* Effect.forEach(numbers(1000), (i) => send([record(i)]), { concurrency: 100 })
      const read: Array<unknown> = []
      yield* Effect.promise(async () => {
        const consumer = broker.kafka.consumer({ groupId: unique("plain"), maxWaitTimeInMs: 100 })
        await consumer.connect()
        await consumer.subscribe({ topic, fromBeginning: true })
        const { promise, resolve } = Promise.withResolvers<void>()
        await consumer.run({
          autoCommit: false,
          eachMessage: async ({ message: { headers, key, timestamp, value } }) => {
            read.push({
              key: key?.toString() ?? null,
              value: value?.toString() ?? null,
              timestamp,
              a: String(headers!["a"]),
              b: headers!["b"]
            })
            if (read.length === 1000) resolve()
          }
        })
        await promise
        await consumer.disconnect()
      })
      assert.deepStrictEqual(
        read,
        numbers(1000).map((i) => ({
          key: i % 3 === 0 ? null : `k${i}`,
          value: i % 5 === 0 ? null : `v${i}`,
          timestamp: `${1_600_000_000_000 + i}`,
          a: `${i},again`,
          b: null
        }))
      )
    }).pipe(Effect.provide(layer), Effect.scoped)
  )

  it.live("is split where a topic takes less in a batch than it was, and stored in order", () =>
    Effect.gen(function* () {
      const broker = yield* world(brokers)
      const topic = yield* broker.topic(1, { "max.message.bytes": "2000" })
      const { send } = yield* KafkaProducer
      const large = (i: number) => utf8.encode(`${i}${" ".repeat(i === 700 ? 3000 : 50)}`)
      const errors = yield* Effect.forEach(
        numbers(1000),
        (i) =>
          Effect.map(Effect.result(send([{ topic, value: large(i) }])), (result) =>
            result._tag === "Failure" ? [`${i} ${result.failure.code}`] : []
          ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(errors.flat(), ["700 MESSAGE_TOO_LARGE"])
      const [log] = yield* logOf(topic, 1, 999)
      assert.deepStrictEqual(
        log!.map((value) => Number(value)),
        numbers(1000).filter((i) => i !== 700)
      )
    }).pipe(Effect.provide(layer), Effect.scoped)
  )

  it.live("is refused alone where it breaks a rule of its topic: no key in a compacted one", () =>
    Effect.gen(function* () {
      const broker = yield* world(brokers)
      const topic = yield* broker.topic(1, { "cleanup.policy": "compact" })
      const { send } = yield* KafkaProducer
      const errors = yield* Effect.forEach(
        numbers(20),
        (i) => {
          const key = i === 7 ? null : utf8.encode(`${i}`)
          return Effect.map(Effect.result(send([{ topic, key, value: utf8.encode(`${i}`) }])), (result) =>
            result._tag === "Failure" ? [`${i} ${result.failure.reason} ${result.failure.code}`] : []
          )
        },
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(errors.flat(), ["7 refused INVALID_RECORD"])
      const [log] = yield* logOf(topic, 1, 19)
      assert.strictEqual(log!.length, 19)
    }).pipe(Effect.provide(layer), Effect.scoped)
  )

  it.live("goes to a topic that was deleted and created again while it was known", () =>
    Effect.gen(function* () {
      const broker = yield* world(brokers)
      const topic = yield* broker.topic(2)
      const client = yield* KafkaClient
      const { send } = yield* client.openProducer
      const all = (round: string) =>
        Effect.forEach(numbers(50), (i) => send([{ topic, partition: i % 2, value: utf8.encode(`${round}${i}`) }]), {
          concurrency: "unbounded"
        })
      yield* all("a")
      yield* broker.promise(async () => {
        await broker.admin.deleteTopics({ topics: [topic] })
        for (;;) {
          try {
            await broker.admin.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true })
            return
          } catch {
            // still on its way out
          }
        }
      })
      yield* all("b")
      const logs = yield* logOf(topic, 2, 50)
      assert.deepStrictEqual(logs, [numbers(25).map((i) => `b${i * 2}`), numbers(25).map((i) => `b${i * 2 + 1}`)])
    }).pipe(Effect.provide(layer), Effect.scoped)
  )
})
