import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Delivery, Headers } from "../src/ConsumerRecord.ts"
import type { Failure } from "../src/FailurePolicy.ts"

const bytes = (text: string | null): Uint8Array | null => (text === null ? null : new TextEncoder().encode(text))

export const header = (name: string, value: string | null): readonly [string, Uint8Array | null] => [name, bytes(value)]

interface Parts {
  readonly topic: string
  readonly offset: bigint
  readonly key: Uint8Array | string | null
  readonly value: Uint8Array | string | null
  readonly headers: Headers
  readonly attempt: number
}

/** As the engine's own, a class whose fields are getters: what spreads it gets none of them. */
class OneDelivery implements Delivery {
  readonly #parts: Parts
  acks = 0
  constructor(parts: Parts) {
    this.#parts = parts
  }
  get topic() {
    return this.#parts.topic
  }
  get partition() {
    return 3
  }
  get offset() {
    return this.#parts.offset
  }
  get timestamp() {
    return 1_700_000_000_000n
  }
  get key() {
    const { key } = this.#parts
    return typeof key === "string" ? bytes(key) : key
  }
  get value() {
    const { value } = this.#parts
    return typeof value === "string" ? bytes(value) : value
  }
  get headers() {
    return this.#parts.headers
  }
  get attempt() {
    return this.#parts.attempt
  }
  get groupId() {
    return "g"
  }
  get epoch() {
    return 7
  }
  get generation() {
    return 11
  }
  get ack() {
    return Effect.sync(() => void this.acks++)
  }
}

export const delivery = (parts: Partial<Parts> = {}): OneDelivery =>
  new OneDelivery({ topic: "t", offset: 42n, key: null, value: null, headers: [], attempt: 1, ...parts })

/** A failed attempt; the same `memory` makes it one of the same record. */
export const failure = <E>(error: E, parts: Partial<Failure<E>> = {}): Failure<E> => ({
  cause: Cause.fail(error),
  kind: "error",
  error: Option.some(error),
  attempt: 1,
  record: delivery(),
  firstFailedAt: 0,
  memory: new Map(),
  ...parts
})
