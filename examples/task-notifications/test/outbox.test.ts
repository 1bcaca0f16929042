import { KafkaProducer, type ProducerRecord, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { Topic } from "@concurrent-kafka/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { NewTask, TaskPatch } from "../src/domain.ts"
import { Topics } from "../src/events.ts"
import { layerRelay, Outbox } from "../src/outbox.ts"
import { Tasks } from "../src/tasks.ts"
import { Kafka, until, World } from "./world.ts"

/** Keeps what it is sent, but for what it refuses, and then says what the test says of it. */
class Broker {
  readonly log: Array<ProducerRecord> = []
  attempts = 0
  answer: (records: ReadonlyArray<ProducerRecord>) => PublishError | undefined = () => undefined
  readonly layer = Layer.mock(KafkaProducer, {
    send: (records) =>
      Effect.suspend(() => {
        this.attempts++
        const error = this.answer(records)
        const refused = new Set(error?.reason === "refused" ? (error.unconfirmed ?? records.keys()) : [])
        this.log.push(...records.filter((_, i) => !refused.has(i)))
        return error === undefined ? Effect.succeed(true) : Effect.fail(error)
      })
  })
}

const failing = (reason: PublishError["reason"], code = "TEST", unconfirmed?: ReadonlyArray<number>) =>
  new PublishError({
    reason,
    code,
    detail: "the test says so",
    ...(unconfirmed === undefined ? {} : { unconfirmed })
  })

const relayed = (broker: Broker) =>
  layerRelay.pipe(
    Layer.provide(broker.layer),
    Layer.provideMerge(World),
    Layer.provideMerge(Kafka),
    Layer.provide(World)
  )

const audited = (broker: Broker) =>
  Effect.gen(function* () {
    const { taskEvents } = yield* Topics
    return yield* Effect.forEach(
      broker.log.filter(({ topic }) => topic === taskEvents.name),
      (record) => Topic.decode(taskEvents, record)
    )
  })

describe("the outbox", () => {
  it.live("sends what each change tells, keyed by user, in the order of the changes", () => {
    const broker = new Broker()
    return Effect.gen(function* () {
      const tasks = yield* Tasks
      const outbox = yield* Outbox
      const { id } = yield* tasks.create("ada", new NewTask({ title: "first" }))
      yield* tasks.update("ada", id, new TaskPatch({ title: "second" }))
      yield* tasks.complete("ada", id)
      yield* tasks.complete("ada", id)
      yield* tasks.remove("ada", id)
      yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
      const events = yield* audited(broker)
      assert.deepStrictEqual(
        events.map(({ key, value: { action, task_data, type } }) => [
          key,
          type,
          action,
          task_data.title,
          task_data.version
        ]),
        [
          ["ada", "task.created", "created", "first", 1],
          ["ada", "task.updated", "updated", "second", 2],
          ["ada", "task.completed", "completed", "second", 3],
          ["ada", "task.deleted", "deleted", "second", 4]
        ]
      )
      assert.deepStrictEqual(
        broker.log.map(({ topic }) => topic).filter((topic) => topic !== "task-events"),
        ["task-updates", "notification.request", "task-updates", "task-updates", "notification.request", "task-updates"]
      )
    }).pipe(Effect.provide(relayed(broker)))
  })

  it.live(
    "what was stored and not confirmed is sent again under the same event ids, nothing before what is older",
    () => {
      const broker = new Broker()
      let failures = 3
      broker.answer = () => (failures-- > 0 ? failing("unconfirmed") : undefined)
      return Effect.gen(function* () {
        const tasks = yield* Tasks
        const outbox = yield* Outbox
        yield* Effect.forEach(["a", "b", "c", "d"], (title) => tasks.create("ada", new NewTask({ title })))
        yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
        const titles = (yield* audited(broker)).map(({ value }) => value.task_data.title)
        assert.isAbove(titles.length, 4)
        assert.deepStrictEqual([...new Set(titles)], ["a", "b", "c", "d"])
        assert.strictEqual(new Set((yield* audited(broker)).map(({ value }) => value.event_id)).size, 4)
      }).pipe(Effect.provide(relayed(broker)))
    }
  )

  it.live(
    "an event that the broker refuses as it is does not hold up the others, is counted, and can be let go again",
    () => {
      const broker = new Broker()
      const isBad = ({ topic, value }: ProducerRecord) =>
        topic === "task-events" && new TextDecoder().decode(value ?? new Uint8Array()).includes("too large")
      broker.answer = (records) => (records.some(isBad) ? failing("refused", "MESSAGE_TOO_LARGE") : undefined)
      return Effect.gen(function* () {
        const tasks = yield* Tasks
        const outbox = yield* Outbox
        yield* Effect.forEach(["a", "too large", "b"], (title) => tasks.create("ada", new NewTask({ title })))
        yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
        assert.deepStrictEqual(
          (yield* audited(broker)).map(({ value }) => value.task_data.title),
          ["a", "b"]
        )
        assert.deepStrictEqual(yield* outbox.counts, { waiting: 0, refused: 1 })
        // the broker takes larger ones now
        broker.answer = () => undefined
        const sql = yield* SqlClient.SqlClient
        yield* sql`UPDATE outbox SET refused = NULL WHERE refused IS NOT NULL`
        yield* until("it is sent", outbox.counts, ({ refused, waiting }) => waiting === 0 && refused === 0)
        assert.deepStrictEqual(
          (yield* audited(broker)).map(({ value }) => value.task_data.title),
          ["a", "b", "too large"]
        )
      }).pipe(Effect.provide(relayed(broker)))
    }
  )

  for (const code of ["TOPIC_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PARTITION", "Authentication"]) {
    it.live(`${code} holds everything up and loses nothing: when it is mended all goes out, in order`, () => {
      const broker = new Broker()
      broker.answer = () => failing("refused", code)
      return Effect.gen(function* () {
        const tasks = yield* Tasks
        const outbox = yield* Outbox
        yield* Effect.forEach(["a", "b", "c"], (title) => tasks.create("ada", new NewTask({ title })))
        yield* until(
          "it has been tried",
          Effect.sync(() => broker.attempts),
          (attempts) => attempts > 3
        )
        assert.deepStrictEqual(yield* outbox.counts, { waiting: 9, refused: 0 })
        assert.deepStrictEqual(broker.log, [])
        broker.answer = () => undefined
        yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
        assert.deepStrictEqual(
          (yield* audited(broker)).map(({ value }) => value.task_data.title),
          ["a", "b", "c"]
        )
        assert.deepStrictEqual(yield* outbox.counts, { waiting: 0, refused: 0 })
      }).pipe(Effect.provide(relayed(broker)))
    })
  }

  it.live(
    "a right that is taken away behind an event that is too large is waited for, and only that event is refused",
    () => {
      const broker = new Broker()
      const isBad = ({ topic, value }: ProducerRecord) =>
        topic === "task-events" && new TextDecoder().decode(value ?? new Uint8Array()).includes("too large")
      let allowed = 5
      broker.answer = (records) => {
        if (records.some(isBad)) return failing("refused", "RECORD_LIST_TOO_LARGE")
        return allowed-- > 0 ? undefined : failing("refused", "TOPIC_AUTHORIZATION_FAILED")
      }
      return Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const tasks = yield* Tasks
        const outbox = yield* Outbox
        // one transaction, so one send
        yield* sql.withTransaction(
          Effect.forEach(["a", "too large", "b"], (title) => tasks.create("ada", new NewTask({ title })))
        )
        yield* until(
          "it has been tried again",
          Effect.sync(() => allowed),
          (left) => left < -2
        )
        assert.deepStrictEqual(yield* outbox.counts, { waiting: 3, refused: 1 })
        allowed = Infinity
        yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
        assert.deepStrictEqual(
          (yield* audited(broker)).map(({ value }) => value.task_data.title),
          ["a", "b"]
        )
        assert.strictEqual(broker.log.length, 8)
      }).pipe(Effect.provide(relayed(broker)))
    }
  )

  it.live("what the broker has of a send that failed is not sent again with the rest of it", () => {
    const broker = new Broker()
    broker.answer = (records) => {
      const failed = records.flatMap(({ topic }, i) => (topic === "task-events" ? [i] : []))
      return failed.length === 0 ? undefined : failing("refused", "TOPIC_AUTHORIZATION_FAILED", failed)
    }
    return Effect.gen(function* () {
      const tasks = yield* Tasks
      const outbox = yield* Outbox
      yield* tasks.create("ada", new NewTask({ title: "a" }))
      yield* until(
        "it has been tried",
        Effect.sync(() => broker.attempts),
        (attempts) => attempts > 2
      )
      assert.deepStrictEqual(yield* outbox.counts, { waiting: 1, refused: 0 })
      broker.answer = () => undefined
      yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
      assert.deepStrictEqual(
        broker.log.map(({ topic }) => topic),
        ["task-updates", "notification.request", "task-events"]
      )
    }).pipe(Effect.provide(relayed(broker)))
  })

  it.live("a defect of whatever sends is one failed attempt: the relay goes on", () => {
    const broker = new Broker()
    let defects = 2
    broker.answer = () => {
      if (defects-- > 0) throw new Error("a defect")
      return undefined
    }
    return Effect.gen(function* () {
      const tasks = yield* Tasks
      const outbox = yield* Outbox
      yield* tasks.create("ada", new NewTask({ title: "a" }))
      yield* until("nothing waits", outbox.counts, ({ waiting }) => waiting === 0)
      assert.isAbove(broker.attempts, 2)
      assert.strictEqual(broker.log.length, 3)
    }).pipe(Effect.provide(relayed(broker)))
  })

  it.live("a change whose transaction fails tells nothing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const outbox = yield* Outbox
      const change = Effect.andThen(tasks.create("ada", new NewTask({ title: "a" })), Effect.fail("after it"))
      assert.strictEqual(yield* Effect.flip(sql.withTransaction(change)), "after it")
      assert.deepStrictEqual(yield* tasks.list("ada"), [])
      assert.deepStrictEqual(yield* outbox.counts, { waiting: 0, refused: 0 })
    }).pipe(Effect.provide(World))
  )
})
