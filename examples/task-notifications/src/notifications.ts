/**
 * Group `notification-service`: a request becomes a row, goes out over its channels, and the row says what became of it.
 *
 * - The row and its deliveries are written in one transaction, under the id of the event: a request that comes again finds them.
 * - What has gone out is marked per channel. A retry, a redelivery after a crash, and a redrive send only what is not marked. A channel
 *   that fails does not hold up the others.
 * - No transaction spans a mail server and a database. Between its yes and our mark a kill leaves a message that is sent again, with the
 *   same Message-ID. Of each channel one message at a time is there (`handing`), so a kill repeats one at most.
 */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { type Failure, FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Topic } from "@concurrent-kafka/core/Topic"
import { DateTime, Effect, Layer, Option, Schema, Semaphore } from "effect"
import { SqlClient, SqlSchema } from "effect/sql"
import { Email, type Message, type NotDelivered, Sms } from "./channels.ts"
import { common, retries } from "./consume.ts"
import { Channel, Notification, type Status } from "./domain.ts"
import { deadLettersOf, type NotificationRequest, Topics, TaskUpdateEvent } from "./events.ts"
import { Outbox } from "./outbox.ts"
import { Settings } from "./settings.ts"

const encode = Schema.encodeEffect(Notification)

/** Some of its channels have not taken it. Those that have are marked. */
export class NotSent extends Schema.TaggedError<NotSent>()("NotSent", {
  /** Whether another attempt may help one of them. */
  isRetryable: Schema.Boolean,
  detail: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return this.detail
  }
}

/** A way out, and the permit of the one message that is on it: a slow mail server does not hold up text messages. */
const way = (send: (message: Message) => Effect.Effect<void, NotDelivered>) =>
  Effect.map(Semaphore.make(1), (handing) => ({ send, handing }))

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const outbox = yield* Outbox
  const { taskUpdates } = yield* Topics
  const ways = {
    // the row itself is what the pages show
    in_app: yield* way(() => Effect.void),
    email: yield* way((yield* Email).send),
    sms: yield* way((yield* Sms).send)
  } satisfies Record<Channel, unknown>

  const stored = SqlSchema.findOneOption({
    Request: Schema.String,
    Result: Notification,
    execute: (id) => sql`SELECT * FROM notifications WHERE id = ${id}`
  })
  const unsent = SqlSchema.findAll({
    Request: Schema.String,
    Result: Schema.Struct({ channel: Channel }),
    execute: (id) =>
      sql`SELECT channel FROM deliveries WHERE notification_id = ${id} AND sent_at IS NULL ORDER BY channel`
  })

  /** Open pages see the row as it is now; in the transaction that has changed it. */
  const tell = Effect.fnUntraced(function* (notification: Notification) {
    yield* outbox.add(
      taskUpdates,
      new TaskUpdateEvent({
        event_id: crypto.randomUUID(),
        timestamp: yield* DateTime.now,
        user_id: notification.user_id,
        type: "notification",
        task_id: notification.task_id,
        changes: yield* encode(notification)
      })
    )
  })

  const accept = (request: NotificationRequest) =>
    sql.withTransaction(
      Effect.gen(function* () {
        if (Option.isSome(yield* stored(request.event_id))) return
        const notification = new Notification({
          id: request.event_id,
          user_id: request.user_id,
          task_id: request.task_id ?? null,
          type: request.type,
          title: request.title,
          message: request.message,
          status: request.channels.every((channel) => channel === "in_app") ? "sent" : "pending",
          created_at: request.timestamp
        })
        yield* sql`INSERT INTO notifications ${sql.insert(yield* encode(notification))}`
        const sent_at = DateTime.formatIso(yield* DateTime.now)
        for (const channel of new Set(request.channels)) {
          const delivery = {
            notification_id: request.event_id,
            channel,
            sent_at: channel === "in_app" ? sent_at : null
          }
          yield* sql`INSERT INTO deliveries ${sql.insert(delivery)}`
        }
        yield* tell(notification)
      })
    )

  const setStatus = (id: string, status: Status) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`UPDATE notifications SET status = ${status} WHERE id = ${id} AND status <> ${status}`
        const [{ changed } = { changed: 0 }] = yield* sql<{ changed: number }>`SELECT changes() AS changed`
        const now = yield* stored(id)
        if (changed > 0 && Option.isSome(now)) yield* tell(now.value)
      })
    )

  /** Not to be cut between the two: what is sent is marked, unless the process is killed. */
  const handOver = (channel: Channel, message: Message) =>
    ways[channel].handing.withPermit(
      Effect.uninterruptible(
        Effect.gen(function* () {
          yield* ways[channel].send(message)
          const sent_at = DateTime.formatIso(yield* DateTime.now)
          yield* sql`UPDATE deliveries SET sent_at = ${sent_at} WHERE notification_id = ${message.id} AND channel = ${channel}`
        })
      )
    )

  return {
    handle: Effect.fnUntraced(function* (request: NotificationRequest) {
      yield* accept(request)
      const channels = yield* unsent(request.event_id)
      const message = { id: request.event_id, to: request.user_id, title: request.title, text: request.message }
      yield* Effect.validate(channels, ({ channel }) => handOver(channel, message), {
        concurrency: "unbounded",
        discard: true
      }).pipe(
        Effect.mapError(
          (errors) =>
            new NotSent({
              isRetryable: errors.some((error) => error.isRetryable),
              detail: errors.map((error) => error.message).join("; "),
              cause: new AggregateError(errors)
            })
        )
      )
      yield* setStatus(request.event_id, "sent")
    }),
    setStatus
  }
})

export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const { handle, setStatus } = yield* make
    const { notificationRequests } = yield* Topics
    const { groups } = yield* Settings
    const handler = Topic.handler(notificationRequests, handle)

    /** The last of the attempts has failed: the row says so, and the request waits among the dead letters to be sent again. */
    const giveUp = FailurePolicy.make(({ record }: Failure<unknown>) =>
      Topic.decode(notificationRequests, record).pipe(
        Effect.flatMap(({ value }) => setStatus(value.event_id, "failed")),
        // what cannot be read has no row
        Effect.catchTag("DecodeError", () => Effect.void),
        Effect.catch((error) => Effect.logWarning("a notification has failed, and its row does not say so", error)),
        Effect.as({ _tag: "DeadLetter", topic: deadLettersOf(notificationRequests) } as const)
      )
    )
    return ConcurrentConsumer.layerHandler(handler, {
      ...(yield* common)(groups.notifications),
      // time for what is being handed over, which is not cut. A mail server that takes longer is left behind with it: where it goes on here
      // the message is marked when it answers, maybe after the next owner has sent it again; where the process ends nobody marks it
      interruptGrace: "4 seconds",
      revokeDrain: "3 seconds",
      onFailure: retries.pipe(FailurePolicy.orElse(giveUp))
    })
  })
)

/** The newest of a user, for the API. */
export const notificationsOf = Effect.fnUntraced(function* (user: string) {
  const sql = yield* SqlClient.SqlClient
  const find = SqlSchema.findAll({
    Request: Schema.String,
    Result: Notification,
    execute: (user) => sql`SELECT * FROM notifications WHERE user_id = ${user} ORDER BY created_at DESC, id LIMIT 200`
  })
  return (yield* find(user)).map((row) => new Notification(row))
})
