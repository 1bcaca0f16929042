/** Threads that tell what they do, and records for them. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { BroadcastChannel } from "node:worker_threads"
import type { WorkerRecord } from "../src/WorkerModule.ts"
import type { Told } from "./modules/jobs.worker.ts"

export const moduleUrl = (name: string): URL => new URL(`./modules/${name}.worker.ts`, import.meta.url)

const encoder = new TextEncoder()

/** What one test and its threads say to each other. */
export const open = Effect.gen(function* () {
  const groupId = randomUUID()
  const heard = yield* Queue.unbounded<Told>()
  const all: Array<Told> = []
  const channel = yield* Effect.acquireRelease(
    Effect.sync(() => new BroadcastChannel(groupId)),
    (opened) => Effect.sync(() => opened.close())
  )
  channel.onmessage = (event) => {
    const { data } = event as { readonly data: Told }
    all.push(data)
    Queue.offerUnsafe(heard, data)
  }
  const next = (what: Told["what"]): Effect.Effect<Told> =>
    Effect.flatMap(Queue.take(heard), (told) => (told.what === what ? Effect.succeed(told) : next(what)))
  return {
    groupId,
    /** everything, in the order in which it was told */
    all,
    next,
    /** lets the record with this offset go on */
    release: (offset: bigint) => Effect.sync(() => channel.postMessage(offset)),
    record: (offset: number, value: string, more: Partial<WorkerRecord> = {}): WorkerRecord => ({
      topic: "jobs",
      partition: 0,
      offset: BigInt(offset),
      timestamp: 1n,
      key: null,
      value: encoder.encode(value),
      headers: [],
      attempt: 1,
      groupId,
      epoch: 1,
      generation: 1,
      ...more
    })
  }
})

/** A file that is not there at first: for what a thread has to see while its event loop does not turn. */
export const flag = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "workers-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true }))
  )
  const path = join(folder, "flag")
  return {
    path,
    raise: Effect.sync(() => writeFileSync(path, "")),
    lower: Effect.sync(() => rmSync(path))
  }
})

/** Lets the event loop turn until it is so. */
export const until = <A>(effect: Effect.Effect<A>, isSo: (a: A) => boolean): Effect.Effect<A> =>
  Effect.flatMap(effect, (a) =>
    isSo(a)
      ? Effect.succeed(a)
      : Effect.andThen(
          Effect.promise(() => new Promise(setImmediate)),
          until(effect, isSo)
        )
  )

/** Has the most of it from its prototype, as what a handler is given. */
class Given implements WorkerRecord {
  readonly attempt = 1
  readonly generation = 1
  readonly groupId: string
  readonly #record: WorkerRecord
  constructor(record: WorkerRecord) {
    this.#record = record
    this.groupId = record.groupId
  }
  get topic() {
    return this.#record.topic
  }
  get partition() {
    return this.#record.partition
  }
  get offset() {
    return this.#record.offset
  }
  get timestamp() {
    return this.#record.timestamp
  }
  get key() {
    return this.#record.key
  }
  get value() {
    return this.#record.value
  }
  get headers() {
    return this.#record.headers
  }
  get epoch() {
    return this.#record.epoch
  }
}

/** A copy as a user may make it, and the types let him. */
export const copyOf = (record: WorkerRecord): WorkerRecord => {
  const given: WorkerRecord = new Given(record)
  return { ...given, value: record.value }
}

export const bytes = (text: string): Uint8Array => encoder.encode(text)
