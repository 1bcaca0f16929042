import type { Assigned, Chunk, Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"

const settings: SessionSettings = {
  groupId: "g",
  topics: ["t"],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 3_000,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 30_000,
  maxWait: 250,
  topicTimeout: undefined
}

const next = <T extends Signal["_tag"]>(session: Session, tag: T) =>
  Effect.map(Queue.take(session.inbox), (signal) => {
    assert.strictEqual(signal._tag, tag)
    return signal as Extract<Signal, { readonly _tag: T }>
  })

describe("smoke", () => {
  it.effect("join, begin, chunks, commit, without a moving clock", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t")
      yield* kafka.produce("t", [{ value: "a" }, { value: "b" }])
      const session = yield* (yield* KafkaClient).openSession(settings)
      yield* session.join
      const assigned: Assigned = yield* next(session, "Assigned")
      assert.strictEqual(assigned.all.length, 1)
      const [p] = assigned.all
      session.beginUnsafe([{ ...p!, offset: 0n }])
      const chunk: Chunk = yield* next(session, "Chunk")
      assert.deepStrictEqual(
        chunk.records.map((r) => new TextDecoder().decode(r.value!)),
        ["a", "b"]
      )
      const [outcome] = yield* session.commit([{ ...p!, offset: chunk.nextOffset, metadata: "m" }])
      assert.strictEqual(outcome!.outcome, "committed")
      assert.deepStrictEqual(yield* kafka.committed("g", "t", 0), { offset: 2n, metadata: "m" })
      yield* kafka.produce("t", [{ value: "c" }])
      const more: Chunk = yield* next(session, "Chunk")
      assert.strictEqual(more.nextOffset, 3n)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
  it.effect("the same, incremental", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t")
      yield* kafka.produce("t", [{ value: "a" }, { value: "b" }])
      const session = yield* (yield* KafkaClient).openSession(settings)
      yield* session.join
      const assigned: Assigned = yield* next(session, "Assigned")
      session.beginUnsafe([{ ...assigned.all[0]!, offset: 0n }])
      const chunk: Chunk = yield* next(session, "Chunk")
      assert.strictEqual(chunk.records.length, 2)
    }).pipe(Effect.provide(MemoryKafka.layer({ protocol: "incremental" })))
  )
  it.live("a million records in a short time", () =>
    Effect.gen(function* () {
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("t", { partitions: 4 })
      const value = new Uint8Array(100)
      for (let partition = 0; partition < 4; partition++) {
        yield* kafka.produceMany({ topic: "t", partition }, 250_000, () => ({ key: null, value }))
      }
      const session = yield* (yield* KafkaClient).openSession(settings)
      yield* session.join
      const assigned: Assigned = yield* next(session, "Assigned")
      const began = performance.now()
      session.beginUnsafe(assigned.all.map((p) => ({ ...p, offset: 0n })))
      let count = 0
      while (count < 1_000_000) count += (yield* next(session, "Chunk")).records.length
      console.log("ms", performance.now() - began)
    }).pipe(Effect.provide(MemoryKafka.layer()))
  )
})
