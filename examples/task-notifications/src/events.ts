/** What goes over Kafka: four topics, each keyed by user, so that what happens to one user is in one partition, in its order. */
import { Topic } from "@concurrent-kafka/core/Topic"
import { Context, Effect, Layer, Schema } from "effect"
import { Channels, Moment, NewCover, NotificationType, Task, UserId } from "./domain.ts"
import { Settings } from "./settings.ts"

const Action = Schema.Literals(["created", "updated", "deleted", "completed"])
export type Action = typeof Action.Type

const common = {
  /** Made once, with the change. Kafka may deliver a record twice: by this its readers know it again. */
  event_id: Schema.String,
  timestamp: Moment,
  user_id: UserId
}

/** The audit trail: what has happened, with the whole task as it was then. */
export class TaskEvent extends Schema.Class<TaskEvent>("TaskEvent")({
  ...common,
  type: Schema.Literals(["task.created", "task.updated", "task.deleted", "task.completed"]),
  action: Action,
  task_id: Schema.String,
  task_data: Task
}) {}

/** Live sync: what open pages have to change. */
export class TaskUpdateEvent extends Schema.Class<TaskUpdateEvent>("TaskUpdateEvent")({
  ...common,
  type: Schema.Literals(["task", "task_deleted", "notification"]),
  /** None where a notification is about no task. */
  task_id: Schema.NullOr(Schema.String),
  /** The whole task or notification as it is now, as in the JSON of the API: whoever has missed a change needs none of those before. */
  changes: Schema.Record(Schema.String, Schema.Json)
}) {}

/** Somebody is to be told something. */
export class NotificationRequest extends Schema.Class<NotificationRequest>("NotificationRequest")({
  ...common,
  type: NotificationType,
  task_id: Schema.optionalKey(Schema.NullOr(Schema.String)),
  title: Schema.String,
  message: Schema.String,
  channels: Channels.pipe(Schema.withDecodingDefaultKey(Effect.succeed(["in_app"] as const)))
}) {}

/** Somebody wants a picture of a task. */
export class CoverRequest extends Schema.Class<CoverRequest>("CoverRequest")({
  ...common,
  task_id: Schema.String,
  /** In pixels. */
  width: NewCover.fields.width
}) {}

const typed = <const S extends Schema.Constraint>(name: string, schema: S) =>
  Topic.make(name, { key: Schema.String, value: Topic.json(schema) })

const make = ({ topics }: Settings["Service"]) => ({
  taskEvents: typed(topics.taskEvents, TaskEvent),
  taskUpdates: typed(topics.taskUpdates, TaskUpdateEvent),
  notificationRequests: typed(topics.notificationRequests, NotificationRequest),
  coverRequests: typed(topics.coverRequests, CoverRequest)
})

/** The topics under the names that the settings give them. */
export class Topics extends Context.Service<Topics, ReturnType<typeof make>>()("task-notifications/Topics") {
  static readonly layer = Layer.effect(Topics, Effect.map(Settings, make))
}

/** Where records go that cannot be handled. */
export const deadLettersOf = ({ name }: { readonly name: string }) => `${name}.dead-letter`

export const topicNames = ({ topics }: Pick<Settings["Service"], "topics">): ReadonlyArray<string> =>
  Object.values(topics)
