/** Suite: what a producer sends is in the log of a real broker, as it was sent. */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, type ProducerRecord } from "@concurrent-kafka/core/KafkaProducer"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import { type Client, suiteOf } from "../client.ts"
import { logOf } from "../logs.ts"
import { range, unique } from "../members.ts"
import { createTopic, untilEmpty, world } from "../operator.ts"

const utf8 = new TextEncoder()

export const producing = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "what a producer sends", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("is read by plain kafkajs as it was sent, batch after batch", () =>
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
          yield* Effect.forEach(range(1000), (i) => send([record(i)]), { concurrency: 100 })
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
            range(1000).map((i) => ({
              key: i % 3 === 0 ? null : `k${i}`,
              value: i % 5 === 0 ? null : `v${i}`,
              timestamp: `${1_600_000_000_000 + i}`,
              a: `${i},again`,
              b: null
            }))
          )
        })
      )

      it.effect("is split where a topic takes less in a batch than it was, and stored in order", () =>
        Effect.gen(function* () {
          const broker = yield* world(brokers)
          const topic = yield* broker.topic(1, { "max.message.bytes": "2000" })
          const { send } = yield* KafkaProducer
          const large = (i: number) => utf8.encode(`${i}${" ".repeat(i === 700 ? 3000 : 50)}`)
          const errors = yield* Effect.forEach(
            range(1000),
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
            range(1000).filter((i) => i !== 700)
          )
        })
      )

      it.effect("is refused alone where it breaks a rule of its topic: no key in a compacted one", () =>
        Effect.gen(function* () {
          const broker = yield* world(brokers)
          const topic = yield* broker.topic(1, { "cleanup.policy": "compact" })
          const { send } = yield* KafkaProducer
          const errors = yield* Effect.forEach(
            range(20),
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
        })
      )

      it.effect("goes to a topic that was deleted and created again while it was known", () =>
        Effect.gen(function* () {
          const broker = yield* world(brokers)
          const topic = yield* broker.topic(2)
          const client = yield* KafkaClient
          const { send } = yield* client.openProducer
          const all = (round: string) =>
            Effect.forEach(range(50), (i) => send([{ topic, partition: i % 2, value: utf8.encode(`${round}${i}`) }]), {
              concurrency: "unbounded"
            })
          yield* all("a")
          yield* broker.promise(async () => {
            await broker.admin.deleteTopics({ topics: [topic] })
            await createTopic(broker.admin, topic, 2)
            await untilEmpty(broker.admin, topic)
          })
          yield* all("b")
          const logs = yield* logOf(topic, 2, 50)
          assert.deepStrictEqual(logs, [range(25).map((i) => `b${i * 2}`), range(25).map((i) => `b${i * 2 + 1}`)])
        })
      )
    })
  })
}
