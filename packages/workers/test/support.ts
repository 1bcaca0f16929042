/** Threads that tell what they do, and records for them. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { randomUUID } from "node:crypto"
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

export const bytes = (text: string): Uint8Array => encoder.encode(text)
