/** What the service is about. What is called `user` here is whoever a gateway in front of the service says that it is. */
import { DateTime, Effect, Schema } from "effect"

/** Part of an address, and of nobody else's: what comes from outside is held to this wherever it comes in, from Kafka too. */
export const UserId = Schema.String.check(Schema.isPattern(/^[\w.-]{1,64}$/, { expected: "a user's name" }))

/** A moment; text of ISO 8601 in JSON, on Kafka and in the database, where such texts sort as the moments do: with four digits of the year. */
export const Moment = Schema.DateTimeUtcFromString.check(
  Schema.makeFilter((moment) => /^\d{4}-/.test(DateTime.formatIso(moment)), {
    expected: "a moment of the years 0 to 9999"
  })
)

/** Ways to reach somebody. `in_app` is a row that the pages of the user show. */
export const Channel = Schema.Literals(["in_app", "email", "sms"])
export type Channel = typeof Channel.Type

export const Channels = Schema.NonEmptyArray(Channel)

export const Title = Schema.Trimmed.check(Schema.isNonEmpty(), Schema.isMaxLength(200))

export class Task extends Schema.Class<Task>("Task")({
  id: Schema.String,
  user_id: Schema.String,
  title: Title,
  due_at: Schema.NullOr(Moment),
  completed_at: Schema.NullOr(Moment),
  /** How its user wants to hear of it. */
  channels: Channels,
  /** The id of its picture, when it has one. */
  cover: Schema.NullOr(Schema.String).pipe(
    // tasks in events of before there were covers have none
    Schema.withDecodingDefaultKey(Effect.succeed(null))
  ),
  /** One more with each change: a page that gets changes late, or twice, knows which is the newer one. */
  version: Schema.Int,
  created_at: Moment,
  updated_at: Moment
}) {}

/** The body of `POST /tasks`. */
export class NewTask extends Schema.Class<NewTask>("NewTask")({
  title: Title,
  due_at: Schema.optionalKey(Schema.NullOr(Moment)),
  channels: Schema.optionalKey(Channels)
}) {}

/** The body of `PATCH /tasks/:id`: what is left out stays. */
export class TaskPatch extends Schema.Class<TaskPatch>("TaskPatch")({
  title: Schema.optionalKey(Title),
  due_at: Schema.optionalKey(Schema.NullOr(Moment)),
  channels: Schema.optionalKey(Channels)
}) {}

/** The body of `POST /tasks/:id/cover`; of more pixels nobody has a screen. */
export class NewCover extends Schema.Class<NewCover>("NewCover")({
  width: Schema.Int.check(Schema.isBetween({ minimum: 16, maximum: 16_384 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(320))
  )
}) {}

export const NotificationType = Schema.Literals(["task_created", "task_completed", "deadline_reminder", "task_overdue"])
export type NotificationType = typeof NotificationType.Type

/** `failed` is not the end: its request is among the dead letters, and may be sent again. */
export const Status = Schema.Literals(["pending", "sent", "failed"])
export type Status = typeof Status.Type

export class Notification extends Schema.Class<Notification>("Notification")({
  /** The id of the event that asked for it. */
  id: Schema.String,
  user_id: Schema.String,
  task_id: Schema.NullOr(Schema.String),
  type: NotificationType,
  title: Schema.String,
  message: Schema.String,
  status: Status,
  created_at: Moment
}) {}
