import { ConcurrentConsumer, Handler } from "@concurrent-kafka/core"
import type { Snapshot } from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { inject } from "vitest"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")
const partitions = 12
const perPartition = 2
const records = partitions * perPartition
const handlerMillis = 20_000
const revokeDrain = 500

interface Attempt {
  readonly member: string
  readonly partition: number
  readonly offset: bigint
  readonly epoch: number
  outcome: "running" | "finished" | "interrupted"
}

const keyOf = ({ offset, partition }: Attempt) => `${partition}/${offset}`

describe("handlers that take longer than a rebalance", () => {
  it.live(
    "run on over rebalances while their partition is retained, once, and only what moves is interrupted (D1, D2, I7)",
    () =>
      Effect.gen(function* () {
        const outside = yield* Outside.connect(brokers)
        const topic = Outside.fresh("long")
        yield* outside.createTopic(topic, partitions)
        const attempts: Array<Attempt> = []

        /** a member of the group in this process, until its scope closes */
        const member = Effect.fnUntraced(function* (name: string) {
          const consumer = yield* ConcurrentConsumer
          const handler = Handler.make(
            topic,
            Effect.fnUntraced(function* ({ epoch, offset, partition }) {
              const attempt: Attempt = { member: name, partition, offset, epoch, outcome: "running" }
              attempts.push(attempt)
              yield* Effect.onExit(Effect.sleep(handlerMillis), (exit) =>
                Effect.sync(() => {
                  attempt.outcome = Exit.isSuccess(exit) ? "finished" : "interrupted"
                })
              )
            })
          )
          yield* Effect.forkScoped(consumer.run(handler))
          return consumer
        })
        const join = (name: string, scope: Scope.Scope) =>
          Effect.flatMap(
            Layer.buildWithScope(
              Layer.fresh(
                ConcurrentConsumer.layer({
                  name,
                  groupId: topic,
                  topics: [topic],
                  concurrency: records,
                  revokeDrain,
                  heartbeatInterval: 300,
                  sessionTimeout: 6000
                }).pipe(Layer.provide(KafkaJs.layer({ brokers })))
              ),
              scope
            ),
            (context) => Scope.provide(Effect.provide(member(name), context), scope)
          )
        const running = (name: string) => attempts.filter((a) => a.member === name && a.outcome === "running")
        const epochs = (snapshot: Snapshot) => snapshot.partitions.map(({ epoch }) => epoch)
        const revokes = (snapshot: Snapshot) => snapshot.rebalances.filter(({ kind }) => kind === "revoked")

        yield* outside.send(
          topic,
          Array.from({ length: records }, (_, i) => ({ value: "work", partition: i % partitions }))
        )
        const stays = yield* join("stays", yield* Effect.scope)
        yield* until(
          "the first member runs everything",
          Effect.sync(() => running("stays")),
          (all) => all.length === records
        )
        const first = epochs(yield* stays.snapshot)

        const leaving = yield* Scope.make()
        yield* Effect.addFinalizer((exit) => Scope.close(leaving, exit))
        yield* join("leaves", leaving)
        yield* until(
          "the second member runs its part",
          Effect.sync(() => running("leaves")),
          (all) => all.length === records / 2
        )
        const half = yield* stays.snapshot
        const retained = new Set(epochs(half))
        assert.strictEqual(retained.size, partitions / 2)
        assert.isTrue([...retained].every((epoch) => first.includes(epoch)))
        const held = revokes(half)
        assert.strictEqual(held.length, 1)
        // nothing ends during the drain, so it lasts as long as it may, and nobody waits longer
        assert.isAtLeast(held[0]!.millis, revokeDrain - 50)
        assert.isBelow(held[0]!.millis, revokeDrain + 2000)

        yield* Scope.close(leaving, Exit.void)
        yield* until(
          "the first member runs everything again",
          Effect.sync(() => running("stays")),
          (all) => all.length === records,
          "10 seconds"
        )
        const whole = yield* stays.snapshot
        assert.isTrue([...retained].every((epoch) => epochs(whole).includes(epoch)))

        const ends = yield* outside.ends(topic)
        yield* until(
          "the end is committed",
          outside.committed(topic, topic),
          (now) => Outside.same(now, ends),
          "40 seconds"
        )
        const interrupted = attempts.filter((a) => a.outcome === "interrupted")
        const finished = attempts.filter((a) => a.outcome === "finished")
        // half moved away, and half moved back: these and no others
        assert.strictEqual(interrupted.filter((a) => a.member === "stays").length, records / 2)
        assert.strictEqual(interrupted.filter((a) => a.member === "leaves").length, records / 2)
        assert.deepStrictEqual(
          interrupted.filter((a) => retained.has(a.epoch)),
          []
        )
        assert.strictEqual(attempts.filter((a) => retained.has(a.epoch)).length, records / 2)
        assert.strictEqual(new Set(finished.map(keyOf)).size, records)
        assert.strictEqual(finished.length, records)
        const end = yield* stays.snapshot
        assert.strictEqual(end.unexpectedTransitions, 0)
        console.log(
          `${attempts.length} attempts of ${records} records, ${interrupted.length} interrupted, none of ${retained.size} retained ` +
            `partitions; revokes held ${revokes(end)
              .map((r) => r.millis)
              .join(" and ")} ms`
        )
      }).pipe(Effect.scoped),
    90_000
  )
})
