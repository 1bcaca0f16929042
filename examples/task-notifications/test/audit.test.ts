import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer } from "effect"
import * as Audit from "../src/audit.ts"
import { Task } from "../src/domain.ts"
import { TaskEvent, Topics } from "../src/events.ts"
import { Kafka, until, World } from "./world.ts"

const event = (event_id: string) =>
  Effect.map(
    DateTime.now,
    (now) =>
      new TaskEvent({
        event_id,
        timestamp: now,
        user_id: "ada",
        type: "task.created",
        action: "created",
        task_id: "task-1",
        task_data: new Task({
          id: "task-1",
          user_id: "ada",
          title: "a task",
          due_at: null,
          completed_at: null,
          cover: null,
          channels: ["in_app"],
          version: 1,
          created_at: now,
          updated_at: now
        })
      })
  )

describe("the audit trail", () => {
  it.live("an event that is delivered twice has one row; what is no event goes to the dead letters", () =>
    Effect.gen(function* () {
      const { publish } = yield* KafkaProducer
      const { taskEvents } = yield* Topics
      const kafka = yield* MemoryKafka
      const [first, last] = [yield* event("first"), yield* event("last")]
      yield* publish(taskEvents, first, { key: "ada" })
      yield* kafka.produce(taskEvents.name, [{ key: "ada", value: `{"event_id":"half of one"}` }])
      yield* publish(taskEvents, first, { key: "ada" })
      yield* publish(taskEvents, last, { key: "ada" })
      const rows = yield* until("the last one is there", Audit.entriesOf("ada"), (all) =>
        all.some(({ event_id }) => event_id === "last")
      )
      assert.sameMembers(
        rows.map(({ event_id }) => event_id),
        ["first", "last"]
      )
      const letters = yield* kafka.admin.logOffsets(yield* kafka.admin.partitions([`${taskEvents.name}.dead-letter`]))
      assert.strictEqual(
        letters.reduce((sum, { end }) => sum + end, 0n),
        1n
      )
    }).pipe(Effect.provide(Audit.layer.pipe(Layer.provideMerge(Kafka), Layer.provideMerge(World))))
  )
})
