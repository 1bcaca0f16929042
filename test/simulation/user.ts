/**
 * What its user does to a consumer while it runs.
 */
import type { ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { Handler } from "@concurrent-kafka/core/Handler"
import type { Prng } from "@concurrent-kafka/testing/Prng"
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Checker } from "./checker.ts"
import type { EpochTruth, Owner } from "./owner.ts"

export interface UserOptions {
  readonly name: string
  readonly checker: Checker
  readonly owners: ReadonlyArray<Owner>
  readonly consumer: () => ConcurrentConsumerShape
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

export class User {
  private readonly options: UserOptions

  constructor(options: UserOptions) {
    this.options = options
  }

  private ask<A, E>(what: string, effect: Effect.Effect<A, E>, then: (exit: Exit.Exit<A, E>) => void = () => {}): void {
    const { checker, fork, name, owners } = this.options
    checker.trace.log(name, what)
    fork(effect).addObserver((exit) => {
      if (owners[0]!.realm.state === "dead") return
      checker.trace.log(name, `${what}: ${Exit.isSuccess(exit) ? "done" : String(Cause.squash(exit.cause))}`)
      then(exit)
    })
  }

  /** Of all members: while a partition moves from one to another both have one. */
  private epochs(): ReadonlyArray<EpochTruth> {
    return this.options.owners.flatMap(({ epochs }) => [...epochs.values()].filter(({ state }) => state !== "ended"))
  }

  /** It must refuse to run twice at once. */
  runTwice(handler: Handler<never, never>): void {
    const { checker, consumer, name, owners } = this.options
    this.ask("runs a second time", consumer().run(handler, { onFailure: FailurePolicy.skip }), (exit) => {
      const error = Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "success"
      // one whose members end, because one of them has failed, may say that instead
      const refused = error.includes("one handler at a time") || (owners.length > 1 && error.includes("has failed"))
      if (!refused) checker.violation("run", `${name} ran twice at once: ${error}`)
    })
  }

  pause(paused: boolean): void {
    const { consumer, owners } = this.options
    if (!paused) {
      owners[0]!.paused = false
      for (const { epochs } of owners) for (const epoch of epochs.values()) epoch.paused = false
    }
    this.ask(paused ? "pauses" : "resumes", paused ? consumer().pause() : consumer().resume())
    owners[0]!.paused = paused
  }

  get hasPaused(): boolean {
    return this.options.owners[0]!.paused
  }

  /** Pauses a partition, or lets it go on. */
  pausePartition(chance: Prng): void {
    const { consumer } = this.options
    const epochs = this.epochs()
    if (epochs.length === 0) return
    const epoch = chance.pick(epochs)
    const same = epochs.filter(({ key }) => key === epoch.key)
    if (epoch.paused) {
      // a consumer that is paused as a whole stays so
      if (!this.hasPaused) for (const one of same) one.paused = false
      this.ask(`resumes ${epoch.key}`, consumer().resume([epoch]))
    } else {
      this.ask(`pauses ${epoch.key}`, consumer().pause([epoch]), (exit) => {
        if (Exit.isSuccess(exit)) for (const one of same) one.paused = true
      })
    }
  }

  seek(chance: Prng): void {
    const { owners } = this.options
    const epochs = this.epochs()
    if (epochs.length === 0) return
    const epoch = chance.pick(epochs)
    const to = chance.weighted({ start: 1, end: 1, offset: 3 })
    const last = epoch.delivered.at(-1)?.offset ?? 0n
    const offset = to === "offset" ? BigInt(chance.int(0, Number(last) + 3)) : to
    for (const one of epochs) if (one.key === epoch.key) one.mayEnd = "sought"
    for (const owner of owners) owner.seeksTo = typeof offset === "bigint" ? offset : undefined
    this.ask(`seeks ${epoch.key} to ${offset}`, this.options.consumer().seek(epoch, offset))
    // it was reopened by now, or will not be
    for (const owner of owners) owner.seeksTo = undefined
  }

  resize(n: number | "unbounded"): void {
    const { consumer, owners } = this.options
    const limit = n === "unbounded" ? Number.POSITIVE_INFINITY : n
    for (const owner of owners) {
      owner.limit = Math.max(owner.limit, limit)
      owner.mostLimit = Math.max(owner.mostLimit, limit)
    }
    this.ask(`changes its concurrency to ${n}`, consumer().setConcurrency(n))
    for (const owner of owners) owner.limit = limit
  }

  flush(): void {
    this.ask("flushes", this.options.consumer().flush)
  }

  /** Whatever its user did to it is undone. */
  heal(): void {
    this.pause(false)
    for (const epoch of this.epochs()) this.ask(`resumes ${epoch.key}`, this.options.consumer().resume([epoch]))
  }
}
