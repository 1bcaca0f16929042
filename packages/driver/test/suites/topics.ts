/** Suite: topics of a real broker that go, come back as others, or grow. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { inject } from "vitest"
import { type Client, suiteOf } from "../client.ts"
import { join, settingsOf, unique, until } from "../members.ts"
import { alone, createTopic, untilEmpty, world } from "../operator.ts"

export const topics = (client: Client): void => {
  const brokers = inject("brokers")

  suiteOf(client, "topics of a real broker", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect(
        "deleted: gone after a second or two, its epoch commits nothing, and the other topic goes on undisturbed",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const [doomed, stays] = [yield* kafka.topic(2), yield* kafka.topic(1)]
            const a = yield* join(settingsOf(unique("group"), [doomed, stays]))
            yield* until("assigned", () => a.owned.length === 3)
            const epochs = a.owned.filter(({ topic }) => topic === doomed)
            const began = performance.now()
            yield* kafka.promise(() => kafka.admin.deleteTopics({ topics: [doomed] }))
            yield* until("gone", () => a.of("Gone").length === 2)
            assert.isBelow(performance.now() - began, 6000)
            for (const gone of a.of("Gone")) assert.deepInclude(gone, { topic: doomed, why: "deleted" })
            for (const { epoch, partition } of epochs) {
              const [outcome] = yield* a.session.commit([{ topic: doomed, partition, epoch, offset: 1n, metadata: "" }])
              assert.deepInclude(outcome!, { outcome: "stale", code: "EPOCH" })
            }
            yield* kafka.send(stays, 0, ["a", "b"])
            yield* until("the other topic's records", () => a.records.length === 2)
            yield* until("only the other topic is held", () => a.owned.length === 1)
            assert.isTrue(a.owned[0]!.retained)
            const down = a.of("Connection").at(-1)!
            assert.strictEqual(Option.getOrThrow(down.cause).reason, "TopicMissing")
            yield* kafka.promise(() => createTopic(kafka.admin, doomed, 1))
            yield* until("it is back", () => a.owned.length === 2)
            assert.strictEqual(a.of("Connection").at(-1)!.state, "up")
            yield* until("it can commit", () => a.session.generationUnsafe() >= 0)
            const other = a.owned.find(({ topic }) => topic === stays)!
            const [outcome] = yield* a.session.commit([{ ...other, offset: 2n, metadata: "" }])
            assert.include(["committed", "deferred"], outcome!.outcome)
            assert.isUndefined(a.ended)
          })
      )

      it.effect(
        "deleted: when a commit of one partition is refused for it, nothing is sent for the others any more",
        () =>
          Effect.gen(function* () {
            const { a, kafka, topic } = yield* alone(brokers, 3)
            yield* kafka.promise(() => kafka.admin.deleteTopics({ topics: [topic] }))
            let refused = yield* a.commit(0, 1n)
            while (refused.outcome === "committed" || refused.outcome === "deferred") refused = yield* a.commit(0, 1n)
            // where a fetch has met it first, nothing is committed any more, until it is known to be gone
            assert.oneOf(refused.outcome, ["rejected", "stale"])
            // the topic may be there again before the metadata tell: a commit names it, and the broker would take it for the new one
            for (const partition of [1, 2]) {
              assert.deepInclude(yield* a.commit(partition, 5000n), { outcome: "stale", code: "EPOCH" })
            }
            yield* until("gone", () => a.of("Gone").length === 3)
          })
      )

      it.effect(
        "deleted and created again with more records than before: told apart by its id, and read from its beginning",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(1)
            yield* kafka.send(topic, 0, ["old 0", "old 1"])
            // what was not known is looked for by itself, not when metadata are old
            const settings = settingsOf(unique("group"), [topic], { metadataMaxAge: 60_000 })
            const a = yield* join(settings)
            yield* until("the records", () => a.records.length === 2)
            yield* a.commit(0, 2n)
            const { epoch } = a.partition(0)
            yield* kafka.promise(async () => {
              await kafka.admin.deleteTopics({ topics: [topic] })
              await createTopic(kafka.admin, topic, 1)
            })
            const fresh = yield* world(brokers)
            yield* fresh.promise(() => untilEmpty(fresh.admin, topic))
            // the old position is inside of the new log
            yield* fresh.send(topic, 0, ["new 0", "new 1", "new 2", "new 3", "new 4"])
            yield* until("the new records", () => a.values().includes("new 4"))
            assert.deepStrictEqual(a.values().slice(-5), ["new 0", "new 1", "new 2", "new 3", "new 4"])
            assert.isTrue(a.records.slice(-5).every((record) => record.epoch > epoch))
            assert.isAbove(a.partition(0).epoch, epoch)
            assert.isTrue(a.of("Gone").every(({ why }) => why === "recreated" || why === "deleted"))
            assert.isFalse(a.owned[0]!.retained)
            assert.isUndefined(a.owned[0]!.committed)
          })
      )

      it.effect("partitions that are added are noticed within metadataMaxAge by two members", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          const settings = settingsOf(unique("group"), [topic], { metadataMaxAge: 1000 })
          const [a, b] = [yield* join(settings), yield* join(settings)]
          yield* until("both have one", () => a.owned.length === 1 && b.owned.length === 1)
          const kept = [...a.owned, ...b.owned].map(({ epoch }) => epoch)
          const began = performance.now()
          yield* kafka.promise(() => kafka.admin.createPartitions({ topicPartitions: [{ topic, count: 6 }] }))
          yield* until("all are assigned", () => a.owned.length === 3 && b.owned.length === 3)
          assert.isBelow(performance.now() - began, 4000)
          const retained = [...a.owned, ...b.owned].filter((owned) => owned.retained).map(({ epoch }) => epoch)
          assert.deepStrictEqual(
            retained.sort((x, y) => x - y),
            kept.sort((x, y) => x - y)
          )
          for (const owned of [...a.owned, ...b.owned]) assert.isFalse(owned.topicCommitted)
        })
      )

      it.effect("topicCommitted tells a new partition of a known topic from a new group", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const [one, two] = [yield* kafka.topic(2), yield* kafka.topic(1)]
          const settings = settingsOf(unique("group"), [one, two])
          const a = yield* join(settings)
          yield* until("assigned", () => a.owned.length === 3)
          assert.isTrue(a.owned.every(({ topicCommitted }) => !topicCommitted))
          const zero = a.owned.find((owned) => owned.topic === one && owned.partition === 0)!
          yield* a.session.commit([{ topic: one, partition: 0, epoch: zero.epoch, offset: 0n, metadata: "" }])
          yield* a.session.leave
          const b = yield* join(settings)
          yield* until("assigned", () => b.owned.length === 3)
          for (const owned of b.owned) assert.strictEqual(owned.topicCommitted, owned.topic === one)
          assert.deepStrictEqual(b.owned.find((owned) => owned.topic === one && owned.partition === 0)?.committed, {
            offset: 0n,
            metadata: ""
          })
        })
      )

      it.effect("a topic that is missing among others is named", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const [there, missing] = [yield* kafka.topic(1), unique("missing")]
          const error = yield* Effect.flip(join(settingsOf(unique("group"), [there, missing], { topicTimeout: 300 })))
          assert.strictEqual(error.reason, "TopicMissing")
          assert.include(error.detail, missing)
          assert.notInclude(error.detail, there)
          const logged = yield* Effect.forkScoped(join(settingsOf(unique("group"), [missing])))
          yield* Effect.sleep(300)
          assert.isTrue(Option.isNone(Option.fromNullishOr(logged.pollUnsafe())))
        })
      )
    })
  })
}
