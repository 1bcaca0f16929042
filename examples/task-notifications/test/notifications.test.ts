import { redrive } from "@concurrent-kafka/cli"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Latch, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Email, type Message, NotDelivered, Sms } from "../src/channels.ts"
import { NotificationRequest, Topics } from "../src/events.ts"
import * as Notifications from "../src/notifications.ts"
import { Kafka, until, World } from "./world.ts"

type Answer = "taken" | "busy" | "refused"

/** A way out that does what the test says; attempts that it has refused are counted, too. */
class Way {
  readonly taken: Array<Message> = []
  attempts = 0
  answer: (message: Message) => Answer | Effect.Effect<Answer> = () => "taken"
  readonly send = (message: Message) =>
    Effect.suspend(() => {
      this.attempts++
      const said = this.answer(message)
      return Effect.flatMap(Effect.isEffect(said) ? said : Effect.succeed(said), (answer) =>
        answer === "taken"
          ? Effect.sync(() => void this.taken.push(message))
          : Effect.fail(
              new NotDelivered({ channel: "message", isRetryable: answer === "busy", cause: new Error(answer) })
            )
      )
    })
}

const service = (mails: Way, texts = new Way()) =>
  Notifications.layer.pipe(
    Layer.provide([Layer.succeed(Email, { send: mails.send }), Layer.succeed(Sms, { send: texts.send })]),
    Layer.provideMerge(Kafka),
    Layer.provideMerge(World)
  )

const request = (event_id: string, channels: NotificationRequest["channels"], user_id: string) =>
  Effect.map(
    DateTime.now,
    (timestamp) =>
      new NotificationRequest({
        event_id,
        timestamp,
        user_id,
        type: "task_created",
        title: "New task",
        message: event_id,
        channels
      })
  )

const publish = (event_id: string, channels: NotificationRequest["channels"] = ["in_app", "email"], user = "ada") =>
  Effect.gen(function* () {
    const { notificationRequests } = yield* Topics
    const { publish } = yield* KafkaProducer
    yield* publish(notificationRequests, yield* request(event_id, channels, user), { key: user })
  })

const rows = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ id: string; status: string }>`SELECT id, status FROM notifications ORDER BY rowid`
)
const endsAs = (status: string, id: string) =>
  until(`${id} is ${status}`, rows, (all) => all.some((row) => row.id === id && row.status === status))

