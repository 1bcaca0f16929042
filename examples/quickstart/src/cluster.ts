/** What the demo needs of a Kafka beside what the library does with it. */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Effect, Layer } from "effect"
import type { DemoError } from "./error.ts"

export const partitions = 3
export const handlerMillis = 20

/** One partition as somebody else sees it who knows nothing of the consumer. */
export interface Offsets {
  readonly partition: number
  readonly start: bigint
  readonly end: bigint
  /** Of the group; `undefined` when it has committed nothing. */
  readonly committed: bigint | undefined
}

export interface Job {
  readonly topic: string
  readonly group: string
  readonly records: number
  /** So many records are done. */
  readonly progress: (done: number) => void
}

export interface Cluster {
  /** For the library. */
  readonly client: Layer.Layer<KafkaClient, KafkaClientError | InvalidOptions>
  readonly createTopic: (topic: string) => Effect.Effect<void, DemoError>
  /** Records with keys, spread over the partitions by them. */
  readonly produce: (topic: string, records: number) => Effect.Effect<void, DemoError>
  readonly oneAtATimeWith: string
  /** Handles so many records of the topic, one after the other; gives the seconds from the first to the last. */
  readonly oneAtATime: (job: Job) => Effect.Effect<number, DemoError>
  readonly checkedBy: string
  readonly offsets: (topic: string, group: string) => Effect.Effect<ReadonlyArray<Offsets>, DemoError>
}

export const newRecord = (index: number) => ({ key: `customer-${index % 300}`, value: `{"order":${index}}` })

/** Seconds from the first beginning to the last end. */
export class Stopwatch {
  private first: number | undefined = undefined
  private last = 0
  begin(): void {
    this.first ??= performance.now()
  }
  end(): void {
    this.last = performance.now()
  }
  get seconds(): number {
    return this.first === undefined ? 0 : Math.max(0, this.last - this.first) / 1000
  }
}
