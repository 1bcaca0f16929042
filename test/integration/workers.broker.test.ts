import { ConcurrentConsumer, FailurePolicy, Handler } from "@concurrent-kafka/core"
import type { Delivery } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { WorkerPool } from "@concurrent-kafka/workers"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, References } from "effect"
import { inject } from "vitest"
import * as Compute from "./compute.worker.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")
const sessionTimeout = 1_500
const computeMillis = 4 * sessionTimeout

/** One record that computes for four sessions, and others beside it, until all of them are done. */
const consumed = Effect.fnUntraced(function* <E, R>(
  name: string,
  handle: (record: Delivery) => Effect.Effect<unknown, E, R>
) {
  const outside = yield* Outside.connect(brokers)
  const topic = Outside.fresh(name)
  yield* outside.createTopic(topic, 2)
  yield* outside.send(topic, [
    { value: `${computeMillis}`, partition: 0 },
    ...Array.from({ length: 20 }, () => ({ value: "0", partition: 1 }))
  ])
  const attempts: Array<Pick<Delivery, "partition" | "epoch">> = []
  const handler = Handler.make(topic, (record) => {
    const { epoch, partition } = record
    attempts.push({ partition, epoch })
    return handle(record)
  })
  const snapshot = yield* Effect.gen(function* () {
    const consumer = yield* ConcurrentConsumer
    yield* Effect.forkScoped(consumer.run(handler, { onFailure: FailurePolicy.stop }))
    yield* until(
      "everything is done",
      consumer.snapshot,
      ({ partitions }) => partitions.length === 2 && partitions.every(({ committable, end }) => committable === end),
      "25 seconds"
    )
    return yield* consumer.snapshot
  }).pipe(
    Effect.scoped,
    Effect.provide(
      ConcurrentConsumer.layer({
        groupId: topic,
        topics: [topic],
        sessionTimeout,
        heartbeatInterval: 300,
        offsetMap: "off"
      }).pipe(Layer.provide(KafkaJs.layer({ brokers })))
    ),
    Effect.provideService(References.MinimumLogLevel, "None")
  )
  return {
    computed: attempts.filter(({ partition }) => partition === 0),
    lost: snapshot.rebalances.filter(({ kind }) => kind === "lost").length,
    committed: yield* outside.committed(topic, topic),
    ends: yield* outside.ends(topic)
  }
})

describe("a record that computes for longer than the session lasts", () => {
  it.live("on a thread costs no membership: it runs once, and the others beside it", () =>
    Effect.gen(function* () {
      const pool = yield* WorkerPool.make<typeof Compute>({
        module: new URL("./compute.worker.ts", import.meta.url),
        size: 1
      })
      const { committed, computed, ends, lost } = yield* consumed("offloaded", pool.handle)
      assert.lengthOf(computed, 1)
      assert.strictEqual(lost, 0)
      assert.isTrue(Outside.same(committed, ends))
      assert.deepInclude(yield* pool.snapshot, { started: 1, crashed: 0, terminated: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("in the event loop costs it, and runs again", () =>
    Effect.gen(function* () {
      let computations = 0
      const { computed, lost } = yield* consumed("inline", (record) =>
        Effect.andThen(
          // the others have their turn first
          Effect.sleep(50),
          Effect.sync(() => {
            if (record.partition !== 0 || computations++ === 0) Compute.handler(record)
          })
        )
      )
      assert.isAbove(computed.length, 1)
      assert.isAbove(new Set(computed.map(({ epoch }) => epoch)).size, 1)
      assert.isAbove(lost, 0)
    }).pipe(Effect.scoped)
  )
})
