/** Suite: other programs in the group. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import kafkajs from "kafkajs"
import { inject } from "vitest"
import { type Client, instrumented, suiteOf } from "../client.ts"
import { join, settingsOf, unique, until } from "../members.ts"
import { alone, world } from "../operator.ts"

export const strangers = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "a group with others on a real broker", () => {
    layer(instrumented(client, brokers), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a plain kafkajs consumer shares the group: every partition has one owner", () =>
        Effect.gen(function* () {
          const { a, kafka, settings, topic } = yield* alone(brokers, 4)
          let theirs: ReadonlyArray<number> = []
          const consumer = yield* Effect.acquireRelease(
            Effect.sync(() =>
              kafka.kafka.consumer({
                groupId: settings.groupId,
                heartbeatInterval: 300,
                sessionTimeout: 10_000,
                // it ends with its fetch
                maxWaitTimeInMs: 100
              })
            ),
            (made) => Effect.promise(() => made.disconnect())
          )
          yield* kafka.promise(async () => {
            consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
              theirs = payload.memberAssignment[topic] ?? []
            })
            await consumer.connect()
            await consumer.subscribe({ topic, fromBeginning: true })
            await consumer.run({ autoCommit: false, eachMessage: async () => undefined })
          })
          yield* until("both have two", () => a.owned.length === 2 && theirs.length === 2)
          assert.deepStrictEqual(
            [...a.partitions(), ...theirs].sort((x, y) => x - y),
            [0, 1, 2, 3]
          )
          // the sticky assigner is not theirs: it is not used, and nothing is lost when they go
          yield* kafka.promise(() => consumer.disconnect())
          yield* until("a has all again", () => a.owned.length === 4)
          assert.strictEqual(a.of("Lost").length, 0)
        })
      )

      it.effect("a group with another assigner is waited for, and the signal names group and assigners", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const settings = settingsOf(unique("group"), [topic])
          const consumer = kafka.kafka.consumer({
            groupId: settings.groupId,
            maxWaitTimeInMs: 100,
            partitionAssigners: [
              (config) => ({ ...kafkajs.PartitionAssigners.roundRobin(config), name: "somebody-elses" })
            ]
          })
          let joined = false
          yield* kafka.promise(async () => {
            consumer.on(consumer.events.GROUP_JOIN, () => {
              joined = true
            })
            await consumer.connect()
            await consumer.subscribe({ topic })
            await consumer.run({ eachMessage: async () => undefined })
          })
          yield* until("they have joined", () => joined)
          const a = yield* join(settings)
          yield* until("it is told", () => a.of("Connection").length > 0)
          const [down] = a.of("Connection")
          const cause = Option.getOrThrow(down!.cause)
          assert.deepInclude(cause, { reason: "ProtocolMismatch" })
          for (const name of [settings.groupId, "concurrent-kafka-sticky", "RoundRobinAssigner"])
            assert.include(cause.detail, name)
          yield* kafka.promise(() => consumer.disconnect())
          yield* until("a has all", () => a.owned.length === 2)
          assert.strictEqual(a.of("Connection").at(-1)!.state, "up")
          assert.isUndefined(a.ended)
        })
      )
    })
  })
}
