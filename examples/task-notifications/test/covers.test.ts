import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { inflateSync } from "node:zlib"
import { drawCover } from "../src/cover.ts"
import * as Covers from "../src/covers.ts"
import { NewTask } from "../src/domain.ts"
import { CoverRequest, Topics } from "../src/events.ts"
import { Tasks } from "../src/tasks.ts"
import { Kafka, until, World } from "./world.ts"

const request = Effect.fnUntraced(function* (event_id: string, task_id: string, at?: DateTime.Utc) {
  const { publish } = yield* KafkaProducer
  const { coverRequests } = yield* Topics
  const timestamp = at ?? (yield* DateTime.now)
  const event = new CoverRequest({ event_id, timestamp, user_id: "ada", task_id, width: 32 })
  yield* publish(coverRequests, event, { key: "ada" })
})

const newTask = Effect.flatMap(Tasks, ({ create }) => create("ada", new NewTask({ title: "a" })))
const coverOf = (id: string) => Effect.flatMap(Tasks, ({ get }) => Effect.map(get("ada", id), ({ cover }) => cover))

const service = <E>(painter: Layer.Layer<Covers.Painter, E>) =>
  Covers.layer.pipe(Layer.provide(painter), Layer.provideMerge(Kafka), Layer.provideMerge(World))

/** One that counts what it paints, and does first what the test says. */
const counting = (first: (request: CoverRequest) => Effect.Effect<void> = () => Effect.void) => {
  const painted: Array<string> = []
  const painter = Layer.succeed(Covers.Painter, {
    paint: (request) =>
      Effect.andThen(first(request), () => {
        painted.push(request.event_id)
        return Effect.succeed(new TextEncoder().encode(request.event_id))
      })
  })
  return { painted, painter }
}

describe("a cover", () => {
  it("is a picture of its width, the same for the same task and another one for another", () => {
    const picture = Buffer.from(drawCover("a", 32))
    assert.deepStrictEqual(picture.subarray(0, 8), Buffer.from("89504e470d0a1a0a", "hex"))
    assert.deepStrictEqual([picture.readUInt32BE(16), picture.readUInt32BE(20)], [32, 18])
    const data = picture.indexOf("IDAT")
    const pixels = inflateSync(picture.subarray(data + 4, data + 4 + picture.readUInt32BE(data - 4)))
    assert.strictEqual(pixels.length, 33 * 18)
    assert.isAbove(new Set(pixels).size, 20)
    assert.deepStrictEqual(Buffer.from(drawCover("a", 32)), picture)
    assert.notDeepEqual(Buffer.from(drawCover("b", 32)), picture)
  })

  it.live("is drawn on a thread, and its task says that it is there", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask
      yield* request("one", id)
      yield* until("it has a cover", coverOf(id), (cover) => cover === "one")
      assert.deepStrictEqual(Buffer.from((yield* Covers.coverOf("ada", "one")) ?? []), Buffer.from(drawCover(id, 32)))
    }).pipe(Effect.provide(service(Covers.Painter.layer.pipe(Layer.provide(World)))))
  )

  it.live(
    "is drawn once for a request that is delivered twice, and replaces the one before; never one of a newer request",
    () => {
      const { painted, painter } = counting()
      return Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id } = yield* newTask
        const now = yield* DateTime.now
        const later = DateTime.add(now, { seconds: 1 })
        yield* request("one", id, now)
        yield* request("one", id, now)
        yield* request("two", id, later)
        // both again, as after a kill
        yield* request("one", id, now)
        yield* request("two", id, later)
        const { id: last } = yield* newTask
        yield* request("last", last)
        yield* until("all is read", coverOf(last), (cover) => cover === "last")
        assert.deepStrictEqual(painted, ["one", "two", "last"])
        assert.deepStrictEqual(yield* sql`SELECT id FROM covers WHERE task_id = ${id}`, [{ id: "two" }])
      }).pipe(Effect.provide(service(painter)))
    }
  )

  it.live("of a task that is deleted meanwhile is nowhere, and no failure", () => {
    let onPaint: Effect.Effect<void> = Effect.void
    const { painted, painter } = counting(() => onPaint)
    return Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      const kafka = yield* MemoryKafka
      const { coverRequests } = yield* Topics
      const { id } = yield* newTask
      onPaint = Effect.asVoid(Effect.option(tasks.remove("ada", id)))
      yield* request("one", id)
      yield* request("never", "no such task")
      const { id: last } = yield* newTask
      yield* kafka.produce(coverRequests.name, [{ key: "ada", value: "no request" }])
      yield* request("last", last)
      yield* until("the last one has a cover", Effect.option(coverOf(last)), (cover) => Option.contains(cover, "last"))
      assert.deepStrictEqual(painted, ["one", "last"])
      assert.deepStrictEqual(yield* sql`SELECT id FROM covers`, [{ id: "last" }])
      // the one that is no request
      const letters = yield* kafka.admin.logOffsets(
        yield* kafka.admin.partitions([`${coverRequests.name}.dead-letter`])
      )
      assert.strictEqual(
        letters.reduce((sum, { end }) => sum + end, 0n),
        1n
      )
    }).pipe(Effect.provide(service(painter)))
  })
})
