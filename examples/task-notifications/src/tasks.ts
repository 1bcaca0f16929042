/** What can be done with tasks. Each change is one transaction: the row, and the events that tell of it. */
import { Context, DateTime, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, SqlSchema } from "effect/sql"
import { Channels, type NewTask, type NotificationType, Task, type TaskPatch } from "./domain.ts"
import { type Action, CoverRequest, NotificationRequest, TaskEvent, TaskUpdateEvent, Topics } from "./events.ts"
import { Outbox } from "./outbox.ts"

export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()("TaskNotFound", { id: Schema.String }) {}

/** A task as a row: lists are text there. */
export const TaskRow = Schema.Struct({ ...Task.fields, channels: Schema.fromJsonString(Channels) })

const encodeRow = Schema.encodeEffect(TaskRow)
const encodeTask = Schema.encodeEffect(Task)

/** What the page needs not be told again. */
const told: Partial<Record<Action, { readonly type: NotificationType; readonly title: string }>> = {
  created: { type: "task_created", title: "New task" },
  completed: { type: "task_completed", title: "Task done" }
}

const newId = Effect.sync(() => crypto.randomUUID())

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const outbox = yield* Outbox
  const topics = yield* Topics

  const ofUser = SqlSchema.findAll({
    Request: Schema.String,
    Result: TaskRow,
    execute: (user) => sql`SELECT * FROM tasks WHERE user_id = ${user} ORDER BY created_at DESC, id`
  })
  const byId = SqlSchema.findOneOption({
    Request: Schema.Struct({ user: Schema.String, id: Schema.String }),
    Result: TaskRow,
    execute: ({ id, user }) => sql`SELECT * FROM tasks WHERE id = ${id} AND user_id = ${user}`
  })

  const find = Effect.fnUntraced(function* (user: string, id: string) {
    const found = yield* byId({ user, id })
    if (Option.isNone(found)) return yield* new TaskNotFound({ id })
    return found.value
  })

  const save = Effect.fnUntraced(function* (task: Task) {
    const row = yield* encodeRow(task)
    yield* sql`INSERT INTO tasks ${sql.insert(row)} ON CONFLICT (id) DO UPDATE SET ${sql.update(row, ["id", "user_id", "created_at"])}`
  })

  /** The events of a change, written in its transaction. */
  const tell = Effect.fnUntraced(function* (action: Action, task: Task) {
    const common = { timestamp: task.updated_at, user_id: task.user_id, task_id: task.id }
    yield* outbox.add(
      topics.taskEvents,
      new TaskEvent({ ...common, event_id: yield* newId, type: `task.${action}`, action, task_data: task })
    )
    yield* outbox.add(
      topics.taskUpdates,
      new TaskUpdateEvent({
        ...common,
        event_id: yield* newId,
        type: action === "deleted" ? "task_deleted" : "task",
        changes: yield* encodeTask(task)
      })
    )
    const due = told[action]
    if (due !== undefined) {
      yield* outbox.add(
        topics.notificationRequests,
        new NotificationRequest({
          ...common,
          ...due,
          event_id: yield* newId,
          message: task.title,
          channels: task.channels
        })
      )
    }
  })

  /** Reads, changes and tells, alone with the database. `how` answers undefined where there is nothing to change, and nothing to tell. */
  const change = (
    user: string,
    id: string,
    action: Action,
    how: (
      task: typeof TaskRow.Type,
      now: DateTime.Utc
    ) => (Partial<TaskPatch> & Partial<Pick<Task, "completed_at" | "cover">>) | undefined
  ) =>
    sql.withTransaction(
      Effect.gen(function* () {
        const before = yield* find(user, id)
        const now = yield* DateTime.now
        const changes = how(before, now)
        if (changes === undefined) return new Task(before)
        const task = new Task({ ...before, ...changes, version: before.version + 1, updated_at: now })
        if (action === "deleted") {
          yield* sql`DELETE FROM tasks WHERE id = ${id}`
          yield* sql`DELETE FROM covers WHERE task_id = ${id}`
        } else yield* save(task)
        yield* tell(action, task)
        return task
      })
    )

  return {
    list: (user: string) => Effect.map(ofUser(user), (rows) => rows.map((row) => new Task(row))),
    get: (user: string, id: string) => Effect.map(find(user, id), (row) => new Task(row)),
    create: (user: string, { channels = ["in_app"], due_at = null, title }: NewTask) =>
      sql.withTransaction(
        Effect.gen(function* () {
          const now = yield* DateTime.now
          const id = yield* newId
          const task = new Task({
            id,
            user_id: user,
            title,
            due_at,
            completed_at: null,
            channels,
            cover: null,
            version: 1,
            created_at: now,
            updated_at: now
          })
          yield* save(task)
          yield* tell("created", task)
          return task
        })
      ),
    update: (user: string, id: string, patch: TaskPatch) => change(user, id, "updated", () => patch),
    complete: (user: string, id: string) =>
      change(user, id, "completed", ({ completed_at }, now) =>
        completed_at === null ? { completed_at: now } : undefined
      ),
    /** Somebody draws it, and then it is there: see `covers.ts`. */
    requestCover: (user: string, id: string, width: number) =>
      sql.withTransaction(
        Effect.gen(function* () {
          const { id: task_id, user_id } = yield* find(user, id)
          const timestamp = yield* DateTime.now
          yield* outbox.add(
            topics.coverRequests,
            new CoverRequest({ event_id: yield* newId, timestamp, user_id, task_id, width })
          )
        })
      ),
    /** In place of the one before. */
    setCover: (
      { event_id, task_id, timestamp, user_id }: Pick<CoverRequest, "event_id" | "task_id" | "timestamp" | "user_id">,
      picture: Uint8Array
    ) =>
      sql.withTransaction(
        Effect.gen(function* () {
          yield* change(user_id, task_id, "updated", () => ({ cover: event_id }))
          yield* sql`DELETE FROM covers WHERE task_id = ${task_id}`
          const requested_at = DateTime.formatIso(timestamp)
          yield* sql`INSERT INTO covers ${sql.insert({ id: event_id, task_id, requested_at, picture })}`
        })
      ),
    remove: (user: string, id: string) => change(user, id, "deleted", () => ({}))
  }
})

export class Tasks extends Context.Service<Tasks, Effect.Success<typeof make>>()("task-notifications/Tasks") {
  static readonly layer = Layer.effect(Tasks, make)
}
