/** Group `audit-service`: each event of `task-events` becomes one row of the audit table, however often it is delivered. */
import { Topic } from "@concurrent-kafka/core/Topic"
import { DateTime, Effect, Layer, Schema } from "effect"
import { SqlClient, SqlSchema } from "effect/sql"
import { consume } from "./consume.ts"
import { Task } from "./domain.ts"
import { Topics } from "./events.ts"
import { Settings } from "./settings.ts"

const encodeTask = Schema.encodeEffect(Schema.fromJsonString(Task))

export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { taskEvents } = yield* Topics
    const { groups } = yield* Settings
    const record = Topic.handler(
      taskEvents,
      Effect.fnUntraced(function* ({ action, event_id, task_data, task_id, timestamp, user_id }) {
        const row = {
          event_id,
          user_id,
          task_id,
          action,
          happened_at: DateTime.formatIso(timestamp),
          task_data: yield* encodeTask(task_data)
        }
        // the row is what is done and the proof that it is: an event that comes again finds its own
        yield* sql`INSERT INTO audit ${sql.insert(row)} ON CONFLICT (event_id) DO NOTHING`
      })
    )
    return consume(record, taskEvents, groups.audit)
  })
)

const Entry = Schema.Struct({
  event_id: Schema.String,
  task_id: Schema.String,
  action: Schema.String,
  happened_at: Schema.String,
  task_data: Schema.fromJsonString(Schema.Json)
})

/** The newest of a user, for the API. */
export const entriesOf = Effect.fnUntraced(function* (user: string) {
  const sql = yield* SqlClient.SqlClient
  const find = SqlSchema.findAll({
    Request: Schema.String,
    Result: Entry,
    execute: (user) => sql`SELECT event_id, task_id, action, happened_at, task_data FROM audit
      WHERE user_id = ${user} ORDER BY happened_at DESC LIMIT 200`
  })
  return yield* find(user)
})
