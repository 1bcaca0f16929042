import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Desk, pass, passUntil, world } from "./harness.ts"
import { at, later, scripted } from "./script.ts"

const partitionRows = (rows: ReadonlyArray<string>) => rows.filter((r) => r.startsWith("partition:")).map((r) => r.slice(10))

describe("rebalance, eager", () => {
  it.effect("D1: an eager rebalance with retained partitions interrupts nothing, and what was buffered goes on", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      yield* w.produce(4, 0)
      yield* w.produce(4, 1)
      const a = yield* w.member("a", { concurrency: 4, revokeDrain: 5000 })
      assert.strictEqual(a.desk.running.length, 4)
      yield* w.kafka.rebalance("g")
      // noticed with the next heartbeat; the drain waits for its clock, then the group goes on
      yield* pass(3_000)
      assert.deepInclude((yield* a.consumer.snapshot).partitions[0], { state: "holding" })
      yield* passUntil("retained", () => partitionRows(a.rows).includes("P13"))
      assert.deepStrictEqual(a.desk.interrupted, [])
      yield* a.desk.finishAll()
      yield* a.desk.finishAll()
      assert.strictEqual(a.desk.attempts.length, 8)
      yield* a.desk.finishAll()
      yield* pass(10_000)
      assert.deepStrictEqual([w.committed(0), w.committed(1)], [4, 4])
      // every record was started once
      assert.strictEqual(new Set(a.desk.started).size, 8)
    })
  )

  it.effect("D2: a drain that hits its clock under an eager protocol leaves no hard boundary in the epoch that goes on", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.desk.finish(0, 1)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(4_999)
      assert.isFalse(revoke.answered())
      yield* pass(1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.running, ["0:0", "0:2"])
      // finished between the generations: settled, not committed
      yield* s.desk.finish(0, 0)
      yield* pass(20_000)
      assert.deepStrictEqual(s.session.commits, [])
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
      assert.deepStrictEqual(s.session.commits, ["0=2"])
      yield* s.desk.finish(0, 2)
      yield* pass(10)
      assert.deepStrictEqual(s.session.commits, ["0=2", "0=3"])
      assert.deepStrictEqual(s.desk.interrupted, [])
    })
  )

  it.effect("D2: under an exact protocol the drain clock interrupts, the epoch ends, and the record comes again in a new one", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(5_000)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.interrupted, ["0:1", "0:2"])
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 1 }])
      yield* s.session.chunk(0, 2, 1, 3)
      assert.deepStrictEqual(s.desk.running, ["0:1", "0:2"])
    })
  )

  it.effect("D3: a hold that is shorter than revokeDrain is used up to what the flush needs", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ revokeDrain: 5_000, interruptGrace: 1_000, flushReserve: 2_000 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true, hold: 4_000 })
      yield* pass(999)
      assert.isFalse(revoke.answered())
      assert.deepStrictEqual(s.desk.interrupted, [])
      yield* pass(1)
      assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.isBelow(revoke.at()!, 4_000)
    })
  )

  it.effect("D3: a client that cannot wait (hold 0) gets no drain: the flush is sent at once", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true, hold: 0 })
      assert.isTrue(revoke.answered())
      assert.strictEqual(revoke.at(), 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
    })
  )

  it.effect("D4: a second revoking before the assignment is answered at once, without drain or flush", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      const first = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(5_000)
      assert.isTrue(first.answered())
      const sent = s.session.sent.length
      const second = yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.isTrue(second.answered())
      assert.strictEqual(second.at(), 5_000)
      assert.strictEqual(s.session.sent.length, sent)
      assert.include(s.rows, "partition:P11")
    })
  )

  it.effect("D4: also while the first is still held: its drain goes on, the second is answered", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      const first = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_000)
      const second = yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.deepStrictEqual([first.answered(), second.answered()], [false, true])
      yield* s.desk.finish(0, 0, 1)
      assert.isTrue(first.answered())
      assert.deepStrictEqual(s.session.commits, ["0=2"])
    })
  )

  it.effect("D5: a generation missed: what comes back has a new epoch, old records do not run, nothing old is committed", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 4 })
      for (let p = 0; p < 4; p++) yield* w.produce(4, p)
      const a = yield* w.member("a", { concurrency: 2, batchSize: 1, minCommitInterval: 0, heartbeatInterval: 3_000 })
      assert.strictEqual(a.desk.running.length, 2)
      const before = [...a.desk.running]
      // a's next SyncGroup is 4 s late; meanwhile b joins, works, and leaves
      w.kafka.faults.next("sync", { kind: "slowRequest", ms: 8_000 }, { clientId: "a" })
      const desk = new Desk({ auto: true })
      const b = yield* w.member("b", { desk, concurrency: 10, batchSize: 1, minCommitInterval: 0 })
      yield* passUntil("b has worked", () => desk.attempts.length >= 4)
      yield* pass(100)
      yield* b.close
      const worked = new Set(desk.started)
      yield* passUntil("a has them back", () => (w.kafka.groupUnsafe("g").members[0]?.assignment.length ?? 0) === 4 && w.kafka.groupUnsafe("g").state === "Stable" && a.rows.filter((r) => r === "partition:P1").length > 4)
      // what b has done and committed is not begun again by a
      const again = a.desk.started.slice(before.length).filter((place) => worked.has(place))
      assert.deepStrictEqual(again, [])
      for (let i = 0; i < 20; i++) yield* a.desk.finishAll()
      yield* pass(1_000)
      for (let p = 0; p < 4; p++) assert.strictEqual(w.committed(p), 4, `partition ${p}`)
    })
  )

  it.effect("D6: lost while draining interrupts at once, commits nothing, and answers the revoke", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.session.chunk(1, 2, 0, 1)
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1), at(1, 2)], { exact: false })
      yield* pass(1_000)
      yield* s.session.lost(at(0, 1), at(1, 2))
      assert.deepStrictEqual(s.desk.interrupted, ["0:1", "0:2", "1:0"])
      assert.isTrue(revoke.answered())
      yield* pass(20_000)
      assert.deepStrictEqual(s.session.commits, [])
      const snapshot = yield* s.consumer.snapshot
      assert.deepStrictEqual(snapshot.partitions, [])
      assert.strictEqual(snapshot.held.records, 0)
      assert.strictEqual(snapshot.permits.used, 0)
    })
  )

  it.effect("D6: losing one of several partitions that drain together leaves the others draining", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.chunk(1, 2, 0, 2)
      yield* s.desk.finish(1, 0)
      const revoke = yield* s.session.revoking([at(0, 1), at(1, 2)], { exact: true })
      yield* s.session.lost(at(0, 1))
      assert.isFalse(revoke.answered())
      assert.deepStrictEqual(s.desk.running, ["1:1"])
      yield* s.desk.finish(1, 1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.session.commits, ["1=2"])
    })
  )

  for (const [state, prepare] of [
    ["opening", (s) => Effect.andThen(Effect.sync(() => void s.session.answers.push(later().answer)), s.session.assign([{ partition: 0, epoch: 1 }]))],
    ["open", (s) => Effect.andThen(s.session.assign([{ partition: 0, epoch: 1, committed: 0 }]), s.session.chunk(0, 1, 0, 2))],
    ["holding", (s) => Effect.gen(function* () {
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.session.revoking([at(0, 1)], { exact: true })
    })],
    ["flushing", (s) => Effect.gen(function* () {
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      s.session.answers.push(later().answer)
      yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* s.desk.finish(0, 0, 1)
    })],
    ["suspended", (s) => Effect.gen(function* () {
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 2)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(5_000)
    })]
  ] as ReadonlyArray<readonly [string, (s: Effect.Success<ReturnType<typeof scripted>>) => Effect.Effect<void>]>) {
    it.effect(`D6: lost in state ${state} ends the epoch at once, and no commit follows`, () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        yield* prepare(s)
        assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, state)
        const sent = s.session.sent.length
        yield* s.session.lost(at(0, 1))
        assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
        assert.deepStrictEqual(s.desk.running, [])
        assert.include(s.rows, "partition:P15")
        yield* pass(30_000)
        assert.strictEqual(s.session.sent.length, sent)
      })
    )
  }
})


