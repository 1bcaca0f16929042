import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sqlite from "../src/sqlite.ts"

const file = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sqlite-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
).pipe(Effect.map((folder) => join(folder, "db.sqlite")))

describe("errors of SQLite", () => {
  it.effect(
    "say what they are: a lock of somebody else, which may be gone with the next attempt, and a row that is there",
    () =>
      Effect.gen(function* () {
        const path = yield* file
        const other = yield* Effect.acquireRelease(
          Effect.sync(() => new DatabaseSync(path)),
          (db) => Effect.sync(() => db.close())
        )
        other.exec("CREATE TABLE things (id TEXT UNIQUE)")
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql`PRAGMA busy_timeout = 0`
          const insert = sql`INSERT INTO things ${sql.insert({ id: "one" })}`
          other.exec("BEGIN IMMEDIATE")
          const locked = yield* Effect.flip(insert)
          assert.strictEqual(locked.reason._tag, "LockTimeoutError")
          assert.isTrue(locked.isRetryable)
          other.exec("ROLLBACK")
          yield* insert
          assert.strictEqual((yield* Effect.flip(insert)).reason._tag, "UniqueViolation")
        }).pipe(Effect.provide(Sqlite.layer(path)))
      }).pipe(Effect.scoped)
  )
})