describe("the notification service", () => {
  it.live("a request that is delivered again has one row and sends one e-mail, under the id of its event", () => {
    const mails = new Way()
    return Effect.gen(function* () {
      yield* publish("one")
      yield* publish("one")
      yield* publish("two", ["in_app", "sms"])
      yield* endsAs("sent", "two")
      assert.deepStrictEqual(yield* rows, [
        { id: "one", status: "sent" },
        { id: "two", status: "sent" }
      ])
      assert.deepStrictEqual(
        mails.taken.map(({ id, to }) => [id, to]),
        [["one", "ada"]]
      )
    }).pipe(Effect.provide(service(mails)))
  })

  it.live("an e-mail that is not taken is tried again; the other channels are not sent twice meanwhile", () => {
    const mails = new Way()
    let busy = 2
    mails.answer = () => (busy-- > 0 ? "busy" : "taken")
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* publish("one")
      yield* endsAs("pending", "one")
      yield* endsAs("sent", "one")
      assert.strictEqual(mails.attempts, 3)
      assert.strictEqual(mails.taken.length, 1)
      // the page is told of the row, and of its end, once each
      const told = yield* sql`SELECT id FROM outbox WHERE topic = 'task-updates'`
      assert.strictEqual(told.length, 2)
    }).pipe(Effect.provide(service(mails)))
  })

  it.live("a channel that fails does not hold up the others of its message, and none of them is sent twice", () => {
    const [mails, texts] = [new Way(), new Way()]
    let busy = 1
    mails.answer = () => "refused"
    texts.answer = () => (busy-- > 0 ? "busy" : "taken")
    return Effect.gen(function* () {
      yield* publish("one", ["email", "sms"])
      yield* endsAs("failed", "one")
      // a second attempt for the one that was busy; none after it, for the one that is refused
      assert.deepStrictEqual([mails.attempts, texts.attempts], [2, 2])
      assert.strictEqual(texts.taken.length, 1)
      mails.answer = () => "taken"
      const { notificationRequests } = yield* Topics
      yield* redrive({ from: `${notificationRequests.name}.dead-letter`, to: notificationRequests.name })
      yield* endsAs("sent", "one")
      assert.deepStrictEqual([mails.attempts, texts.attempts], [3, 2])
    }).pipe(Effect.provide(service(mails, texts)))
  })

  it.live(
    "a mail server that does not answer does not hold up text messages, of nobody; of mails one is on its way",
    () => {
      const [mails, texts] = [new Way(), new Way()]
      const answers = Latch.makeUnsafe()
      mails.answer = () => Effect.as(answers.await, "taken" as const)
      return Effect.gen(function* () {
        yield* publish("one", ["email", "sms"])
        yield* publish("two", ["email"], "alan")
        yield* publish("three", ["sms"], "grace")
        yield* endsAs("sent", "three")
        yield* until(
          "all texts",
          Effect.sync(() => texts.taken.length),
          (n) => n === 2
        )
        assert.strictEqual(mails.attempts, 1)
        yield* answers.open
        yield* endsAs("sent", "one")
        yield* endsAs("sent", "two")
        assert.deepStrictEqual([mails.attempts, texts.attempts], [2, 2])
      }).pipe(Effect.ensuring(answers.open), Effect.provide(service(mails, texts)))
    }
  )

  it.live(
    "what is refused goes to the dead letters, its row says failed, and a redrive sends it when it can be",
    () => {
      const mails = new Way()
      mails.answer = ({ id }) => (id === "bad" ? "refused" : "taken")
      return Effect.gen(function* () {
        yield* publish("bad")
        yield* publish("good")
        yield* endsAs("failed", "bad")
        yield* endsAs("sent", "good")
        assert.strictEqual(mails.attempts, 2)
        mails.answer = () => "taken"
        const { notificationRequests } = yield* Topics
        const { sent } = yield* redrive({
          from: `${notificationRequests.name}.dead-letter`,
          to: notificationRequests.name
        })
        assert.strictEqual(sent, 1)
        yield* endsAs("sent", "bad")
        assert.deepStrictEqual(
          mails.taken.map(({ id }) => id),
          ["good", "bad"]
        )
        assert.strictEqual((yield* rows).length, 2)
      }).pipe(Effect.provide(service(mails)))
    }
  )

  it.live("bytes that are no request go to the dead letters, and what is behind them is handled", () => {
    const mails = new Way()
    return Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      const { notificationRequests } = yield* Topics
      const encode = Schema.encodeEffect(NotificationRequest)
      // a user who would be two addresses
      const addressed = {
        ...(yield* encode(yield* request("addressed", ["email"], "ada"))),
        user_id: "ada@elsewhere.example, grace"
      }
      yield* kafka.produce(notificationRequests.name, [
        { key: "ada", value: "no JSON" },
        { key: "ada", value: `{"type":"task_created"}` },
        { key: "ada", value: null },
        { key: "ada", value: JSON.stringify(addressed) }
      ])
      yield* publish("one", ["in_app"])
      yield* endsAs("sent", "one")
      const letters = yield* kafka.admin.logOffsets(
        yield* kafka.admin.partitions([`${notificationRequests.name}.dead-letter`])
      )
      assert.strictEqual(
        letters.reduce((sum, { end }) => sum + end, 0n),
        4n
      )
      assert.strictEqual(mails.attempts, 0)
    }).pipe(Effect.provide(service(mails)))
  })
})
