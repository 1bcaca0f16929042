/**
 * The classic way to consume: of each partition one record at a time, in order; a record that has begun is finished before the program
 * ends. See docs/one-at-a-time.md.
 */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, Layer } from "effect"
import { Kafka, topic, where } from "./kafka.ts"

const groupId = "one-at-a-time"
const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const ship = Handler.make(
  topic,
  Effect.fnUntraced(function* ({ offset, partition }) {
    yield* say(`begun ${partition}:${offset}`)
    yield* Effect.sleep("200 millis")
    yield* say(`finished ${partition}:${offset}`)
  })
)

const Orders = ConcurrentConsumer.layerHandler(ship, {
  groupId,
  // two memberships, each of which gets two of the four partitions
  members: 2,
  // as many handlers as a member may have partitions: with fewer, partitions wait for each other
  concurrency: 4,
  ordering: "partition",
  // each record is committed when it is done
  batchSize: 1,
  // a record that has begun is finished, at the end and when its partition moves: longer than the longest one takes
  shutdown: "drain",
  shutdownTimeout: "20 seconds",
  revokeDrain: "20 seconds",
  revokeTimeout: "30 seconds"
})

/** What the group has committed, told when the consumer has closed and before its client does. */
const Report = Layer.effectDiscard(
  Effect.flatMap(KafkaClient, (client) =>
    Effect.addFinalizer(() =>
      Effect.gen(function* () {
        const admin = yield* client.openAdmin
        const committed = yield* admin.committed(groupId, yield* admin.partitions([topic]))
        yield* say(`committed ${committed.map(({ offset, partition }) => `${partition}:${offset}`).join(" ")}`)
      }).pipe(
        Effect.scoped,
        Effect.catch((error) => say(`what is committed could not be read: ${error.message}`))
      )
    )
  )
)

const program = Effect.andThen(
  say(`Kafka: ${where}. Ctrl-C or SIGTERM: what has begun is finished.`),
  ConcurrentConsumer.launch(Orders.pipe(Layer.provide(Report), Layer.provide(Kafka)))
)

NodeRuntime.runMain(program, {
  teardown: (exit, onExit) => onExit(Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? 1 : 0)
})
