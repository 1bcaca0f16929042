import { ConcurrentConsumer, Handler, OffsetMap } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { inject } from "vitest"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

describe("a thousand partitions", () => {
  it.live(
    "each with an offset map, are committed and read back by an outsider, and the next owner handles only what is not done (D52, I3)",
    () =>
      Effect.gen(function* () {
        const partitions = 1_000
        const perPartition = 100
        const all = Array.from({ length: partitions }, (_, partition) => partition)
        /** three of each partition, never the same distance apart */
        const stuck = (partition: number): ReadonlyArray<number> => [0, 10 + (partition % 50), 70 + (partition % 29)]
        const expected = (partition: number): string => {
          const [, second, third] = stuck(partition)
          return String([1, second, second! + 1, third, third! + 1, end(partition)])
        }
        const prepared = performance.now()
        const outside = yield* Outside.connect(brokers)
        const topic = Outside.fresh("thousand")
        yield* outside.createTopic(topic, partitions)
        // until then the plain producer would write again and again to those that are
        yield* until("all are ready", outside.ends(topic), (ends) => ends.size === partitions)
        for (let sent = 0; sent < perPartition; sent += 20) {
          yield* outside.send(
            topic,
            all.flatMap((partition) => Array.from({ length: 20 }, () => ({ value: "v", partition })))
          )
        }
        // it may write a batch twice all the same
        const ends = yield* outside.ends(topic)
        const end = (partition: number): number => Number(ends.get(partition))
        const records = all.reduce((sum, partition) => sum + end(partition), 0)
        const wanted = records - 3 * partitions
        const began = performance.now()

        /** Handles until it is interrupted; gives back what it has begun and finished. */
        const life = Effect.fnUntraced(function* <A, E>(
          endless: boolean,
          use: (consumer: ConcurrentConsumer["Service"], handled: () => number) => Effect.Effect<A, E>
        ) {
          let handled = 0
          const begun: Array<string> = []
          yield* Effect.gen(function* () {
            const consumer = yield* ConcurrentConsumer
            yield* Effect.forkScoped(
              consumer.run(
                Handler.make(topic, ({ offset, partition }) => {
                  begun.push(`${partition}/${offset}`)
                  return endless && stuck(partition).includes(Number(offset))
                    ? Effect.never
                    : Effect.sync(() => void handled++)
                })
              )
            )
            yield* use(consumer, () => handled)
          }).pipe(
            Effect.provide(
              ConcurrentConsumer.layer({ groupId: topic, topics: [topic], concurrency: "unbounded" }).pipe(
                Layer.provide(KafkaJs.layer({ brokers }))
              )
            ),
            Effect.scoped
          )
          return begun
        })

        yield* life(true, (consumer, handled) =>
          Effect.gen(function* () {
            yield* until("all but three of each are handled", Effect.sync(handled), (n) => n === wanted)
            const outcomes = yield* consumer.flush
            assert.deepStrictEqual(
              outcomes.filter(({ outcome }) => outcome !== "committed"),
              []
            )
            const stored = yield* outside.commits(topic, topic)
            assert.strictEqual(stored.size, partitions)
            for (const partition of all) {
              const { metadata, offset } = stored.get(partition)!
              assert.strictEqual(offset, 0n)
              const decoded = OffsetMap.decode(metadata, { topic, partition, base: offset, trust: "own" })
              assert.strictEqual(decoded._tag === "Map" ? String(decoded.map.runs) : decoded._tag, expected(partition))
            }
            const { held, partitions: owned } = yield* consumer.snapshot
            assert.strictEqual(owned.length, partitions)
            assert.isAtMost(held.records, 20_000)
            assert.strictEqual((yield* consumer.health).status, "ok")
          })
        )
        const again = yield* life(false, (consumer, handled) =>
          Effect.gen(function* () {
            yield* until("the rest is handled", Effect.sync(handled), (n) => n === 3 * partitions)
            yield* consumer.flush
            assert.strictEqual((yield* consumer.snapshot).outcomes.alreadyDone, wanted)
          })
        )
        assert.deepStrictEqual(
          again.toSorted(),
          all.flatMap((partition) => stuck(partition).map((offset) => `${partition}/${offset}`)).toSorted()
        )
        for (const [partition, { metadata, offset }] of yield* outside.commits(topic, topic)) {
          assert.deepStrictEqual([offset, metadata], [BigInt(end(partition)), ""])
        }
        const seconds = (from: number, to: number): string => `${((to - from) / 1000).toFixed(1)} s`
        console.log(
          `${partitions} partitions, ${records} records: prepared in ${seconds(prepared, began)}, two owners in ${seconds(began, performance.now())}`
        )
      }).pipe(Effect.scoped),
    60_000
  )
})
