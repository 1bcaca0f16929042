/** Everything that can be set, from the environment; those of the Kafka client are read by `KafkaJs.layerConfig`. */
import { Config, Context, Duration, Effect, Layer, Schema } from "effect"
import { availableParallelism } from "node:os"

/** What Kafka accepts as the name of a topic, with room for what is put behind it. */
const TopicName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9._-]{1,200}$/, { expected: "the name of a topic: letters, digits, and . _ -" })
)
const GroupName = Schema.String.check(
  Schema.isPattern(/^\S{1,200}$/, { expected: "the name of a group, without spaces" })
)
const Threads = Schema.NumberFromString.check(
  Schema.makeFilter((n) => Number.isInteger(n) && n >= 0 && n <= 64, { expected: "a number of threads, from 0 to 64" })
)
const SmtpUrl = Schema.String.check(
  Schema.isPattern(/^smtps?:\/\/\S+$/, { expected: "smtp://host:port or smtps://host:port" })
)

const topic = (variable: string, name: string) => Config.schema(TopicName, variable).pipe(Config.withDefault(name))
const group = (variable: string, name: string) => Config.schema(GroupName, variable).pipe(Config.withDefault(name))

type DurationText = Extract<Duration.Input, string>

/** `Infinity` is a duration too, and so is 0: a clock that never strikes, and one that does nothing else. */
const duration = (
  variable: string,
  usual: DurationText,
  [least, most]: readonly [least: DurationText, most: DurationText]
) =>
  Config.schema(
    Schema.DurationFromString.check(
      Schema.makeFilter(
        Duration.between({ minimum: Duration.fromInputUnsafe(least), maximum: Duration.fromInputUnsafe(most) }),
        { expected: `a duration from ${least} to ${most}` }
      )
    ),
    variable
  ).pipe(Config.withDefault(Duration.fromInputUnsafe(usual)))

const all = Config.all({
  http: Config.all({
    host: Config.NonEmptyString("HTTP_HOST").pipe(Config.withDefault("127.0.0.1")),
    port: Config.Port("HTTP_PORT").pipe(Config.withDefault(3000))
  }),
  databaseFile: Config.NonEmptyString("DATABASE_FILE").pipe(Config.withDefault("tasks.sqlite")),
  topics: Config.all({
    taskEvents: topic("TASK_EVENTS_TOPIC", "task-events"),
    taskUpdates: topic("TASK_UPDATES_TOPIC", "task-updates"),
    notificationRequests: topic("NOTIFICATION_REQUEST_TOPIC", "notification.request"),
    coverRequests: topic("COVER_REQUEST_TOPIC", "cover.request")
  }),
  groups: Config.all({
    audit: group("AUDIT_GROUP", "audit-service"),
    websocket: group("WEBSOCKET_GROUP", "websocket-service"),
    notifications: group("NOTIFICATION_GROUP", "notification-service"),
    covers: group("COVER_GROUP", "cover-service")
  }),
  /** A name of this process that it keeps over restarts: then it has its partitions back at once, even after a crash. */
  instanceId: Config.option(Config.schema(GroupName, "INSTANCE_ID")),
  mail: Config.all({
    url: Config.schema(SmtpUrl, "SMTP_URL").pipe(Config.withDefault("smtp://127.0.0.1:1025")),
    /** Also the right half of each Message-ID, and of the addresses of users. */
    domain: Config.NonEmptyString("MAIL_DOMAIN").pipe(Config.withDefault("tasks.example"))
  }),
  /** How many covers are drawn at once, each on a thread of its own. 0: in the event loop, one after another. */
  coverThreads: Config.schema(Threads, "COVER_THREADS").pipe(
    Config.withDefault(Math.max(1, availableParallelism() - 1))
  ),
  reminders: Config.all({
    every: duration("REMINDER_EVERY", "30 seconds", ["100 millis", "1 day"]),
    /** So long before a task is due. */
    ahead: duration("REMINDER_AHEAD", "1 hour", ["0 seconds", "365 days"])
  })
})

export class Settings extends Context.Service<Settings, Config.Success<typeof all>>()("task-notifications/Settings") {
  /** Fails with the name of the variable and what it accepts. */
  static readonly layer = Layer.effect(Settings, Effect.map(all, Settings.of))
}
