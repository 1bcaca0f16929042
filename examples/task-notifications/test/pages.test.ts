import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import { Cause, DateTime, Effect, Exit, Layer, Queue } from "effect"
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { TaskUpdateEvent, Topics } from "../src/events.ts"
import * as Pages from "../src/pages.ts"
import { Kafka, until, World } from "./world.ts"

const update = (user_id: string, title: string) =>
  Effect.gen(function* () {
    const { publish } = yield* KafkaProducer
    const { taskUpdates } = yield* Topics
    const event = new TaskUpdateEvent({
      event_id: title,
      timestamp: yield* DateTime.now,
      user_id,
      type: "task",
      task_id: title,
      changes: { title }
    })
    yield* publish(taskUpdates, event, { key: user_id })
  })

/** From here on it reads: what was before is not pushed. */
const reading = Effect.flatMap(ConsumerRegistry, (registry) =>
  until(
    "the consumer reads",
    Effect.flatMap(registry.consumers, (all) => Effect.forEach(all, ({ health }) => health)),
    (all) => all.length > 0 && all.every(({ reasons }) => reasons.length === 0)
  )
)

const Consumer = Pages.layerConsumer.pipe(
  Layer.provideMerge(Pages.Pages.layer),
  Layer.provideMerge(Kafka),
  Layer.provideMerge(World)
)

describe("the pages", () => {
  it.live("a change is pushed to every page of its user and to nobody else's; what is no change is passed over", () =>
    Effect.gen(function* () {
      yield* reading
      const { join } = yield* Pages.Pages
      const [one, another, other] = [yield* join("ada"), yield* join("ada"), yield* join("grace")]
      yield* update("ada", "first")
      const kafka = yield* MemoryKafka
      const { taskUpdates } = yield* Topics
      yield* kafka.produce(taskUpdates.name, [{ key: "ada", value: "no JSON" }])
      yield* update("ada", "second")
      yield* update("grace", "third")
      const pushed = (title: string) => JSON.stringify({ type: "task", task_id: title, changes: { title } })
      for (const page of [one, another]) {
        assert.deepStrictEqual(yield* Queue.takeN(page, 2), [pushed("first"), pushed("second")])
      }
      assert.deepStrictEqual(yield* Queue.take(other), pushed("third"))
    }).pipe(Effect.provide(Consumer))
  )

  it.effect("a page that is too far behind is cut off; the others of its user go on", () =>
    Effect.gen(function* () {
      const { join, push } = yield* Pages.Pages
      const [slow, quick] = [yield* join("ada"), yield* join("ada")]
      for (let n = 0; n < 300; n++) {
        yield* push("ada", String(n))
        assert.strictEqual(yield* Queue.take(quick), String(n))
      }
      const seen = yield* Effect.exit(Effect.forever(Queue.take(slow)))
      assert.isTrue(Exit.isFailure(seen) && Cause.isDone(Exit.isFailure(seen) ? Cause.squash(seen.cause) : undefined))
    }).pipe(Effect.provide(Pages.Pages.layer))
  )

  it.effect("when the service closes every page ends, and one that comes then ends at once", () =>
    Effect.gen(function* () {
      const { closeAll, join } = yield* Pages.Pages
      const page = yield* join("ada")
      yield* closeAll
      for (const ended of [page, yield* join("ada")])
        assert.isTrue(Exit.isFailure(yield* Effect.exit(Queue.take(ended))))
    }).pipe(Effect.provide(Pages.Pages.layer))
  )
})
