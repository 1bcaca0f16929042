import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { advance, cluster, fill, member, seeded } from "./support.ts"

/** A history with everything in it; the trace says what happened, line by line. */
const history = (seed: number, protocol: "eager" | "incremental", step: number) =>
  Effect.scoped(
    cluster({ partitions: 6, requestLatency: 2, fetchLatency: 1, commitLatency: 3, maxChunk: 4 }, (kafka) =>
      Effect.gen(function* () {
        const source = seeded(seed)
        const each = {
          slowRequest: 0.05,
          slowAnswer: 0.05,
          dropped: 0.03,
          answerLost: 0.03,
          servedLate: 0.03,
          code: 0.03
        }
        kafka.faults.random({
          source,
          weights: { join: each, sync: each, heartbeat: each, commit: each, fetch: each, offsetFetch: each },
          maxDelay: 700
        })
        const members = []
        for (const name of ["a", "b", "c"])
          members.push(yield* member(kafka, name, { protocol, requestTimeout: 2_000 }))
        for (let round = 0; round < 12; round++) {
          for (let partition = 0; partition < 6; partition++)
            yield* fill(kafka, partition, Math.floor(source.next() * 6))
          for (const one of members) {
            const entries = [...one.held.values()].map((p) => ({ ...p, offset: BigInt(round), metadata: `${round}` }))
            yield* Effect.forkScoped(one.session.commit(entries))
          }
          const control = kafka.sessionsUnsafe()[Math.floor(source.next() * 3)]!
          const roll = source.next()
          if (roll < 0.1) yield* control.evict
          else if (roll < 0.2) yield* control.breakConnections
          else if (roll < 0.3) yield* kafka.rebalance("g")
          else if (roll < 0.4) {
            yield* kafka.brokerDown
            yield* advance(500, step)
            yield* kafka.brokerUp
          }
          yield* advance(2_000, step)
        }
        return kafka.traceUnsafe().join("\n")
      })
    )
    // a clock of its own, that begins at 0
  ).pipe(Effect.provide(TestClock.layer()))

describe("determinism", () => {
  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `${protocol}: the same calls give the same trace, another seed gives another one`,
      () =>
        Effect.gen(function* () {
          for (const seed of [1, 2, 3]) {
            const first = yield* history(seed, protocol, 100)
            const second = yield* history(seed, protocol, 100)
            assert.strictEqual(second, first)
            assert.isTrue(first.split("\n").length > 100, "something has happened")
          }
          assert.notStrictEqual(yield* history(1, protocol, 100), yield* history(2, protocol, 100))
        }),
      60_000
    )
  }

  it.effect("a trace is kept only when it is asked for", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka.make()
      yield* kafka.createTopic("t")
      yield* member(kafka, "a")
      assert.deepStrictEqual(kafka.traceUnsafe(), [])
    })
  )
})
