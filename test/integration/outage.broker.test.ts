import { Handler } from "@concurrent-kafka/core"
import type { Delivery } from "@concurrent-kafka/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { inject } from "vitest"
import * as Kafka from "../kafka/kafka.ts"
import * as InProcess from "./inProcess.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const shared = inject("brokers")
const soon = { heartbeatInterval: 500, sessionTimeout: 6000, batchInterval: 200 }

/** Counts how often each record was handled. */
const counting = () => {
  const times = new Map<string, number>()
  const keyOf = (topic: string, partition: number, offset: bigint) => `${topic}/${partition}/${offset}`
  return {
    times,
    count: ({ offset, partition, topic }: Delivery) => {
      const key = keyOf(topic, partition, offset)
      times.set(key, (times.get(key) ?? 0) + 1)
    },
    missing: (topic: string, ends: Outside.Offsets) => {
      const missing: Array<string> = []
      for (const [partition, end] of ends) {
        for (let offset = 0n; offset < end; offset++) {
          const key = keyOf(topic, partition, offset)
          if (!times.has(key)) missing.push(key)
        }
      }
      return missing
    },
    get twice() {
      return [...times.values()].filter((n) => n > 1).length
    }
  }
}

/** A plain client finds no leader for a while. */
const readEnds = (outside: Outside.Outside, topic: string) =>
  until("the ends can be read", outside.ends(topic), (all) => all.size > 0)

/** Everything that was written is handled and committed. */
const complete = Effect.fnUntraced(function* (
  outside: Outside.Outside,
  topic: string,
  groupId: string,
  records: ReturnType<typeof counting>
) {
  const ends = yield* readEnds(outside, topic)
  yield* until(
    "everything is handled",
    Effect.sync(() => records.missing(topic, ends)),
    (missing) => missing.length === 0
  )
  yield* until("the end is committed", outside.committed(groupId, topic), (now) => Outside.same(now, ends))
  return [...ends.values()].reduce((sum, end) => sum + Number(end), 0)
})

