/** The HTTP API. Whoever asks is named by the header `x-user-id`, which a gateway would set that knows who it is. */
import { Effect, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import * as Audit from "./audit.ts"
import { NewTask, Notification, Task, TaskPatch } from "./domain.ts"
import { notificationsOf } from "./notifications.ts"
import { status } from "./status.ts"
import { Tasks } from "./tasks.ts"

const User = Schema.Struct({
  "x-user-id": Schema.String.check(Schema.isPattern(/^[\w.-]{1,64}$/, { expected: "a user's name" }))
})
const currentUser = Effect.map(HttpServerRequest.schemaHeaders(User), (headers) => headers["x-user-id"])

const taskId = Effect.map(HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.String })), ({ id }) => id)

const oneTask = HttpServerResponse.schemaJson(Task)
const allTasks = HttpServerResponse.schemaJson(Schema.Array(Task))

const allNotifications = HttpServerResponse.schemaJson(Schema.Array(Notification))

const refused = (status: number, error: string) => HttpServerResponse.jsonUnsafe({ error }, { status })

/** Errors of a route as answers: what the caller can mend with the reason, everything else as 500, with the reason in the log. */
const answered = <E extends { readonly _tag: string; readonly message: string }, R>(
  effect: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
) =>
  Effect.catch(effect, (error) => {
    switch (error._tag) {
      case "TaskNotFound":
        return Effect.succeed(refused(404, "no such task"))
      case "SchemaError":
      case "HttpServerError":
        return Effect.succeed(refused(400, error.message))
      default:
        return Effect.as(Effect.logError("a request failed", error), refused(500, "this failed here; it is in the log"))
    }
  })

export const layer = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const tasks = yield* Tasks
    yield* router.add(
      "GET",
      "/tasks",
      currentUser.pipe(
        Effect.flatMap(tasks.list),
        Effect.flatMap((all) => allTasks(all)),
        answered
      )
    )
    yield* router.add(
      "GET",
      "/tasks/:id",
      Effect.all([currentUser, taskId]).pipe(
        Effect.flatMap(([user, id]) => tasks.get(user, id)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "POST",
      "/tasks",
      Effect.all([currentUser, HttpServerRequest.schemaBodyJson(NewTask)]).pipe(
        Effect.flatMap(([user, task]) => tasks.create(user, task)),
        Effect.flatMap((task) => oneTask(task, { status: 201 })),
        answered
      )
    )
    yield* router.add(
      "PATCH",
      "/tasks/:id",
      Effect.all([currentUser, taskId, HttpServerRequest.schemaBodyJson(TaskPatch)]).pipe(
        Effect.flatMap(([user, id, patch]) => tasks.update(user, id, patch)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "POST",
      "/tasks/:id/complete",
      Effect.all([currentUser, taskId]).pipe(
        Effect.flatMap(([user, id]) => tasks.complete(user, id)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "DELETE",
      "/tasks/:id",
      Effect.all([currentUser, taskId]).pipe(
        Effect.flatMap(([user, id]) => tasks.remove(user, id)),
        Effect.as(HttpServerResponse.empty({ status: 204 })),
        answered
      )
    )
    yield* router.add(
      "GET",
      "/notifications",
      currentUser.pipe(
        Effect.flatMap(notificationsOf),
        Effect.flatMap((all) => allNotifications(all)),
        answered
      )
    )
    yield* router.add(
      "GET",
      "/audit",
      currentUser.pipe(
        Effect.flatMap(Audit.entriesOf),
        Effect.map((entries) => HttpServerResponse.jsonUnsafe(entries)),
        answered
      )
    )
    yield* router.add(
      "GET",
      "/status",
      status.pipe(
        Effect.map((now) => HttpServerResponse.jsonUnsafe(now)),
        answered
      )
    )
  })
)
