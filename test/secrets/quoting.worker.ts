/** What a handler on a thread can do to a record that it cannot handle, with the record in its words each time. */
import type { WorkerRecord } from "@concurrent-kafka/workers"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** In the module's `error`, so that it comes back as it was. */
export class Unshippable extends Schema.TaggedError<Unshippable>()("Unshippable", {
  name: Schema.String,
  text: Schema.String
}) {}

export const error = Unshippable

const decoder = new TextDecoder()
const quote = ({ headers, key, value }: WorkerRecord): string =>
  [key, value, ...headers.flatMap(([, header]) => [header])]
    .map((bytes) => decoder.decode(bytes ?? new Uint8Array()))
    .join(" ") + headers.map(([name]) => name).join(" ")

const behaviours: ReadonlyArray<(record: WorkerRecord) => unknown> = [
  (record) => {
    throw new Error(`cannot handle ${quote(record)}`, { cause: record })
  },
  (record) => Promise.reject(quote(record)),
  (record) => Effect.die(new TypeError(`cannot read ${quote(record)}`)),
  (record) => Effect.fail(new Unshippable({ name: quote(record), text: quote(record) })),
  (record) => Effect.fail({ _tag: quote(record), name: quote(record), record }),
  (record) => Effect.die(Object.assign(new Error(quote(record)), { name: quote(record) })),
  // what cannot be cloned is quoted by whoever was to clone it
  (record) => Symbol(quote(record)),
  (record) => Effect.fail(new Unshippable({ name: "symbol", text: Symbol(quote(record)) as unknown as string })),
  (record) =>
    new Promise(() => {
      setTimeout(() => {
        throw Object.assign(new Error(quote(record)), { name: quote(record) })
      })
    }),
  (record) =>
    new Promise(() => {
      setTimeout(() => {
        // oxlint-disable-next-line typescript/only-throw-error -- anything can be thrown
        throw quote(record)
      })
    }),
  () => process.exit(3),
  () => Effect.interrupt
]

export const crashing = 8

export const handler = (record: WorkerRecord): unknown =>
  behaviours[record.topic === "crashing" ? crashing : Number(record.offset) % behaviours.length]!(record)

export const count = behaviours.length
