/** Groups as they are found: records in a Kafka in memory, and what lies beside the committed offsets of whoever wrote it. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Handler } from "@concurrent-kafka/core/Handler"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"
import { passUntil } from "./support.ts"

export const topic = "orders"
export const groupId = "shipping"

/** Done, `[from, to)`. */
type Runs = ReadonlyArray<readonly [from: number, to: number]>

/** A topic whose records have these values, in each of its partitions. */
export const logOf = (partitions: number, records: number, startOffset = 0n) =>
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka
    yield* kafka.createTopic(topic, { partitions, startOffset })
    for (let partition = 0; partition < partitions; partition++) {
      const all = Array.from({ length: records }, (_, i) => ({ partition, key: `key-${i}`, value: `value-${i}` }))
      yield* kafka.produce(topic, all)
    }
    return kafka
  })

export const ownMap = (partition: number, base: number, runs: Runs, ofTopic = topic): string =>
  OffsetMap.encode({
    topic: ofTopic,
    partition,
    base: BigInt(base),
    runs: runs.flatMap(([from, to]) => [from - base, to - base]),
    limit: 4_096
  }).metadata

/** As the Java Parallel Consumer writes it: the lengths of runs that are in turn not done and done, as 32 bits each. */
export const javaMap = (base: number, runs: Runs): string => {
  const lengths = runs.flatMap(([from, to], i) => [from - (i === 0 ? base : runs[i - 1]![1]), to - from])
  const bytes = Buffer.alloc(1 + 4 * lengths.length)
  bytes[0] = 0x65
  lengths.forEach((length, i) => bytes.writeInt32BE(length, 1 + 4 * i))
  return bytes.toString("base64")
}

/** What a member that comes now has to run, and what it finds to be done: until it has committed all of the topic. */
export const nextOwner = (partitions: number, offsetMap: "own" | "all") =>
  Effect.gen(function* () {
    const kafka = yield* MemoryKafka
    const consumer = yield* ConcurrentConsumer
    const ran: Array<string> = []
    const handler = Handler.make(topic, ({ offset, partition }) =>
      Effect.sync(() => void ran.push(`${partition}:${offset}`))
    )
    yield* Effect.forkScoped(consumer.run(handler))
    const isDone = (partition: number) =>
      kafka.committedUnsafe(groupId, topic, partition)?.offset === kafka.logOffsetsUnsafe(topic, partition).end
    yield* passUntil("all is committed", () => Array.from({ length: partitions }, (_, p) => p).every(isDone))
    const { outcomes } = yield* consumer.snapshot
    return { ran, alreadyDone: outcomes.alreadyDone }
  }).pipe(Effect.provide(ConcurrentConsumer.layer({ groupId, topics: [topic], offsetMap })), Effect.scoped)
