/** The tables. Each migration runs once, in its order; one that has been released is never changed. */
import { Effect, Layer } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { Settings } from "./settings.ts"
import * as Sqlite from "./sqlite.ts"

const first = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE tasks (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, title TEXT NOT NULL, due_at TEXT, completed_at TEXT, channels TEXT NOT NULL,
    version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)`
  yield* sql`CREATE INDEX tasks_of_user ON tasks (user_id, created_at)`
  yield* sql`CREATE INDEX tasks_due ON tasks (due_at) WHERE completed_at IS NULL AND due_at IS NOT NULL`

  // AUTOINCREMENT: an id is never given again, so that ids are the order of the changes
  yield* sql`CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, key BLOB, value BLOB NOT NULL,
    created_at TEXT NOT NULL, sent_at TEXT, refused TEXT)`
  yield* sql`CREATE INDEX outbox_waiting ON outbox (id) WHERE sent_at IS NULL AND refused IS NULL`

  // the event's id is the key: an event that is delivered twice has one row
  yield* sql`CREATE TABLE audit (
    event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, task_id TEXT NOT NULL, action TEXT NOT NULL, happened_at TEXT NOT NULL,
    task_data TEXT NOT NULL)`
  yield* sql`CREATE INDEX audit_of_user ON audit (user_id, happened_at)`

  yield* sql`CREATE TABLE notifications (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, task_id TEXT, type TEXT NOT NULL, title TEXT NOT NULL, message TEXT NOT NULL,
    status TEXT NOT NULL, created_at TEXT NOT NULL)`
  yield* sql`CREATE INDEX notifications_of_user ON notifications (user_id, created_at)`
  yield* sql`CREATE TABLE deliveries (
    notification_id TEXT NOT NULL REFERENCES notifications (id), channel TEXT NOT NULL, sent_at TEXT,
    PRIMARY KEY (notification_id, channel))`

  // a task that gets another due time is reminded of again
  yield* sql`CREATE TABLE reminders (
    task_id TEXT NOT NULL, type TEXT NOT NULL, due_at TEXT NOT NULL, PRIMARY KEY (task_id, type, due_at))`
})

const second = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE tasks ADD COLUMN cover TEXT`
  yield* sql`CREATE TABLE covers (
    id TEXT PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, requested_at TEXT NOT NULL, picture BLOB NOT NULL)`
})

const migrate = Migrator.make({})({ loader: Migrator.fromRecord({ "0001_tables": first, "0002_covers": second }) })

/** An open database whose tables are there. */
export const layerOf = (file: string) => Layer.effectDiscard(migrate).pipe(Layer.provideMerge(Sqlite.layer(file)))

export const layer = Layer.unwrap(Effect.map(Settings, ({ databaseFile }) => layerOf(databaseFile)))
