/**
 * What became of each record: every attempt of a watched handler, and every decision of its policy.
 */
import type { ConsumerRecord, Delivery, TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import { Directive } from "@concurrent-kafka/core/Directive"
import type { Decision, FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { Handler } from "@concurrent-kafka/core/Handler"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Formatter from "effect/Formatter"
import type { RecordStatus } from "../TestKit.ts"

/** One run of a handler. */
export interface Run extends TopicPartition {
  readonly offset: bigint
  readonly attempt: number
  readonly process: string
  readonly startedAt: number
  readonly record: ConsumerRecord
  endedAt: number | undefined
  end: "running" | "handled" | "failed" | "interrupted" | "killed"
  /** tag or name of what it failed with */
  error: string | undefined
}

/** What is known of a record from its last run, or from the decision about it. */
export type Last =
  | "waiting"
  | "running"
  | "handled"
  | "failed"
  | "skipped"
  | "retrying"
  | "parked"
  | "sending"
  | "stopped"

export interface Account {
  readonly runs: Array<Run>
  last: Last
  process: string
}

export interface Watcher {
  readonly started?: (run: Run) => void
  readonly ended?: (run: Run) => void
  readonly decided?: (record: Delivery, decision: string, process: string) => void
}

export const keyOf = (at: TopicPartition & { readonly offset: bigint }): string =>
  `${at.topic}/${at.partition}@${at.offset}`

const afterDecision: Readonly<Record<Decision["_tag"], Last>> = {
  Retry: "retrying",
  Skip: "skipped",
  DeadLetter: "sending",
  Park: "parked",
  Stop: "stopped"
}

const afterDirective: Readonly<Record<Directive.Any["kind"], Last>> = {
  Retry: "retrying",
  Skip: "skipped",
  DeadLetter: "sending"
}

export class Recorder {
  readonly runs: Array<Run> = []
  readonly accounts = new Map<string, Account>()
  /** handlers that run, in processes that are not dead */
  running = 0
  private readonly now: () => number
  private readonly watcher: Watcher

  constructor(now: () => number, watcher: Watcher = {}) {
    this.now = now
    this.watcher = watcher
  }

  private account(key: string, process: string): Account {
    let account = this.accounts.get(key)
    if (account === undefined) this.accounts.set(key, (account = { runs: [], last: "waiting", process }))
    return account
  }

  /** The same handler, in this process, with every run of it written down. */
  handler<E, R>(process: string, handler: Handler<E, R>): Handler<E, R> {
    return {
      ...handler,
      handle: (delivery) =>
        Effect.withFiber((fiber) => {
          const run = this.start(process, delivery)
          let acked = false
          fiber.addObserver((exit) => this.ended(run, exit, acked))
          const ack = Effect.andThen(
            Effect.sync(() => {
              acked = true
            }),
            delivery.ack
          )
          // everything else is read through: a delivery is one object a record, and its fields are getters
          const watched: Delivery = Object.create(delivery, { ack: { value: ack } })
          return handler.handle(watched)
        })
    }
  }

  /** The same policy, with every decision of it written down. */
  policy<E, R>(process: string, policy: FailurePolicy<E, R>): FailurePolicy<E, R> {
    return {
      ...policy,
      decide: (failure) =>
        Effect.tap(policy.decide(failure), ({ _tag }) =>
          Effect.sync(() => {
            const account = this.account(keyOf(failure.record), process)
            account.last = afterDecision[_tag]
            this.watcher.decided?.(failure.record, afterDecision[_tag], process)
          })
        )
    }
  }

  /** What became of a record; `letters` are the records that have dead letters. */
  statusOf(record: ConsumerRecord, isDone: boolean, letters: ReadonlySet<string>): RecordStatus {
    const account = this.accounts.get(keyOf(record))
    if (letters.has(keyOf(record))) return "deadLettered"
    const last = account?.last ?? "waiting"
    if (last === "handled" || last === "skipped" || !isDone) return last
    // done, and neither its handler nor its policy said so: passed over, or what came after it was parked
    if (account === undefined) return "filtered"
    return account.runs.some((run) => run.end === "handled") ? "handled" : "skipped"
  }

  /** Nothing of this process goes on: what it had not finished comes again. */
  gone(process: string): void {
    for (const account of this.accounts.values()) {
      if (account.process === process && account.last !== "handled" && account.last !== "skipped") {
        account.last = "waiting"
      }
      // two processes can have had the same record, each for itself
      for (const run of account.runs) {
        if (run.process !== process || run.end !== "running") continue
        run.end = "killed"
        this.running--
        run.endedAt = this.now()
        this.watcher.ended?.(run)
      }
    }
  }

  private start(process: string, delivery: Delivery): Run {
    const { attempt, headers, key, offset, partition, timestamp, topic, value } = delivery
    const run: Run = {
      topic,
      partition,
      offset,
      attempt,
      process,
      startedAt: this.now(),
      record: { topic, partition, offset, timestamp, key, value, headers },
      endedAt: undefined,
      end: "running",
      error: undefined
    }
    this.runs.push(run)
    this.running++
    const account = this.account(keyOf(run), process)
    account.runs.push(run)
    account.process = process
    account.last = "running"
    this.watcher.started?.(run)
    return run
  }

  private ended(run: Run, exit: Exit.Exit<unknown, unknown>, acked: boolean): void {
    const account = this.account(keyOf(run), run.process)
    run.endedAt = this.now()
    this.running--
    const newest = account.runs.at(-1) === run
    const is = (end: Run["end"], last: Last) => {
      run.end = end
      // a run that was left behind says nothing about the one that followed it
      if (newest) account.last = last
    }
    if (acked || Exit.isSuccess(exit)) is("handled", "handled")
    else {
      const error = exit.cause.reasons.find(Cause.isFailReason)?.error
      run.error = nameOf(exit.cause)
      if (Directive.isDirective(error)) is("failed", afterDirective[error.kind])
      else if (Cause.hasInterruptsOnly(exit.cause)) is("interrupted", "waiting")
      else is("failed", "failed")
    }
    this.watcher.ended?.(run)
  }
}

const nameOf = (cause: Cause.Cause<unknown>): string => {
  const fail = cause.reasons.find(Cause.isFailReason)
  const value = fail === undefined ? cause.reasons.find(Cause.isDieReason)?.defect : fail.error
  if (value === undefined) return "interrupted"
  if (Directive.isDirective(value)) return `Directive ${value.kind}`
  if (typeof value !== "object" || value === null) return Formatter.format(value)
  if ("_tag" in value && typeof value._tag === "string") return value._tag
  return value instanceof Error ? `${value.name}: ${value.message}` : "an object"
}
