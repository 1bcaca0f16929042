import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Handler } from "../src/Handler.ts"
import { Desk, pass, passUntil, turns, world } from "./harness.ts"
import { at, given, recordAt, scripted } from "./script.ts"

describe("backpressure", () => {
  it.effect(
    "I6: held records stay under the limit plus one fetch, however slow the handler; all are handled in the end",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 3, maxChunk: 100, maxFetchRecords: 300 })
        w.expect("passedOver")
        for (let partition = 0; partition < 3; partition++) {
          yield* w.kafka.produceMany({ topic: "t", partition }, 3_000, () => ({ key: null, value: new Uint8Array(10) }))
        }
        let handled = 0
        let most = 0
        const a = yield* w.member("a", {
          maxHeldRecords: 500,
          concurrency: 20,
          policy: "none",
          handler: Handler.make("t", () =>
            Effect.andThen(
              Effect.sleep(10),
              Effect.sync(() => void handled++)
            )
          )
        })
        for (let i = 0; i < 600 && handled < 9_000; i++) {
          yield* pass(10)
          most = Math.max(most, (yield* a.consumer.snapshot).held.records)
        }
        assert.strictEqual(handled, 9_000)
        assert.isAtLeast(most, 300)
        // one fetch that crosses the limit, and one that was under way
        assert.isAtMost(most, 500 + 2 * 300)
        const { held } = yield* a.consumer.snapshot
        assert.deepStrictEqual([held.records, held.bytes], [0, 0])
      })
  )

  it.effect("I6: bytes count too, and a record that is larger than the limit is admitted alone", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ maxHeldBytes: 50 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      for (let i = 0; i < 6; i++) {
        assert.isFalse(s.session.paused.has(0))
        yield* s.session.signal({
          _tag: "Chunk",
          ...at(0, 1),
          records: [{ ...recordAt(0, i), value: new Uint8Array(100) }],
          nextOffset: BigInt(i + 1),
          end: 6n
        })
        assert.strictEqual((yield* s.consumer.snapshot).held.bytes, 100)
        assert.isTrue(s.session.paused.has(0))
        yield* s.desk.finish(0, i)
      }
      assert.strictEqual((yield* s.consumer.snapshot).held.bytes, 0)
    })
  )

  it.effect("I6: a full partition is paused and does not stop the others", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ maxHeldRecords: 100, concurrency: 4, ordering: "partition" })
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.session.chunk(0, 1, 0, 50)
      assert.deepStrictEqual([...s.session.paused], [0])
      assert.deepStrictEqual(
        (yield* s.consumer.snapshot).partitions.map((p) => p.paused),
        [["full"], []]
      )
      // what it holds is started all the same: that is how it gets empty
      for (let i = 0; i < 25; i++) yield* s.desk.finish(0, i)
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* s.desk.finish(0, 25)
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  it.effect("a single partition pauses at the limit and goes on at half of it", () =>
    Effect.gen(function* () {
      const s = yield* given([99], { maxHeldRecords: 100, concurrency: "unbounded" })
      assert.strictEqual(s.session.paused.size, 0)
      yield* s.session.chunk(0, 1, 99, 100)
      assert.strictEqual(s.session.paused.size, 1)
      for (let i = 0; i < 50; i++) yield* s.desk.finish(0, i)
      assert.strictEqual(s.session.paused.size, 1)
      yield* s.desk.finish(0, 50)
      assert.strictEqual(s.session.paused.size, 0)
    })
  )

  it.effect(
    "several pause at three quarters of the limit, but who holds little; at half of that fetching goes on",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ maxHeldRecords: 160, concurrency: "unbounded" })
        yield* s.session.assign(Array.from({ length: 4 }, (_, i) => ({ partition: i, epoch: i + 1, committed: 0 })))
        for (let p = 0; p < 3; p++) yield* s.session.chunk(p, p + 1, 0, 39)
        assert.strictEqual(s.session.paused.size, 0)
        yield* s.session.chunk(3, 4, 0, 3)
        assert.deepStrictEqual(
          [...s.session.paused].sort((a, b) => a - b),
          [0, 1, 2]
        )
        // a quarter of the limit, by four
        yield* s.session.chunk(3, 4, 3, 10)
        assert.strictEqual(s.session.paused.size, 4)
        yield* s.desk.finish(3, 0)
        assert.deepStrictEqual(
          [...s.session.paused].sort((a, b) => a - b),
          [0, 1, 2]
        )
        for (let i = 0; i < 29; i++) yield* s.desk.finish(0, i)
        for (let i = 0; i < 29; i++) yield* s.desk.finish(1, i)
        // 10 and 10 and 39 and 9: 68
        assert.deepStrictEqual(
          [...s.session.paused].sort((a, b) => a - b),
          [0, 1, 2]
        )
        for (let i = 0; i < 9; i++) yield* s.desk.finish(2, i)
        assert.strictEqual(s.session.paused.size, 0)
      })
  )

  it.effect("a chunk that was under way when the partition was paused is taken", () =>
    Effect.gen(function* () {
      const s = yield* given([10], { maxHeldRecords: 10, concurrency: 1 })
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* s.session.chunk(0, 1, 10, 20)
      assert.strictEqual((yield* s.consumer.snapshot).held.records, 20)
      for (let i = 0; i < 20; i++) yield* s.desk.finish(0, i)
      assert.strictEqual(s.desk.attempts.length, 20)
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  it.effect(
    "D15: one record that never ends: what lies behind it goes on up to maxUncommitted, other partitions do not notice",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 2 })
        w.expect("passedOver")
        for (let partition = 0; partition < 2; partition++) {
          yield* w.kafka.produceMany({ topic: "t", partition }, 3_000, () => ({ key: null, value: null }))
        }
        const handled = [0, 0]
        let release = () => {}
        const a = yield* w.member("a", {
          concurrency: 5,
          maxUncommitted: 1_000,
          policy: "none",
          handler: Handler.make("t", (record) =>
            Effect.suspend(() => {
              if (record.partition === 0 && record.offset === 0n) {
                return Effect.callback<void>((resume) => {
                  release = () => resume(Effect.sync(() => void handled[0]!++))
                })
              }
              handled[record.partition]!++
              return Effect.sleep(1)
            })
          )
        })
        yield* passUntil("the other partition is done", () => handled[1] === 3_000, 20_000)
        yield* pass(10_000)
        assert.strictEqual(handled[0], 999)
        const snapshot = yield* a.consumer.snapshot
        const stuck = snapshot.partitions.find((p) => p.partition === 0)!
        assert.include(stuck.paused, "uncommitted")
        assert.deepStrictEqual([w.committed(0), w.committed(1)], [0, 3_000])
        assert.deepStrictEqual(stuck.doneBehindGap, [[1n, 1_000n]])
        assert.strictEqual(stuck.gaps, 1)
        release()
        yield* passUntil("all are done", () => handled[0] === 3_000, 20_000)
        yield* pass(10_000)
        assert.strictEqual(w.committed(0), 3_000)
      }),
    30_000
  )

  it.effect("D15: several stuck partitions do not stop the others, whatever they hold", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ maxHeldRecords: 100, maxUncommitted: 30, concurrency: "unbounded" })
      yield* s.session.assign(Array.from({ length: 4 }, (_, i) => ({ partition: i, epoch: i + 1, committed: 0 })))
      // each stuck at its first record, with as much behind it as one may hold
      for (let p = 0; p < 3; p++) {
        yield* s.session.chunk(p, p + 1, 0, 60)
        for (let i = 1; i < 30; i++) yield* s.desk.finish(p, i)
      }
      assert.deepStrictEqual(
        [...s.session.paused].sort((a, b) => a - b),
        [0, 1, 2]
      )
      for (let from = 0; from < 200; from += 20) {
        yield* s.session.chunk(3, 4, from, from + 20)
        assert.isFalse(s.session.paused.has(3))
        for (let i = from; i < from + 20; i++) yield* s.desk.finish(3, i)
      }
    })
  )

  it.effect("D15: the same with lanes: partitions stuck at one record of their lane hold only their share", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ maxHeldRecords: 100, ordering: "partition", concurrency: 10 })
      yield* s.session.assign(Array.from({ length: 4 }, (_, i) => ({ partition: i, epoch: i + 1, committed: 0 })))
      for (let p = 0; p < 3; p++) yield* s.session.chunk(p, p + 1, 0, 50)
      assert.deepStrictEqual(
        [0, 1, 2].map((p) => s.session.paused.has(p)),
        [true, true, true]
      )
      for (let from = 0; from < 100; from += 5) {
        assert.isFalse(s.session.paused.has(3), `paused at ${from}`)
        yield* s.session.chunk(3, 4, from, from + 5)
        for (let i = from; i < from + 5; i++) yield* s.desk.finish(3, i)
      }
    })
  )

  it.effect("what was delivered before and comes again in the same epoch is not delivered again", () =>
    Effect.gen(function* () {
      const s = yield* given([3])
      yield* s.session.chunk(0, 1, 1, 5)
      assert.deepStrictEqual(s.desk.started, ["0:0", "0:1", "0:2", "0:3", "0:4"])
      assert.strictEqual((yield* s.consumer.snapshot).fenced, 2)
      yield* s.session.chunk(0, 1, 1, 4)
      assert.strictEqual(s.desk.started.length, 5)
    })
  )

  it.effect("control records and compacted tails are committed although no record of them is handled", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2, 7)
      yield* s.desk.finish(0, 0, 1)
      yield* pass(10)
      assert.strictEqual(s.session.commits.at(-1), "0=7")
      // markers only
      yield* s.session.chunk(0, 1, 9, 9)
      yield* pass(10_000)
      assert.strictEqual(s.session.commits.at(-1), "0=9")
    })
  )

  it.effect("a chunk of an epoch that is over is dropped and counted", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.lost(at(0, 1))
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.session.signal({ _tag: "Chunk", ...at(0, 9), records: [], nextOffset: 5n, end: 5n })
      assert.deepStrictEqual(s.desk.started, [])
      assert.strictEqual((yield* s.consumer.snapshot).fenced, 4)
    })
  )

  it.effect("held bytes are those of key, value and headers", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ desk: new Desk() })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.signal({
        _tag: "Chunk",
        ...at(0, 1),
        records: [
          {
            ...recordAt(0, 0, "1234"),
            key: new Uint8Array(3),
            headers: [
              ["name", new Uint8Array(10)],
              ["n", null]
            ]
          },
          { ...recordAt(0, 1, null) }
        ],
        nextOffset: 2n,
        end: 2n
      })
      assert.strictEqual((yield* s.consumer.snapshot).held.bytes, 4 + 3 + 14 + 1)
      yield* s.desk.finishAll()
      assert.strictEqual((yield* s.consumer.snapshot).held.bytes, 0)
      yield* turns
    })
  )
})
