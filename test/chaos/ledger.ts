/**
 * What happened, kept outside of Kafka: one SQLite file for each process, and one for the run, into which they are gathered.
 *
 * A process writes into its own file only. A file that all of them shared would be locked by the one that is stopped in the middle of
 * a write. What was written before a process was killed is there: the system has it, the process does not keep it.
 *
 * Times are milliseconds of the machine's monotonic clock, which all processes share.
 */
import { DatabaseSync } from "node:sqlite"
import type { StatementSync } from "node:sqlite"

/** Milliseconds since the machine was started. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/** The same for a time of day. */
export const fromTimeOfDay = (millis: number): number => millis - Date.now() + now()

const tables = {
  /** One attempt of a handler. A row without an outcome was running when its process was killed. */
  handlings:
    "id INTEGER PRIMARY KEY, pid INTEGER, topic TEXT, log TEXT, partition INTEGER, offset INTEGER, record INTEGER, key TEXT, epoch INTEGER, " +
    "generation INTEGER, attempt INTEGER, started REAL, finished REAL, outcome TEXT",
  /** A partition that a process began to read, and where. */
  epochs: "pid INTEGER, topic TEXT, partition INTEGER, epoch INTEGER, generation INTEGER, offset INTEGER, begun REAL",
  /** One entry of a commit that a process has sent, and what became of it. */
  commits:
    "id INTEGER PRIMARY KEY, pid INTEGER, topic TEXT, partition INTEGER, epoch INTEGER, generation INTEGER, offset INTEGER, metadata TEXT, " +
    "sent REAL, answered REAL, outcome TEXT, code TEXT",
  rebalances: "pid INTEGER, at REAL, kind TEXT, partitions INTEGER, millis REAL, inFlight INTEGER",
  /** What the health of a process has said, and when first. */
  codes: "pid INTEGER, code TEXT, at REAL, PRIMARY KEY (pid, code)",
  /** The newest figures of a process. */
  states:
    "pid INTEGER PRIMARY KEY, at REAL, assigned INTEGER, interrupted INTEGER, released INTEGER, fenced INTEGER, lost INTEGER, unexpected INTEGER"
} as const

const runTables = {
  /** `acknowledged` is null when the broker has not said that it has the record. */
  produced: "record INTEGER PRIMARY KEY, log TEXT, key TEXT, kind TEXT, acknowledged REAL",
  /** What a plain client read as committed, where it differs from what it read before. */
  samples: "log TEXT, partition INTEGER, offset INTEGER, metadata TEXT, answered REAL",
  /** Where the logs end when all is over. */
  ends: "log TEXT, partition INTEGER, offset INTEGER, PRIMARY KEY (log, partition)",
  signals: "pid INTEGER, name TEXT, at REAL",
  /** How processes have ended, and which signal had told them to: none, where they did by themselves. */
  exits: "pid INTEGER, code INTEGER, asked TEXT, at REAL",
  /** What was done, in words. */
  notes: "at REAL, what TEXT",
  /** Dead letters, by the record that they are made of; `at` is the broker's time. */
  letters: "log TEXT, partition INTEGER, offset INTEGER, at REAL",
  /** Where the broker was made to delete what lies before an offset. */
  cuts: "log TEXT, partition INTEGER, offset INTEGER, at REAL"
} as const

const create = (db: DatabaseSync, all: Readonly<Record<string, string>>): void => {
  for (const [name, columns] of Object.entries(all)) db.exec(`CREATE TABLE IF NOT EXISTS ${name} (${columns})`)
}

const open = (file: string): DatabaseSync => {
  const db = new DatabaseSync(file)
  // nothing is to survive the machine, and a process that writes must not wait for the disk
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 5000")
  return db
}

/** Of one process. */
export const openOwn = (file: string): DatabaseSync => {
  const db = open(file)
  create(db, tables)
  return db
}

/** Of the run; in memory for tests. */
export const openRun = (file: string): DatabaseSync => {
  const db = open(file)
  create(db, { ...tables, ...runTables })
  return db
}

/** Takes in what a process has written. */
export const gather = (run: DatabaseSync, file: string): void => {
  run.prepare("ATTACH DATABASE ? AS own").run(file)
  for (const name of Object.keys(tables)) {
    const columns = run
      .prepare(`SELECT name FROM pragma_table_info(?) WHERE NOT (name = 'id')`)
      .all(name)
      .map((row) => `"${String(row["name"])}"`)
      .join(", ")
    // ids stay in the order of their process
    run.exec(`INSERT INTO ${name} (${columns}) SELECT ${columns} FROM own.${name} ORDER BY rowid`)
  }
  run.exec("DETACH DATABASE own")
}

/** What a query counts as `n`. */
export const count = (db: DatabaseSync, query: string, ...parameters: ReadonlyArray<number | string>): number =>
  Number(db.prepare(query).get(...parameters)?.["n"] ?? 0)

/** Statements that are prepared once. */
export const statements = (db: DatabaseSync): ((sql: string) => StatementSync) => {
  const prepared = new Map<string, StatementSync>()
  return (sql) => {
    const found = prepared.get(sql) ?? db.prepare(sql)
    prepared.set(sql, found)
    return found
  }
}
