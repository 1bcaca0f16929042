/**
 * Suite: commits by topic id. Kafka 4.1 has them as a version that is not stable yet, which a broker offers when it is told to; with others
 * a commit names its topic, and is taken for whatever has that name then.
 */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Kafka from "../../../../test/kafka/kafka.ts"
import { besideOf, type Client, instrumented, protocolsOf } from "../client.ts"
import { controlOf } from "../instrumented.ts"
import { join, settingsOf, unique, until } from "../members.ts"
import { createTopic, untilEmpty, world } from "../operator.ts"

class Own extends Context.Service<Own, Kafka.Kafka>()("test/topicIds/Own") {
  static readonly layer = Layer.effect(
    Own,
    Kafka.start({ own: true, properties: { "unstable.api.versions.enable": "true" } })
  )
}

export const topicIds = (client: Client): void => {
  besideOf(client, "a Kafka that takes commits by topic id", () => {
    layer(Own.layer, { excludeTestServices: true, timeout: 90_000 })((it) => {
      it.effect.each(protocolsOf(client))(
        "a commit that comes behind the end of its topic is not taken for the next one of its name (%s protocol)",
        (groupProtocol) =>
          Effect.gen(function* () {
            const { brokers } = yield* Own
            yield* Effect.gen(function* () {
              const kafka = yield* world(brokers)
              const topic = yield* kafka.topic(2)
              const settings = settingsOf(unique("group"), [topic], { groupProtocol, metadataMaxAge: 60_000 })
              const a = yield* join(settings)
              yield* until("assigned", () => a.owned.length === 2)
              assert.deepInclude(yield* a.commit(0, 4n, "of the old topic"), { outcome: "committed" })
              assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 0 }), {
                offset: "4",
                metadata: "of the old topic"
              })
              // no fetch tells that it has gone, and no heartbeat that was sent behind that
              a.session.pauseUnsafe(a.owned)
              yield* Effect.sleep(2 * settings.maxWait)
              const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
              yield* Effect.addFinalizer(() => Effect.sync(answer))
              const control = controlOf(a.session)
              if (groupProtocol === "consumer") {
                const beats = control.beats.length
                control.beatGate = answered
                yield* until("a heartbeat is under way", () => control.beats.length > beats)
              }
              yield* kafka.promise(async () => {
                await kafka.admin.deleteTopics({ topics: [topic] })
                await createTopic(kafka.admin, topic, 2)
                await untilEmpty(kafka.admin, topic)
              })
              assert.strictEqual(a.of("Gone").length, 0)
              const committing = a.commit(0, 5000n, "of the old topic")
              answer()
              assert.deepInclude(yield* committing, { outcome: "rejected", code: "UNKNOWN_TOPIC_OR_PARTITION" })
              yield* until("it is gone", () => a.of("Gone").length === 2)
              yield* a.session.leave
              const next = yield* join(settings)
              yield* until("the next owner has the new one", () => next.owned.length === 2)
              for (const owned of next.owned) assert.isUndefined(owned.committed)
              assert.deepInclude(yield* next.commit(0, 1n, "of the new topic"), { outcome: "committed" })
              yield* next.session.leave
              const third = yield* join(settings)
              yield* until("and so has who comes after it", () => third.owned.length === 2)
              const { committed } = third.owned.find(({ partition }) => partition === 0)!
              assert.deepStrictEqual(committed, { offset: 1n, metadata: "of the new topic" })
            }).pipe(Effect.provide(instrumented(client, brokers)))
          })
      )

      it.effect("what is committed for a topic that was created again is told to who knew the one before", () =>
        Effect.gen(function* () {
          const { brokers } = yield* Own
          yield* Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(1)
            const admin = yield* (yield* KafkaClient).openAdmin
            const partitions = yield* admin.partitions([topic])
            yield* kafka.promise(async () => {
              await kafka.admin.deleteTopics({ topics: [topic] })
              await createTopic(kafka.admin, topic, 1)
              await untilEmpty(kafka.admin, topic)
            })
            const settings = settingsOf(unique("group"), [topic])
            const member = yield* join(settings)
            yield* until("assigned", () => member.owned.length === 1)
            assert.deepInclude(yield* member.commit(0, 3n, "of the new topic"), { outcome: "committed" })
            assert.deepStrictEqual(yield* admin.committed(settings.groupId, partitions), [
              { topic, partition: 0, offset: 3n, metadata: "of the new topic" }
            ])
          }).pipe(Effect.provide(instrumented(client, brokers)))
        })
      )
    })
  })
}