describe.runIf(inject("own"))("an outage", () => {
  it.live(
    "of the only broker, killed and started again under load, is told by health and loses nothing (I3, I10, D51)",
    () =>
      Effect.gen(function* () {
        const partitions = 6
        const kafka = yield* Kafka.start({ own: true })
        const outside = yield* Outside.connect(kafka.brokers)
        const topic = Outside.fresh("outage")
        yield* outside.createTopic(topic, partitions)
        const records = counting()
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* (record) {
            yield* Effect.sleep(20)
            records.count(record)
          })
        )
        const consumer = yield* InProcess.start(kafka.brokers, handler, { groupId: topic, concurrency: 50, ...soon })
        const producing = yield* Effect.forkScoped(
          Outside.load(outside, topic, { partitions, ahead: 1000, taken: () => records.times.size })
        )
        const handled = Effect.sync(() => records.times.size)
        yield* until("it handles", handled, (n) => n > 1000)
        const codes = yield* InProcess.watchHealth(consumer)
        yield* kafka.kill(0)
        const killedAt = performance.now()
        const down = yield* InProcess.says(consumer, "disconnected")
        const toldAfter = performance.now() - killedAt
        assert.strictEqual(down.status, "down")
        assert.isTrue(down.live && down.ready)
        yield* InProcess.says(consumer, "commitsFailing")
        yield* kafka.restart(0)
        const upAt = performance.now()
        const before = records.times.size
        yield* until("it handles again", handled, (n) => n > before + 1000)
        const goesOnAfter = performance.now() - upAt
        yield* InProcess.isWell(consumer)
        yield* Fiber.interrupt(producing)
        const total = yield* complete(outside, topic, topic, records)
        yield* InProcess.isWell(consumer)
        const { rebalances, unexpectedTransitions } = yield* consumer.snapshot
        assert.strictEqual(unexpectedTransitions, 0)
        console.log(
          `killed: told after ${toldAfter.toFixed(0)} ms; up: 1,000 handled after ${goesOnAfter.toFixed(0)} ms; ${records.twice} of ` +
            `${total} twice; rebalances ${rebalances.map((r) => r.kind).join(" ")}; health said ${[...codes].join(" ")}`
        )
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "of one of three brokers, which leads a partition, interrupts nothing and loses nothing (I3, C24)",
    () =>
      Effect.gen(function* () {
        const partitions = 3
        const kafka = yield* Kafka.start({ own: true, nodes: 3 })
        const outside = yield* Outside.connect(kafka.brokers)
        const topic = Outside.fresh("leader")
        yield* outside.createTopic(topic, partitions)
        const records = counting()
        const handler = Handler.make(
          topic,
          Effect.fnUntraced(function* (record) {
            yield* Effect.sleep(20)
            records.count(record)
          })
        )
        const consumer = yield* InProcess.start(kafka.brokers, handler, { groupId: topic, concurrency: 50, ...soon })
        const producing = yield* Effect.forkScoped(
          Outside.load(outside, topic, { partitions, ahead: 500, taken: () => records.times.size })
        )
        yield* until(
          "it handles",
          Effect.sync(() => records.times.size),
          (n) => n > 500
        )
        const leader = (yield* outside.leaders(topic)).get(0)!
        yield* kafka.kill(leader - 1)
        const killedAt = performance.now()
        yield* until(
          "its partitions have other leaders",
          outside.leaders(topic),
          (now) => now.size === partitions && [...now.values()].every((id) => id > 0 && id !== leader)
        )
        const movedAfter = performance.now() - killedAt
        const ends = yield* readEnds(outside, topic)
        yield* until(
          "every partition goes on",
          consumer.snapshot,
          ({ partitions: all }) =>
            all.length === partitions && all.every((p) => (p.committed ?? 0n) > ends.get(p.partition)!)
        )
        const goesOnAfter = performance.now() - killedAt
        yield* Fiber.interrupt(producing)
        const total = yield* complete(outside, topic, topic, records)
        yield* InProcess.isWell(consumer)
        const { interrupted, rebalances, unexpectedTransitions } = yield* consumer.snapshot
        assert.strictEqual(unexpectedTransitions, 0)
        assert.strictEqual(interrupted, 0)
        console.log(
          `leader killed: others lead after ${movedAfter.toFixed(0)} ms, all partitions go on after ${goesOnAfter.toFixed(0)} ms; ` +
            `${records.twice} of ${total} twice; rebalances ${rebalances.map((r) => r.kind).join(" ")}`
        )
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("a topic", () => {
  it.live("that is created late is waited for (D30)", () =>
    Effect.gen(function* () {
      const outside = yield* Outside.connect(shared)
      const topic = Outside.fresh("late")
      const records = counting()
      const handler = Handler.make(topic, (record) => Effect.sync(() => records.count(record)))
      const consumer = yield* InProcess.start(shared, handler, { groupId: topic, ...soon })
      const missing = yield* InProcess.says(consumer, "topicMissing")
      assert.strictEqual(missing.status, "down")
      assert.isTrue(missing.live)
      assert.isFalse(missing.ready)
      yield* outside.createTopic(topic, 2)
      yield* outside.send(topic, [
        { value: "a", partition: 0 },
        { value: "b", partition: 1 }
      ])
      yield* complete(outside, topic, topic, records)
      yield* InProcess.isWell(consumer)
    }).pipe(Effect.scoped)
  )

  it.live(
    "that is deleted does not stop another one, and goes on when it is created again (D27, D28, I11)",
    () =>
      Effect.gen(function* () {
        const outside = yield* Outside.connect(shared)
        const goes = Outside.fresh("goes")
        const stays = Outside.fresh("stays")
        const groupId = goes
        yield* outside.createTopic(goes, 2)
        yield* outside.createTopic(stays, 2)
        const records = counting()
        const handler = Handler.make([goes, stays], (record) => Effect.sync(() => records.count(record)))
        const consumer = yield* InProcess.start(shared, handler, { groupId, metadataMaxAge: 2000, ...soon })
        const both = (value: string) => [
          { value, partition: 0 },
          { value, partition: 1 }
        ]
        for (let i = 0; i < 10; i++) {
          yield* outside.send(goes, both("old"))
          yield* outside.send(stays, both("first"))
        }
        yield* complete(outside, goes, groupId, records)
        yield* complete(outside, stays, groupId, records)

        yield* outside.deleteTopic(goes)
        const missing = yield* InProcess.says(consumer, "topicMissing")
        assert.strictEqual(missing.status, "down")
        assert.isTrue(missing.live && missing.ready)
        yield* outside.send(stays, both("second"))
        yield* complete(outside, stays, groupId, records)

        for (const key of [...records.times.keys()]) if (key.startsWith(`${goes}/`)) records.times.delete(key)
        yield* outside.createTopic(goes, 2)
        // fewer than the old topic had: what was committed of that one lies behind the end of this one
        for (let i = 0; i < 3; i++) yield* outside.send(goes, both("new"))
        yield* outside.send(stays, both("third"))
        yield* complete(outside, goes, groupId, records)
        yield* complete(outside, stays, groupId, records)
        yield* InProcess.isWell(consumer)
        assert.strictEqual((yield* consumer.snapshot).unexpectedTransitions, 0)
      }).pipe(Effect.scoped),
    90_000
  )

  it.live("whose retention cuts below the position goes on at its start, and what is lost is counted (D23, I10)", () =>
    Effect.gen(function* () {
      const count = 400
      const start = 300n
      const outside = yield* Outside.connect(shared)
      const topic = Outside.fresh("retention")
      yield* outside.createTopic(topic, 1)
      const value = Buffer.alloc(20_000, "x")
      for (let i = 0; i < count; i += 20) {
        yield* outside.send(
          topic,
          Array.from({ length: 20 }, () => ({ value, partition: 0 }))
        )
      }
      const records = counting()
      const gate = yield* Deferred.make<void>()
      const handler = Handler.make(
        topic,
        Effect.fnUntraced(function* (record) {
          yield* Deferred.await(gate)
          records.count(record)
        })
      )
      const consumer = yield* InProcess.start(shared, handler, {
        groupId: topic,
        concurrency: 5,
        maxHeldRecords: 20,
        ...soon
      })
      // one fetch of a megabyte, and no more while the handlers wait
      const full = yield* until(
        "it has read a part and is full",
        consumer.snapshot,
        ({ partitions: [p] }) => p !== undefined && p.paused.includes("full") && p.running === 5
      )
      assert.isBelow(Number(full.partitions[0]!.delivered), Number(start))
      yield* outside.deleteBefore(topic, 0, start)
      yield* Deferred.succeed(gate, undefined)
      const lost = yield* InProcess.says(consumer, "lostToRetention")
      assert.strictEqual(lost.status, "degraded")
      assert.isTrue(lost.live && lost.ready)
      yield* until("the end is committed", outside.committed(topic, topic), (now) => now.get(0) === BigInt(count))
      const { lostToRetention, outcomes, unexpectedTransitions } = yield* consumer.snapshot
      // what is missing lies in one piece in front of the new start, and was counted
      const missing = records.missing(topic, new Map([[0, BigInt(count)]]))
      assert.isAbove(missing.length, 0)
      assert.deepStrictEqual(
        missing,
        Array.from({ length: missing.length }, (_, i) => `${topic}/0/${Number(start) - missing.length + i}`)
      )
      assert.strictEqual(lostToRetention, BigInt(missing.length))
      assert.strictEqual(outcomes.handled, count - missing.length)
      assert.strictEqual(unexpectedTransitions, 0)
    }).pipe(Effect.scoped)
  )
})
