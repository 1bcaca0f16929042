import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { Settings } from "../src/settings.ts"
import { settings } from "./world.ts"

const read = (environment: Readonly<Record<string, string>>) => Effect.provide(Settings, settings(environment))

describe("settings", () => {
  it.effect("everything has a default, and every name can be another one", () =>
    Effect.gen(function* () {
      const { groups, reminders, topics } = yield* read({})
      assert.deepStrictEqual(topics, {
        taskEvents: "task-events",
        taskUpdates: "task-updates",
        notificationRequests: "notification.request",
        coverRequests: "cover.request"
      })
      assert.deepStrictEqual(groups, {
        audit: "audit-service",
        websocket: "websocket-service",
        notifications: "notification-service",
        covers: "cover-service"
      })
      assert.strictEqual(Duration.toMillis(reminders.ahead), 3_600_000)
      const other = yield* read({
        TASK_EVENTS_TOPIC: "prod.tasks",
        AUDIT_GROUP: "prod-audit",
        REMINDER_AHEAD: "2 hours"
      })
      assert.strictEqual(other.topics.taskEvents, "prod.tasks")
      assert.strictEqual(other.groups.audit, "prod-audit")
      assert.strictEqual(Duration.toMillis(other.reminders.ahead), 7_200_000)
    })
  )

  for (const [variable, value, accepted] of [
    ["TASK_EVENTS_TOPIC", "no spaces please", "the name of a topic"],
    ["AUDIT_GROUP", "two words", "the name of a group"],
    ["HTTP_PORT", "99999", "65535"],
    ["SMTP_URL", "mail.example:25", "smtp://host:port"],
    ["COVER_THREADS", "-1", "a number of threads, from 0 to 64"],
    ["COVER_THREADS", "some", "a number of threads, from 0 to 64"],
    ["REMINDER_EVERY", "often", "uration"],
    ["REMINDER_EVERY", "0 seconds", "a duration from 100 millis to 1 day"],
    ["REMINDER_EVERY", "Infinity", "a duration from 100 millis to 1 day"],
    ["REMINDER_AHEAD", "Infinity", "a duration from 0 seconds to 365 days"],
    ["REMINDER_AHEAD", "-1 hours", "a duration from 0 seconds to 365 days"]
  ] as const) {
    it.effect(`${variable}=${value} is an error that names the variable and what it accepts`, () =>
      Effect.gen(function* () {
        const { message } = yield* Effect.flip(read({ [variable]: value }))
        assert.include(message, variable)
        assert.include(message, accepted)
      })
    )
  }
})
