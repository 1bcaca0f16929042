/**
 * Reminders by the clock: a task that is due soon, and one that is overdue. Each is asked for once, for each due time that the task has had:
 * the row in `reminders` and the event in the outbox are one transaction, so it does not matter how many processes look, or when one dies.
 */
import { DateTime, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient, SqlSchema } from "effect/sql"
import type { NotificationType } from "./domain.ts"
import { NotificationRequest, Topics } from "./events.ts"
import { Outbox } from "./outbox.ts"
import { Settings } from "./settings.ts"
import { TaskRow } from "./tasks.ts"

const titles = { deadline_reminder: "Due soon", task_overdue: "Overdue" } satisfies Partial<
  Record<NotificationType, string>
>

export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox
    const { notificationRequests } = yield* Topics
    const { reminders } = yield* Settings

    const due = SqlSchema.findAll({
      Request: Schema.Struct({ type: Schema.String, after: Schema.String, until: Schema.String }),
      Result: TaskRow,
      execute: ({ after, type, until }) => sql`SELECT * FROM tasks
        WHERE completed_at IS NULL AND due_at > ${after} AND due_at <= ${until} AND NOT EXISTS
          (SELECT 1 FROM reminders WHERE task_id = tasks.id AND type = ${type} AND reminders.due_at = tasks.due_at)
        ORDER BY due_at, id`
    })

    const ask = Effect.fnUntraced(function* (type: keyof typeof titles, after: string, until: string) {
      for (const { channels, due_at, id, title, user_id } of yield* due({ type, after, until })) {
        if (due_at === null) continue
        yield* sql`INSERT INTO reminders ${sql.insert({ task_id: id, type, due_at: DateTime.formatIso(due_at) })}`
        yield* outbox.add(
          notificationRequests,
          new NotificationRequest({
            event_id: crypto.randomUUID(),
            timestamp: yield* DateTime.now,
            user_id,
            type,
            task_id: id,
            title: titles[type],
            message: title,
            channels
          })
        )
      }
    })

    const look = Effect.gen(function* () {
      const now = yield* DateTime.now
      const soon = DateTime.formatIso(DateTime.addDuration(now, reminders.ahead))
      const at = DateTime.formatIso(now)
      yield* ask("task_overdue", "", at)
      yield* ask("deadline_reminder", at, soon)
    }).pipe(sql.withTransaction)

    yield* look.pipe(
      Effect.catch((error) => Effect.logWarning("reminders are looked for again at the next time", error)),
      // it would end the fiber, and nobody would be reminded any more
      Effect.catchDefect((defect) => Effect.logError("reminders are looked for again at the next time", defect)),
      Effect.repeat(Schedule.spaced(reminders.every)),
      Effect.forkScoped
    )
  })
)
