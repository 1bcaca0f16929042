/** `KAFKA_ENABLED=false`: a process of its own, with no Kafka anywhere. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Ports from "../../../test/kafka/ports.ts"
import { start } from "./child.ts"
import { until } from "./world.ts"

describe("the service without Kafka", () => {
  it.live("the API works, it says what is off, events are kept, and SIGTERM ends it with 0", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "task-notifications-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const [port] = yield* Ports.free(1)
      const environment = {
        KAFKA_ENABLED: "false",
        KAFKA_BOOTSTRAP_SERVERS: "",
        DATABASE_FILE: join(folder, "tasks.sqlite"),
        HTTP_PORT: String(port)
      }
      const child = yield* start("all", environment, join(folder, "log"))
      const ask = (method: string, path: string, body?: unknown) =>
        Effect.promise(async () => {
          const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
            method,
            headers: { "x-user-id": "ada", "content-type": "application/json" },
            ...(body === undefined ? {} : { body: JSON.stringify(body) })
          })
          return { status: answer.status, body: answer.status === 204 ? undefined : await answer.json() }
        })
      const ids = ({ body }: { readonly body: unknown }) =>
        (body as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)

      yield* until("it listens", child.said, (said) => said.includes("listening on"))
      const made = yield* ask("POST", "/tasks", { title: "a task" })
      assert.strictEqual(made.status, 201)
      const { id } = made.body as { readonly id: string }
      assert.strictEqual((yield* ask("PATCH", `/tasks/${id}`, { title: "another" })).status, 200)
      assert.strictEqual((yield* ask("POST", `/tasks/${id}/complete`)).status, 200)
      assert.deepStrictEqual(ids(yield* ask("GET", "/tasks")), [id])
      assert.strictEqual((yield* ask("PATCH", `/tasks/${id}`, { title: "" })).status, 400)
      assert.strictEqual((yield* ask("GET", `/tasks/${id}x`)).status, 404)
      assert.strictEqual((yield* ask("DELETE", `/tasks/${id}`)).status, 204)
      assert.deepStrictEqual(ids(yield* ask("GET", "/tasks")), [])
      assert.deepStrictEqual((yield* ask("GET", "/status")).body, {
        kafka: "off",
        off: ["the audit trail", "live updates of pages", "notifications", "covers"],
        // two of each change, and the notifications of the first and the last but one
        outbox: { waiting: 10, refused: 0 }
      })
      yield* until("it says so", child.said, (said) =>
        said.includes("Kafka is switched off: events wait in the outbox")
      )
      yield* child.signal("SIGTERM")
      assert.strictEqual((yield* child.exited).code, 0)
    })
  )
})
