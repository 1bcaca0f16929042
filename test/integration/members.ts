/** Starts `member.ts` as processes and reads what they write. Each is ended with its scope, by its own id. */
import type { RebalanceSnapshot } from "@concurrent-kafka/core"
import { Effect } from "effect"
import { mkdtempSync, openSync, readSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Processes from "./processes.ts"

export interface MemberOptions {
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly concurrency: number
  readonly shutdown: "interrupt" | "drain"
  /** how long a handler takes, in milliseconds, at least and at most */
  readonly sleep: readonly [least: number, most: number]
  /** tell of starts and finalizers too */
  readonly starts?: boolean
  /** what records of the value `until <n>` wait for: a turn of at least n */
  readonly turn?: number
  /** more options of the consumer; what JSON can hold */
  readonly consumer?: Readonly<Record<string, number | string>>
  readonly file: string
}

export interface Handling {
  readonly pid: number
  readonly partition: number
  readonly offset: string
  readonly epoch: number
}

export type Event =
  | ({ readonly event: "started" | "handled" | "interrupted" | "finalized" } & Handling)
  | ({ readonly event: "rebalance" } & RebalanceSnapshot)
  | {
      readonly event: "state"
      readonly codes: ReadonlyArray<string>
      readonly commits: number
      readonly interrupted: number
      readonly released: number
      readonly unexpected: number
    }

/** topic, partition and offset are what a record is; there is one topic */
export const keyOf = (h: Handling): string => `${h.partition}/${h.offset}`

const chunk = Buffer.alloc(1 << 20)

export class Member {
  readonly handled: Array<Handling> = []
  readonly interrupted: Array<Handling> = []
  readonly started: Array<Handling> = []
  readonly finalized: Array<Handling> = []
  readonly rebalances: Array<RebalanceSnapshot> = []
  state: Extract<Event, { event: "state" }> | undefined = undefined
  private readonly process: Processes.Process
  private readonly file: number
  private position = 0
  private rest = ""

  constructor(process: Processes.Process, file: number) {
    this.process = process
    this.file = file
  }

  /** Takes in what was written since the last time. */
  read(): this {
    while (true) {
      const length = readSync(this.file, chunk, 0, chunk.length, this.position)
      if (length === 0) return this
      this.position += length
      const lines = (this.rest + chunk.toString("utf8", 0, length)).split("\n")
      this.rest = lines.pop()!
      for (const line of lines) this.take(JSON.parse(line) as Event)
    }
  }

  /** Revokes, oldest first. */
  get revokes(): ReadonlyArray<RebalanceSnapshot> {
    return this.rebalances.filter(({ kind }) => kind === "revoked")
  }

  /** How many partitions the newest assignment has. */
  get assigned(): number {
    return this.rebalances.findLast(({ kind }) => kind === "assigned")?.partitions ?? 0
  }

  get exited(): Processes.Process["exited"] {
    return this.process.exited
  }

  get terminate(): Processes.Process["terminate"] {
    return this.process.terminate
  }

  get kill(): Processes.Process["kill"] {
    return this.process.kill
  }

  private take(event: Event): void {
    switch (event.event) {
      case "state":
        this.state = event
        return
      case "rebalance":
        this.rebalances.push(event)
        return
      default:
        this[event.event].push(event)
    }
  }
}

/** A folder for the members' files. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "concurrent-kafka-members-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

let count = 0

/** A program that tells what happens as `member.ts` does, in the given file. Its standard input ends with this process. */
export const launch = Effect.fnUntraced(function* (
  within: string,
  program: (file: string) => readonly [command: string, args: ReadonlyArray<string>]
) {
  const file = join(within, `member-${++count}`)
  const descriptor = openSync(file, "a+")
  const [command, args] = program(file)
  return new Member(yield* Processes.start(command, args), descriptor)
})

export const start = (within: string, options: Omit<MemberOptions, "file">) =>
  launch(within, (file) => {
    const all: MemberOptions = { ...options, file }
    return [process.execPath, [join(import.meta.dirname, "member.ts"), JSON.stringify(all)]]
  })

/** What all members together have handled. */
export class Ledger {
  readonly members: Array<Member> = []
  private readonly read: Array<number> = []
  private readonly byRecord = new Map<string, Array<Handling>>()

  add(member: Member): Member {
    this.members.push(member)
    this.read.push(0)
    return member
  }

  /** Takes in what the members have written since the last time. */
  look(): this {
    this.members.forEach((member, i) => {
      const { handled } = member.read()
      for (; this.read[i]! < handled.length; this.read[i]!++) {
        const handling = handled[this.read[i]!]!
        const all = this.byRecord.get(keyOf(handling))
        if (all === undefined) this.byRecord.set(keyOf(handling), [handling])
        else all.push(handling)
      }
    })
    return this
  }

  /** How many different records were handled. */
  get distinct(): number {
    return this.byRecord.size
  }

  /** Records that were handled more than once, each with all of its handlings. */
  get twice(): ReadonlyArray<ReadonlyArray<Handling>> {
    return [...this.byRecord.values()].filter((all) => all.length > 1)
  }

  has(partition: number, offset: bigint): boolean {
    return this.byRecord.has(`${partition}/${offset}`)
  }

  /** Which of the records up to these ends were never handled. */
  missing(ends: ReadonlyMap<number, bigint>): ReadonlyArray<string> {
    const missing: Array<string> = []
    for (const [partition, end] of ends) {
      for (let offset = 0n; offset < end; offset++)
        if (!this.has(partition, offset)) missing.push(`${partition}/${offset}`)
    }
    return missing
  }
}
