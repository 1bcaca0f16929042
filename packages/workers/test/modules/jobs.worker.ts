/** Does what its record says, and tells of it on the channel that the record's group names. */
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { existsSync } from "node:fs"
import { BroadcastChannel, threadId } from "node:worker_threads"
import type { JobContext, WorkerRecord } from "../../src/WorkerModule.ts"

export class BadJob extends Schema.TaggedError<BadJob>()("BadJob", { at: Schema.Date, text: Schema.String }) {}
class Unheard extends Schema.TaggedError<Unheard>()("Unheard", { text: Schema.String }) {}
class Unclear extends Schema.TaggedError<Unclear>()("Unclear", { what: Schema.Unknown }) {}

export const error = Schema.Union([BadJob, Unclear])

/** What is told on the channel. */
export interface Told {
  readonly what: "begun" | "ended" | "finalized" | "traced"
  readonly offset: bigint
  readonly attempt: number
  readonly thread: number
  readonly more?: unknown
}

export interface Answer {
  readonly text: string
  readonly thread: number
  readonly record: WorkerRecord
  /** all of the memory that the record's value is a part of */
  readonly memory: number
  readonly traceparent: string | undefined
}

const decoder = new TextDecoder()

const tell = (record: WorkerRecord, what: Told["what"], more?: unknown): void => {
  const channel = new BroadcastChannel(record.groupId)
  const told: Told = { what, offset: record.offset, attempt: record.attempt, thread: threadId, more }
  channel.postMessage(told)
  channel.close()
}

/** Until the test says that this record may go on. */
const released = (record: WorkerRecord): Promise<void> =>
  new Promise((resolve) => {
    const channel = new BroadcastChannel(record.groupId)
    channel.onmessage = (event) => {
      if ((event as { readonly data: unknown }).data !== record.offset) return
      channel.close()
      resolve()
    }
  })

const spin = (millis: number): void => {
  const end = performance.now() + millis
  while (performance.now() < end) JSON.stringify({ end })
}

export const handler = (
  record: WorkerRecord,
  { traceparent }: JobContext
): Answer | Promise<Answer> | Effect.Effect<Answer, unknown> => {
  const [task = "", text = ""] = decoder.decode(record.value ?? new Uint8Array()).split(":")
  const answer: Answer = { text, thread: threadId, record, memory: record.value?.buffer.byteLength ?? 0, traceparent }
  const done = () => {
    tell(record, "ended")
    return answer
  }
  // it listens before it says that it has begun, so that nobody can be too early
  const goesOn = task.startsWith("hold") || task === "later" ? released(record) : undefined
  tell(record, "begun")
  switch (task) {
    case "":
      return done()
    case "spin":
      spin(Number(text))
      return done()
    case "hold":
      return goesOn!.then(done)
    case "holdEffect":
      return Effect.onInterrupt(
        Effect.map(
          Effect.promise(() => goesOn!),
          done
        ),
        () => Effect.sync(() => tell(record, "finalized"))
      )
    case "turning":
      return Effect.onInterrupt(Effect.forever(Effect.sync(() => spin(0.01))), () =>
        Effect.sync(() => tell(record, "finalized"))
      )
    case "traced":
      return Effect.gen(function* () {
        const span = yield* Effect.currentParentSpan
        const annotations = yield* References.CurrentLogAnnotations
        const level = yield* References.MinimumLogLevel
        const { sampled, spanId, traceId } = span
        tell(record, "traced", { traceId, spanId, sampled, annotations, level })
        return done()
      })
    case "scoped":
      return Effect.as(Effect.scoped(Effect.addFinalizer(() => Effect.sync(() => tell(record, "finalized")))), answer)
    case "throw":
      throw new BadJob({ at: new Date(0), text })
    case "reject":
      return Promise.reject(new BadJob({ at: new Date(0), text }))
    case "fail":
      return Effect.fail(new BadJob({ at: new Date(0), text }))
    case "unheard":
      throw new Unheard({ text })
    case "unclear":
      throw new Unclear({ what: () => text })
    case "string":
      return Effect.fail(text)
    case "die":
      return Effect.die(new TypeError(text))
    case "interrupt":
      return Effect.interrupt
    case "function":
      // what the types allow is not what crosses
      return Object.assign(() => text, answer)
    case "holdExit":
      return goesOn!.then(() => process.exit(Number(text)))
    case "exit":
      process.exit(Number(text))
    // falls through
    case "uncaught":
      setImmediate(() => {
        throw new RangeError(text)
      })
      return new Promise(() => undefined)
    case "later":
      void goesOn!.then(() =>
        setImmediate(() => {
          throw new RangeError(text)
        })
      )
      return done()
    case "blocked":
      // when it has answered, and before its thread hears of another job: blocked until that file is there, and then ended
      process.nextTick(() => {
        while (!existsSync(text));
        throw new RangeError("left behind")
      })
      return done()
    case "memory": {
      const all: Array<Array<number>> = []
      for (;;) all.push(Array.from({ length: 100_000 }, (_, i) => i + all.length))
    }
  }
  throw new Error(`there is no task ${task}`)
}
