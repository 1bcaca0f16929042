/**
 * SQLite for `effect/sql`, on Node's own `node:sqlite`: no native module to build. Another database is another layer, such as
 * `PgClient.layer` of `@effect/sql-pg`; nothing else of this service knows which one it is, but for a few words of SQL.
 */
import { Effect, Layer, Semaphore, Stream } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"
import { DatabaseSync, type SQLInputValue } from "node:sqlite"

/** So long one process waits for the other's transaction. It blocks the event loop meanwhile, so transactions here are short. */
const busyMillis = 5_000

/** Node says in `errcode` what effect looks for in `errno`: without it a lock is an error that nobody can classify. */
const classified = (cause: unknown, what: { readonly operation: string; readonly message?: string }) => {
  if (cause instanceof Error && "errcode" in cause) Object.assign(cause, { errno: cause.errcode })
  return new SqlError.SqlError({ reason: SqlError.classifySqliteError(cause, what) })
}

const open = (file: string) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        const db = new DatabaseSync(file, { timeout: busyMillis })
        // readers of one process do not wait for the writer of the other
        db.exec("PRAGMA journal_mode = WAL")
        return db
      },
      catch: (cause) => classified(cause, { operation: "open" })
    }),
    (db) => Effect.sync(() => db.close())
  )

const connection = (db: DatabaseSync): SqlConnection.Connection => {
  const query = <A>(sql: string, run: () => A): Effect.Effect<A, SqlError.SqlError> =>
    Effect.try({
      try: run,
      catch: (cause) => classified(cause, { message: `failed: ${sql}`, operation: "execute" })
    })
  // what is bound comes from the statements of this service
  const rows = (sql: string, params: ReadonlyArray<unknown>) =>
    query(sql, () => db.prepare(sql).all(...(params as ReadonlyArray<SQLInputValue>)))
  const values = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.map(rows(sql, params), (all) => all.map((row) => Object.values(row)))
  return {
    execute: rows,
    executeRaw: rows,
    executeUnprepared: rows,
    executeValues: values,
    executeValuesUnprepared: values,
    executeStream: (sql, params) => Stream.fromIterableEffect(rows(sql, params))
  }
}

/** One connection; whoever has it has it alone, a transaction until its end. */
export const layer = (file: string): Layer.Layer<SqlClient.SqlClient, SqlError.SqlError> =>
  Layer.effect(
    SqlClient.SqlClient,
    Effect.gen(function* () {
      const db = yield* open(file)
      return yield* SqlClient.make({
        ...SqlClient.makeSqliteAcquirers({
          connection: Effect.succeed(connection(db)),
          semaphore: yield* Semaphore.make(1),
          isTransaction: () => db.isTransaction
        }),
        compiler: Statement.makeCompilerSqlite(),
        driver: "node:sqlite",
        spanAttributes: [["db.system.name", "sqlite"]],
        // takes the lock at once: one that reads first and writes then could be refused in the middle
        beginTransaction: "BEGIN IMMEDIATE"
      })
    })
  ).pipe(Layer.provide(Reactivity.layer))
