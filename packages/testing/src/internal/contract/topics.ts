/**
 * Contract: topics that come late, go, come back as others, or grow.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { type Suite, valueOf } from "./kit.ts"

export const topics = <R>(suite: Suite<R>): void => {
  const { consume, fill, fresh, harness, it, needs, open, patience, quiet, read, topic: newTopic, until } = suite
  const timeout = patience * 2

  it.effect(
    "join waits for a topic that is not there, and says so",
    () =>
      Effect.gen(function* () {
        const topic = yield* fresh("topic")
        const session = yield* open({ groupId: yield* fresh("group"), topics: [topic] })
        const reader = yield* read(session)
        const joining = yield* Effect.forkScoped(session.join)
        yield* until("it says so", () => reader.of("Connection").length > 0)
        const [down] = reader.of("Connection")
        assert.deepStrictEqual(
          [down!.state, Option.map(down!.cause, (error) => error.reason)],
          ["down", Option.some("TopicMissing")]
        )
        yield* quiet
        yield* harness.createTopic(topic, 1)
        yield* fill(topic, 0, 0, 3)
        yield* Fiber.join(joining)
        yield* until("all have come", () => reader.records().length === 3)
        assert.strictEqual(reader.of("Connection").at(-1)!.state, "up")
      }),
    timeout
  )

  it.effect(
    "join fails with TopicMissing after the topic timeout",
    () =>
      Effect.gen(function* () {
        const session = yield* open({
          groupId: yield* fresh("group"),
          topics: [yield* fresh("topic")],
          topicTimeout: 500
        })
        const since = yield* Clock.currentTimeMillis
        const error = yield* Effect.flip(session.join)
        assert.strictEqual(error.reason, "TopicMissing")
        assert.isTrue((yield* Clock.currentTimeMillis) - since >= 450)
      }),
    timeout
  )

  it.effect(
    "a topic that is deleted is gone, and the others go on",
    () =>
      Effect.gen(function* () {
        const [doomed, stays] = [yield* newTopic(1, 5), yield* newTopic(1, 5)]
        const group = yield* fresh("group")
        const reader = yield* consume({ groupId: group, topics: [doomed, stays] })
        yield* until("all have come", () => reader.records().length === 10)
        const { epoch } = reader.partition(doomed, 0)
        yield* harness.deleteTopic!(doomed)
        // The fetch finds out, or the group does and takes it back.
        yield* until("it is gone", () => reader.of("Gone").length > 0 || !reader.held.has(`${doomed}/0`))
        for (const gone of reader.of("Gone")) {
          assert.deepStrictEqual([gone.topic, gone.epoch, gone.why], [doomed, epoch, "deleted"])
        }
        yield* fill(stays, 0, 5, 10)
        yield* until("the other one flows", () => reader.records(stays).length === 10)
        yield* until("it can commit", () => reader.held.has(`${stays}/0`))
        const [outcome] = yield* reader.session.commit([{ ...reader.partition(stays, 0), offset: 10n, metadata: "" }])
        assert.include(["committed", "deferred"], outcome!.outcome)
        assert.isUndefined(reader.ended)
      }),
    needs("deleteTopic")
  )

  it.effect(
    "a topic that is deleted and created again is another one: its records come from the start in a new epoch",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 20)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("all have come", () => reader.records().length === 20)
        const { epoch } = reader.partition(topic, 0)
        yield* harness.deleteTopic!(topic)
        yield* harness.createTopic(topic, 1)
        yield* harness.produce(topic, [
          { partition: 0, key: null, value: new TextEncoder().encode("new"), headers: [] }
        ])
        // By a new assignment, or the engine reopens what is gone: then this test does it.
        yield* until(
          "it has noticed",
          () => reader.of("Gone").length > 0 || (reader.held.get(`${topic}/0`)?.epoch ?? epoch) !== epoch
        )
        if (reader.held.get(`${topic}/0`)?.epoch === epoch) {
          const now = reader.session.reopenUnsafe(reader.partition(topic, 0))
          if (now !== undefined) reader.session.beginUnsafe([{ ...now, offset: 0n }])
        }
        yield* until("its record has come", () => valueOf(reader.records().at(-1)!) === "new")
        assert.notStrictEqual(reader.of("Chunk").at(-1)!.epoch, epoch)
      }),
    needs("deleteTopic")
  )

  it.effect(
    "partitions that are added are assigned, and what was held is retained",
    () =>
      Effect.gen(function* () {
        const topic = yield* newTopic(1, 5)
        const reader = yield* consume({ groupId: yield* fresh("group"), topics: [topic] })
        yield* until("all have come", () => reader.records().length === 5)
        const { epoch } = reader.partition(topic, 0)
        yield* harness.addPartitions!(topic, 3)
        yield* until("they are assigned", () => reader.held.size === 3)
        assert.deepStrictEqual([reader.partition(topic, 0).epoch, reader.partition(topic, 0).retained], [epoch, true])
        yield* fill(topic, 2, 0, 4)
        yield* until("its records have come", () => reader.chunks(topic, 2).at(-1)?.nextOffset === 4n)
        assert.strictEqual(reader.chunks(topic, 0).flatMap((chunk) => chunk.records).length, 5)
      }),
    needs("addPartitions")
  )
}
