/** Writing of batches as they are, on a real broker. */
import { checkOptions, leaderOf } from "@concurrent-kafka/driver/Driver"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { openClient } from "../src/internal/client.ts"

/**
 * Writes batches as they are, with metadata read before each: kafkajs's producer drops records of a partition that it has not
 * heard of, cannot write a header without a value, and loses the order of headers.
 */
export const writer = (
  brokers: ReadonlyArray<string>
): Effect.Effect<(topic: string, partition: number, batch: Buffer) => Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const open = openClient(checkOptions({ brokers }), yield* Effect.context<never>())
    const cluster = yield* Effect.acquireRelease(
      Effect.sync(() => open(10_000, 0)),
      (opened) => Effect.sync(() => opened.close())
    )
    const once = async (topic: string, partition: number, batch: Buffer): Promise<string> => {
      await cluster.refresh([topic])
      const broker = await cluster.node(leaderOf(cluster, topic, partition))
      const { partitions } = await broker.produce([{ topic, partition, batch }], 5000)
      return partitions[0]!.code
    }
    return (topic, partition, batch) =>
      Effect.promise(async () => {
        const end = performance.now() + 10_000
        for (;;) {
          const code = await once(topic, partition, batch)
          if (code === "NONE") return
          // a leader that is named already and does not know it yet
          if (performance.now() > end || (code !== "UNKNOWN_TOPIC_OR_PARTITION" && code !== "NOT_LEADER_OR_FOLLOWER"))
            throw new Error(`produce: ${code}`)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
      })
  })
