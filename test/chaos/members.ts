/** Starts `member.ts` as processes, and reads what they write while they run. */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Processes from "../integration/processes.ts"
import { until } from "../integration/until.ts"
import * as Ledger from "./ledger.ts"
import type { MemberOptions } from "./member.ts"

const counting = (db: DatabaseSync, query: string): (() => number) => {
  const statement = db.prepare(query)
  return () => Number(statement.get()?.["n"] ?? 0)
}

export class Member {
  readonly process: Processes.Process
  readonly file: string
  /** which signal was sent, and when */
  private readonly told: (name: NodeJS.Signals) => void
  private readonly db: DatabaseSync
  private readonly countFinished: () => number
  private readonly countAssigned: () => number
  private readonly countSaid: ReturnType<DatabaseSync["prepare"]>
  private readonly countLost: () => number
  /** The signal that ended it, or is about to. */
  asked: "SIGTERM" | "SIGKILL" | undefined = undefined

  constructor(process: Processes.Process, file: string, told: (name: NodeJS.Signals) => void) {
    this.process = process
    this.file = file
    this.told = told
    this.db = new DatabaseSync(file, { readOnly: true, timeout: 5000 })
    this.countFinished = counting(this.db, "SELECT count(*) AS n FROM handlings WHERE outcome = 'finished'")
    this.countAssigned = counting(this.db, "SELECT assigned AS n FROM states")
    this.countSaid = this.db.prepare("SELECT count(*) AS n FROM codes WHERE code = ?")
    this.countLost = counting(this.db, "SELECT count(*) AS n FROM rebalances WHERE kind = 'lost'")
  }

  get pid(): number {
    return this.process.pid
  }

  /** How many handlers have finished. */
  get finished(): number {
    return this.countFinished()
  }

  /** How many partitions it has. */
  get assigned(): number {
    return this.countAssigned()
  }

  /** How often it has lost its membership. */
  get lost(): number {
    return this.countLost()
  }

  /** Whether its health has ever said so. */
  said(code: string): boolean {
    return Number(this.countSaid.get(code)?.["n"]) > 0
  }

  signal(name: NodeJS.Signals): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.told(name)
      return this.process.signal(name)
    })
  }

  /** SIGTERM, once it would be heard; returns when it is gone. */
  get terminate(): Effect.Effect<Processes.Exited> {
    return Effect.suspend(() => {
      this.asked = "SIGTERM"
      const mark = join(dirname(this.file), `up-${this.pid}`)
      const up = until(
        `process ${this.pid} is up`,
        Effect.sync(() => existsSync(mark)),
        (yes) => yes
      )
      return Effect.andThen(
        Effect.raceFirst(up, this.process.exited),
        Effect.andThen(this.signal("SIGTERM"), this.process.exited)
      )
    })
  }

  /** SIGKILL; returns when it is gone. */
  get kill(): Effect.Effect<Processes.Exited> {
    return Effect.suspend(() => {
      this.asked = "SIGKILL"
      return Effect.andThen(this.signal("SIGKILL"), this.process.exited)
    })
  }

  close(): void {
    this.db.close()
  }
}

let started = 0

/** Its ledger is there when it has started. */
export const start = Effect.fnUntraced(function* (
  options: Omit<MemberOptions, "ledger">,
  told: (pid: number, name: NodeJS.Signals) => void
) {
  const ledger = join(options.folder, `member-${++started}.sqlite`)
  yield* Effect.sync(() => Ledger.openOwn(ledger).close())
  const all: MemberOptions = { ...options, ledger }
  const own = yield* Processes.start(
    process.execPath,
    [join(import.meta.dirname, "member.ts"), JSON.stringify(all)],
    ledger.replace(/sqlite$/, "log")
  )
  return yield* Effect.acquireRelease(
    Effect.sync(() => new Member(own, ledger, (name) => told(own.pid, name))),
    (member) => Effect.sync(() => member.close())
  )
})
