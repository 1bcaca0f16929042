/**
 * The demo: `npm run example -- task-notifications`. Finds or starts a Kafka and an SMTP server that shows what it gets, makes the topics, and
 * runs the service in this process. `service.ts` is the service alone.
 */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import * as Kafka from "@concurrent-kafka/test/kafka"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, ConfigProvider, Effect, Exit, Layer } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { roles } from "./app.ts"
import { createTopics } from "./createTopics.ts"
import { deadLettersOf, topicNames } from "./events.ts"
import { mailSink } from "./mailSink.ts"
import { Settings } from "./settings.ts"

const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

/** Gone at the end, as is the data of a Kafka that is started here: a database that says "sent" of events that are gone would be no use. */
const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "task-notifications-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const demo = Effect.gen(function* () {
  yield* say("Kafka: looking for one; where Java starts it, Maven fetches its jars the first time ...")
  const { brokers, source } = yield* Kafka.start({ heap: "256m" })
  yield* say(`Kafka: ${brokers.join(", ")} (${source})`)
  const mail = yield* mailSink(({ messageId, subject, to }) => {
    process.stdout.write(`e-mail to ${to.join(", ")}: ${subject} ${messageId}\n`)
  })
  // what is set outside goes first, but for what belongs together here
  const environment = ConfigProvider.layer(
    ConfigProvider.fromEnvRecord({
      SMTP_URL: mail,
      INSTANCE_ID: "demo",
      ...process.env,
      KAFKA_BOOTSTRAP_SERVERS: brokers.join(","),
      DATABASE_FILE: join(yield* folder, "tasks.sqlite")
    })
  )
  const settings = yield* Effect.provide(Settings, Settings.layer.pipe(Layer.provide(environment)))
  const names = topicNames(settings)
  yield* createTopics(brokers, [...names, ...names.map((name) => deadLettersOf({ name }))], {
    partitions: 6,
    replicas: 1
  })
  yield* say(
    `The page: http://127.0.0.1:${settings.http.port}/   beside it the library's: http://127.0.0.1:${settings.http.port}/kafka/`
  )
  yield* say("Ctrl-C ends it")
  return yield* ConcurrentConsumer.launch(roles.all.pipe(Layer.provide(environment)))
}).pipe(Effect.scoped)

NodeRuntime.runMain(demo, {
  teardown: (exit, onExit) => onExit(Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? 1 : 0)
})
