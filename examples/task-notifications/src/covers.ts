/**
 * Group `cover-service`: draws the cover that somebody has asked for.
 *
 * Drawing needs the CPU and nothing else. In the event loop it would keep everything else in this process from it: the API, pushes to pages,
 * and the heartbeats by which Kafka knows that its consumers are alive. So it runs on threads, under the same permits, order, retries and
 * interruption as any other handler: a rebalance, or the end of this process, ends a cover in its middle, and the next owner draws it.
 *
 * The picture and the task that says it has one are written in one transaction, under the id of the event: a request that comes again, from
 * Kafka or from the dead letters, finds its cover there, or that of a newer one.
 */
import { Topic } from "@concurrent-kafka/core/Topic"
import { WorkerPool, type WorkerError, type WorkerRecord } from "@concurrent-kafka/workers"
import { Context, DateTime, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { consume } from "./consume.ts"
import { drawCover } from "./cover.ts"
import type * as CoverWorker from "./cover.worker.ts"
import { type CoverRequest, Topics } from "./events.ts"
import { Settings } from "./settings.ts"
import { Tasks } from "./tasks.ts"

export class Painter extends Context.Service<
  Painter,
  {
    readonly paint: (request: CoverRequest, record: WorkerRecord) => Effect.Effect<Uint8Array, WorkerError>
  }
>()("task-notifications/Painter") {
  /** On threads; or in the event loop, which is there to see what that costs. */
  static readonly layer = Layer.effect(
    Painter,
    Effect.gen(function* () {
      const { coverThreads } = yield* Settings
      if (coverThreads === 0) {
        return Painter.of({ paint: ({ task_id, width }) => Effect.sync(() => drawCover(task_id, width)) })
      }
      const pool = yield* WorkerPool.make<typeof CoverWorker>({
        module: new URL("./cover.worker.ts", import.meta.url),
        size: coverThreads
      })
      return Painter.of({ paint: (_, record) => pool.handle(record) })
    })
  )
}

export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const { paint } = yield* Painter
    const sql = yield* SqlClient.SqlClient
    const tasks = yield* Tasks
    const { coverRequests } = yield* Topics
    const { groups } = yield* Settings
    const isAnswered = ({ event_id, task_id, timestamp }: CoverRequest) =>
      Effect.map(
        sql`SELECT 1 FROM covers WHERE task_id = ${task_id}
          AND (id = ${event_id} OR requested_at > ${DateTime.formatIso(timestamp)})`,
        (found) => found.length > 0
      )
    const handler = Topic.handler(
      coverRequests,
      Effect.fnUntraced(
        function* (request, record) {
          yield* tasks.get(request.user_id, request.task_id)
          if (yield* isAnswered(request)) return
          yield* tasks.setCover(request, yield* paint(request, record))
        },
        // deleted since then, maybe while its cover was drawn
        Effect.catchTag("TaskNotFound", () => Effect.void)
      )
    )
    return consume(handler, coverRequests, groups.covers)
  })
)

/** The picture of this id, of this user's task. */
export const coverOf = Effect.fnUntraced(function* (user: string, id: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ picture: Uint8Array }>`SELECT picture FROM covers
    JOIN tasks ON tasks.cover = covers.id WHERE covers.id = ${id} AND tasks.user_id = ${user}`
  return found?.picture
})
