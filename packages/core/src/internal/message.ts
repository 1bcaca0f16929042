/** A delivery with what was decoded of it: one object around the delivery, whose own fields are read through. */
import type * as Effect from "effect/Effect"
import type { Delivery, Headers } from "../ConsumerRecord.ts"
import type { Message } from "../Topic.ts"
import { printedDelivery } from "./printed.ts"

export class DecodedMessage<K, V, H> implements Message<K, V, H> {
  private readonly delivery: Delivery
  readonly decodedKey: K
  readonly decodedValue: V
  readonly decodedHeaders: H

  constructor(delivery: Delivery, key: K, value: V, headers: H) {
    this.delivery = delivery
    this.decodedKey = key
    this.decodedValue = value
    this.decodedHeaders = headers
  }

  get topic(): string {
    return this.delivery.topic
  }
  get partition(): number {
    return this.delivery.partition
  }
  get offset(): bigint {
    return this.delivery.offset
  }
  get timestamp(): bigint {
    return this.delivery.timestamp
  }
  get key(): Uint8Array | null {
    return this.delivery.key
  }
  get value(): Uint8Array | null {
    return this.delivery.value
  }
  get headers(): Headers {
    return this.delivery.headers
  }
  get attempt(): number {
    return this.delivery.attempt
  }
  get groupId(): string {
    return this.delivery.groupId
  }
  get epoch(): number {
    return this.delivery.epoch
  }
  get generation(): number {
    return this.delivery.generation
  }
  get ack(): Effect.Effect<void> {
    return this.delivery.ack
  }

  toJSON(): unknown {
    return printedDelivery(this)
  }
  // what Effect prints of it
  toString(): string {
    return JSON.stringify(this)
  }
  [Symbol.for("nodejs.util.inspect.custom")](): unknown {
    return this.toJSON()
  }
}
