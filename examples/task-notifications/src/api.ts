/** The HTTP API. Whoever asks is named by the header `x-user-id`, which a gateway would set that knows who it is. */
import { ByteSize, Effect, Schema } from "effect"
import {
  HttpIncomingMessage,
  HttpRouter,
  type HttpServerError,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import * as Audit from "./audit.ts"
import { coverOf } from "./covers.ts"
import { NewCover, NewTask, Notification, Task, TaskPatch, UserId } from "./domain.ts"
import { notificationsOf } from "./notifications.ts"
import { status } from "./status.ts"
import { TaskNotFound, Tasks } from "./tasks.ts"

/** Many times what a task needs. */
const largestBody = ByteSize.kibibytes(64)

/** What is asked for cannot be understood: whoever asks can mend it. What the database has and cannot be understood is an error of ours. */
class NotUnderstood extends Schema.TaggedError<NotUnderstood>()("NotUnderstood", {
  status: Schema.Literals([400, 413]),
  detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

const isTooLarge = (error: Schema.SchemaError | HttpServerError.HttpServerError) =>
  error._tag === "HttpServerError" &&
  error.reason._tag === "RequestParseError" &&
  error.reason.reason === "BodyTooLarge"

const understood = <A, R>(asked: Effect.Effect<A, Schema.SchemaError | HttpServerError.HttpServerError, R>) =>
  Effect.mapError(asked, (error) =>
    isTooLarge(error)
      ? new NotUnderstood({ status: 413, detail: `a body has no more than ${ByteSize.format(largestBody)}` })
      : new NotUnderstood({ status: 400, detail: error.message })
  )

const currentUser = HttpServerRequest.schemaHeaders(Schema.Struct({ "x-user-id": UserId })).pipe(
  understood,
  Effect.map((headers) => headers["x-user-id"])
)
const pathId = HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.String })).pipe(
  understood,
  Effect.map(({ id }) => id)
)
const body = <A, RD>(schema: Schema.ConstraintDecoder<A, RD>) =>
  HttpServerRequest.schemaBodyJson(schema).pipe(
    Effect.provideService(HttpIncomingMessage.MaxBodySize, largestBody),
    understood
  )

const oneTask = HttpServerResponse.schemaJson(Task)
const allTasks = HttpServerResponse.schemaJson(Schema.Array(Task))

const allNotifications = HttpServerResponse.schemaJson(Schema.Array(Notification))

const refused = (status: number, error: string) => HttpServerResponse.jsonUnsafe({ error }, { status })

/** Errors of a route as answers: what the caller can mend with the reason, everything else as 500, with the reason in the log. */
const answered = <E, R>(effect: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
  Effect.catch(effect, (error) =>
    error instanceof NotUnderstood
      ? Effect.succeed(refused(error.status, error.message))
      : error instanceof TaskNotFound
        ? Effect.succeed(refused(404, "no such task"))
        : Effect.as(Effect.logError("a request failed", error), refused(500, "this failed here; it is in the log"))
  )

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
      Effect.all([currentUser, pathId]).pipe(
        Effect.flatMap(([user, id]) => tasks.get(user, id)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "POST",
      "/tasks",
      Effect.all([currentUser, body(NewTask)]).pipe(
        Effect.flatMap(([user, task]) => tasks.create(user, task)),
        Effect.flatMap((task) => oneTask(task, { status: 201 })),
        answered
      )
    )
    yield* router.add(
      "PATCH",
      "/tasks/:id",
      Effect.all([currentUser, pathId, body(TaskPatch)]).pipe(
        Effect.flatMap(([user, id, patch]) => tasks.update(user, id, patch)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "POST",
      "/tasks/:id/complete",
      Effect.all([currentUser, pathId]).pipe(
        Effect.flatMap(([user, id]) => tasks.complete(user, id)),
        Effect.flatMap((task) => oneTask(task)),
        answered
      )
    )
    yield* router.add(
      "POST",
      "/tasks/:id/cover",
      Effect.all([currentUser, pathId, body(NewCover)]).pipe(
        Effect.flatMap(([user, id, { width }]) => tasks.requestCover(user, id, width)),
        Effect.as(HttpServerResponse.empty({ status: 202 })),
        answered
      )
    )
    yield* router.add(
      "GET",
      "/covers/:id",
      Effect.all([currentUser, pathId]).pipe(
        Effect.flatMap(([user, id]) => coverOf(user, id)),
        Effect.map((picture) =>
          picture === undefined
            ? refused(404, "no such cover")
            : HttpServerResponse.uint8Array(picture, { contentType: "image/png" })
        ),
        answered
      )
    )
    yield* router.add(
      "DELETE",
      "/tasks/:id",
      Effect.all([currentUser, pathId]).pipe(
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
