import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { NewTask, TaskPatch } from "../src/domain.ts"
import { Outbox } from "../src/outbox.ts"
import * as Reminders from "../src/reminders.ts"
import { Tasks } from "../src/tasks.ts"
import { World } from "./world.ts"

/** Types of the requests that were made beside those for new and finished tasks, in their order. */
const reminded = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{
    value: Uint8Array
  }>`SELECT value FROM outbox WHERE topic = 'notification.request' ORDER BY id`
  return rows
    .map(({ value }) => String((JSON.parse(new TextDecoder().decode(value)) as { type: string }).type))
    .filter((type) => type !== "task_created" && type !== "task_completed")
})

const inMinutes = (minutes: number) => Effect.map(DateTime.now, (now) => DateTime.add(now, { minutes }))

describe("reminders", () => {
  it.effect("an hour before it is due a task is reminded of, and again when it is overdue, once each", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* tasks.create("ada", new NewTask({ title: "a", due_at: yield* inMinutes(120) }))
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual(yield* reminded, [])
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder"])
      yield* TestClock.adjust("58 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder"])
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder", "task_overdue"])
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder", "task_overdue"])
    }).pipe(Effect.provide(Reminders.layer.pipe(Layer.provideMerge(World))))
  )

  it.effect("a task that gets another due time is reminded of again; one that is done or gone is not", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const due_at = yield* inMinutes(90)
      const [moved, done, gone] = [
        yield* tasks.create("ada", new NewTask({ title: "moved", due_at })),
        yield* tasks.create("ada", new NewTask({ title: "done", due_at })),
        yield* tasks.create("ada", new NewTask({ title: "gone", due_at }))
      ]
      yield* tasks.create("ada", new NewTask({ title: "never due" }))
      yield* tasks.complete("ada", done.id)
      yield* tasks.remove("ada", gone.id)
      yield* TestClock.adjust("35 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder"])
      yield* tasks.update("ada", moved.id, new TaskPatch({ due_at: yield* inMinutes(90) }))
      yield* TestClock.adjust("25 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder"])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder", "deadline_reminder"])
    }).pipe(Effect.provide(Reminders.layer.pipe(Layer.provideMerge(World))))
  )

  it.effect("a defect is one look that failed: what it should have found is found at the next one", () => {
    let defects = 0
    const Dying = Layer.effect(
      Outbox,
      Effect.map(Outbox, (outbox) => ({
        ...outbox,
        add: (topic, event) => (defects++ === 0 ? Effect.die("a defect") : outbox.add(topic, event))
      }))
    )
    return Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* tasks.create("ada", new NewTask({ title: "a", due_at: yield* inMinutes(90) }))
      yield* TestClock.adjust("2 hours")
      assert.isAbove(defects, 2)
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder", "task_overdue"])
    }).pipe(Effect.provide(Reminders.layer.pipe(Layer.provide(Dying), Layer.provideMerge(World))))
  })

  it.effect("two processes that look at once make one reminder", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* tasks.create("ada", new NewTask({ title: "a", due_at: yield* inMinutes(30) }))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* reminded, ["deadline_reminder"])
    }).pipe(
      Effect.provide(
        Layer.mergeAll(Layer.fresh(Reminders.layer), Layer.fresh(Reminders.layer)).pipe(Layer.provideMerge(World))
      )
    )
  )
})
