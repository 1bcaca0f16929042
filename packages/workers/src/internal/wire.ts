/**
 * What both threads say to each other.
 *
 * A record's bytes may be views of the chunk that they came in. To clone a view is to clone all that it is a view of, and to transfer it
 * would take the chunk from its other records: so the record's own bytes are copied into one buffer, which is the job's. A long one is
 * transferred, for a short one that costs more than it saves.
 */
import type { Headers } from "@concurrent-kafka/core/ConsumerRecord"
import type { WorkerRecord } from "../WorkerModule.ts"

/** What a thread is started with. */
export interface ThreadData {
  readonly href: string
  /** one number, which both see: 1 from when the job that the thread was sent has begun there, 0 before */
  readonly begun: Int32Array
}

export interface SpanContext {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

export interface JobOrder {
  readonly _tag: "Job"
  readonly id: number
  readonly record: WorkerRecord
  readonly span: SpanContext | undefined
  readonly annotations: Readonly<Record<string, unknown>> | undefined
  readonly minimumLogLevel: string
}

export type Order = JobOrder | { readonly _tag: "Interrupt"; readonly id: number }

/** Of something that was thrown. */
export interface Thrown {
  readonly name: string
  readonly detail: string
  /** the frames of its stack, without what stands above them */
  readonly frames: string | undefined
}

export type Reply =
  | { readonly _tag: "Loaded" }
  | { readonly _tag: "Unusable"; readonly why: "import" | "handler" | "error"; readonly detail: string }
  | { readonly _tag: "Succeeded"; readonly id: number; readonly value: unknown }
  /** with what the module's schema has made of it */
  | { readonly _tag: "Failed"; readonly id: number; readonly encoded: unknown }
  | {
      readonly _tag: "Threw"
      readonly id: number
      readonly kind: "error" | "defect" | "interrupted"
      readonly thrown: Thrown
    }
  | {
      readonly _tag: "NotCloneable"
      readonly id: number
      readonly what: "result" | "error"
      readonly detail: string
    }
  /** to the order to interrupt: what runs is a promise, which only ends by itself */
  | { readonly _tag: "Uninterruptible"; readonly id: number }

export interface Packed {
  readonly record: WorkerRecord
  readonly transfer: ReadonlyArray<ArrayBuffer>
}

export interface PackedOrder {
  readonly order: JobOrder
  readonly transfer: Packed["transfer"]
}

/** bytes */
const transferredFrom = 4 * 1024

const fields = ["topic", "partition", "offset", "timestamp", "key", "value", "headers", "epoch"] as const

/**
 * Field by field, because what a handler is given has them from its prototype, and more that does not cross.
 *
 * Throws where that is no record: `{ ...record }` has lost what came from the prototype and its type does not say so, bytes may have
 * been transferred away, memory may be short.
 */
export const pack = (record: WorkerRecord): Packed => {
  for (const field of fields) {
    if (record[field] === undefined) throw new TypeError(`it has no ${field}, as a copy by { ...record } has none`)
  }
  let length = (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0)
  for (const [, value] of record.headers) length += value?.byteLength ?? 0
  const bytes = new Uint8Array(length)
  let at = 0
  const own = (part: Uint8Array | null): Uint8Array | null => {
    if (part === null) return null
    bytes.set(part, at)
    at += part.byteLength
    return bytes.subarray(at - part.byteLength, at)
  }
  const headers: Headers = record.headers.map(([name, value]) => [name, own(value)] as const)
  return {
    record: {
      topic: record.topic,
      partition: record.partition,
      offset: record.offset,
      timestamp: record.timestamp,
      key: own(record.key),
      value: own(record.value),
      headers,
      attempt: record.attempt,
      groupId: record.groupId,
      epoch: record.epoch,
      generation: record.generation
    },
    transfer: length < transferredFrom ? [] : [bytes.buffer]
  }
}

/** Bytes by themselves are copied for the same reasons; in anything else they are cloned with what they are a view of. */
export const packResult = (
  value: unknown
): { readonly value: unknown; readonly transfer: ReadonlyArray<ArrayBuffer> } => {
  if (!(value instanceof Uint8Array)) return { value, transfer: [] }
  const copy = new Uint8Array(value)
  return { value: copy, transfer: copy.byteLength < transferredFrom ? [] : [copy.buffer] }
}

/** A long text of somebody's stays where it is. */
const longest = 1024

/** Never throws: anything can be thrown, and its getters may throw too. */
export const thrownOf = (error: unknown): Thrown => {
  try {
    if ((typeof error !== "object" && typeof error !== "function") || error === null) {
      return { name: typeof error, detail: String(error).slice(0, longest), frames: undefined }
    }
    const { _tag, message, name, stack } = error as Readonly<Record<string, unknown>>
    return {
      name: typeof _tag === "string" ? _tag : typeof name === "string" ? name : "unknown",
      detail: typeof message === "string" ? message.slice(0, longest) : "",
      frames: typeof stack === "string" ? framesOf(stack, typeof message === "string" ? message : "") : undefined
    }
  } catch {
    return { name: "unknown", detail: "", frames: undefined }
  }
}

/** A message may have lines that look like frames, and be somebody's record. */
const framesOf = (stack: string, message: string): string => {
  const lines = stack.slice(stack.indexOf(message) + message.length).split("\n")
  return lines.slice(lines.findLastIndex((line) => !/^ +at /.test(line)) + 1).join("\n")
}
