/**
 * Runs the handler on its thread, one job at a time, and says how it ended: exactly one reply for each job, whatever the handler does,
 * unless the thread ends first.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { JobContext, WorkerModule } from "../WorkerModule.ts"
import { type JobOrder, type Order, packResult, type Reply, thrownOf } from "./wire.ts"

type Send = (reply: Reply, transfer?: ReadonlyArray<ArrayBuffer>) => void

interface Current {
  readonly id: number
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

export class Jobs {
  private readonly module: WorkerModule
  private readonly begun: Int32Array
  private readonly send: Send
  private current: Current | undefined
  /** of the job with this number a promise is waited for */
  private promised: number | undefined

  constructor(module: WorkerModule, begun: Int32Array, send: Send) {
    this.module = module
    this.begun = begun
    this.send = send
  }

  receive(order: Order): void {
    if (order._tag === "Job") return this.begin(order)
    // it may have ended meanwhile, and its reply is on its way
    if (this.current?.id !== order.id) return
    if (this.promised === order.id) return this.send({ _tag: "Uninterruptible", id: order.id })
    this.current.fiber.interruptUnsafe()
  }

  private begin(order: JobOrder): void {
    // no message: what ends the thread may come before that is read, and it would cost each record
    Atomics.store(this.begun, 0, 1)
    const fiber = Effect.runFork(this.run(order))
    this.current = { id: order.id, fiber }
    fiber.addObserver((exit) => {
      this.current = undefined
      this.promised = undefined
      this.answer(order.id, exit)
    })
  }

  private run({ annotations, id, minimumLogLevel, record, span }: JobOrder): Effect.Effect<unknown, unknown> {
    const context: JobContext = {
      traceparent: span && `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
    }
    const handled = Effect.suspend((): Effect.Effect<unknown, unknown, Scope.Scope> => {
      let answer: unknown
      try {
        answer = this.module.handler(record, context)
      } catch (error) {
        return Effect.fail(error)
      }
      if (isSelfContained(answer)) return answer
      if (!isPromise(answer)) return Effect.succeed(answer)
      this.promised = id
      return Effect.tryPromise({ try: () => answer, catch: (error) => error })
    })
    return Effect.scoped(handled).pipe(
      // levels are the same words on both sides
      Effect.provideService(References.MinimumLogLevel, minimumLogLevel as LogLevel.LogLevel),
      annotations === undefined ? (self) => self : Effect.annotateLogs(annotations),
      span === undefined ? (self) => self : Effect.provideService(Tracer.ParentSpan, Tracer.externalSpan(span))
    )
  }

  private answer(id: number, exit: Exit.Exit<unknown, unknown>): void {
    if (Exit.isSuccess(exit)) {
      const { transfer, value } = packResult(exit.value)
      return this.trySend({ _tag: "Succeeded", id, value }, "result", transfer)
    }
    const failed = exit.cause.reasons.find(Cause.isFailReason)
    const died = exit.cause.reasons.find(Cause.isDieReason)
    if (failed !== undefined && this.module.error !== undefined) {
      const encoded = Schema.encodeUnknownExit(this.module.error)(failed.error)
      if (Exit.isSuccess(encoded)) return this.trySend({ _tag: "Failed", id, encoded: encoded.value }, "error")
    }
    const kind = failed !== undefined ? "error" : died !== undefined ? "defect" : "interrupted"
    const thrown =
      kind === "interrupted"
        ? { name: "Interrupted", detail: "its effect was interrupted", frames: undefined }
        : thrownOf(failed === undefined ? died?.defect : failed.error)
    this.send({ _tag: "Threw", id, kind, thrown })
  }

  private trySend(
    reply: Extract<Reply, { readonly _tag: "Succeeded" | "Failed" }>,
    what: "result" | "error",
    transfer?: ReadonlyArray<ArrayBuffer>
  ): void {
    try {
      this.send(reply, transfer)
    } catch (error) {
      this.send({ _tag: "NotCloneable", id: reply.id, what, detail: thrownOf(error).detail })
    }
  }
}

// that it needs nothing but a Scope is seen to by the types of `WorkerPool.make`
const isSelfContained = (value: unknown): value is Effect.Effect<unknown, unknown, Scope.Scope> =>
  Effect.isEffect(value)

const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"
