import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Desk, pass, passUntil, world } from "./harness.ts"
import { at, given, later, outcomes, scripted } from "./script.ts"

const partitionRows = (rows: ReadonlyArray<string>) =>
  rows.filter((r) => r.startsWith("partition:")).map((r) => r.slice(10))

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

  it.effect(
    "D2: a drain that hits its clock under an eager protocol leaves no hard boundary in the epoch that goes on",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { batchSize: 1, minCommitInterval: 0 })
        yield* s.desk.finish(0, 1)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(4_999)
        assert.isFalse(revoke.answered())
        yield* pass(1)
        assert.isTrue(revoke.answered())
        assert.deepStrictEqual(s.desk.running, ["0:0", "0:2"])
        // finished between the generations: settled, not committed, not by a flush either
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(yield* s.consumer.flush, [])
        yield* pass(20_000)
        // the map says that 1 is done
        assert.deepStrictEqual(s.session.commits, ["0=0"])
        const { metadata } = s.session.sent[0]!.entries[0]!
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0, metadata }])
        assert.deepStrictEqual(s.session.commits, ["0=0", "0=2"])
        yield* s.desk.finish(0, 2)
        yield* pass(10)
        assert.deepStrictEqual(s.session.commits, ["0=0", "0=2", "0=3"])
        assert.deepStrictEqual(s.desk.interrupted, [])
      })
  )

  it.effect(
    "D2: under an exact protocol the drain clock interrupts, the epoch ends, and the record comes again in a new one",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { batchSize: 1, minCommitInterval: 0 })
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
      const s = yield* given([2], { revokeDrain: 5_000, interruptGrace: 1_000, flushReserve: 2_000 })
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
      const s = yield* given([2])
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true, hold: 0 })
      assert.isTrue(revoke.answered())
      assert.strictEqual(revoke.at(), 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.deepStrictEqual(s.desk.interrupted, ["0:1"])
    })
  )

  it.effect(
    "D3: a client that cannot wait does not wait for finalizers either, and gets its answer after the flush",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], {
          desk: new Desk({ around: (_, wait) => Effect.onInterrupt(wait, () => Effect.sleep(500)) })
        })
        yield* s.desk.finish(0, 0)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: true, hold: 0 })
        assert.deepStrictEqual([revoke.at(), s.session.commits], [0, ["0=1"]])
        assert.strictEqual((yield* s.consumer.snapshot).permits.used, 2)
        yield* pass(500)
        assert.strictEqual((yield* s.consumer.snapshot).permits.used, 0)
      })
  )

  it.effect("D4: a second revoking before the assignment is answered at once, without drain or flush", () =>
    Effect.gen(function* () {
      const s = yield* given([2])
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
      const s = yield* given([2])
      const first = yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(1_000)
      const second = yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.deepStrictEqual([first.answered(), second.answered()], [false, true])
      yield* s.desk.finish(0, 0, 1)
      assert.isTrue(first.answered())
      assert.deepStrictEqual(s.session.commits, ["0=2"])
    })
  )

  it.effect(
    "D5: a generation missed: what comes back has a new epoch, old records do not run, nothing old is committed",
    () =>
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
        yield* passUntil(
          "a has them back",
          () =>
            (w.kafka.groupUnsafe("g").members[0]?.assignment.length ?? 0) === 4 &&
            w.kafka.groupUnsafe("g").state === "Stable" &&
            a.rows.filter((r) => r === "partition:P1").length > 4
        )
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
      const s = yield* given([3, 1])
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
      const s = yield* given([1, 2])
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

  it.effect("D6: nothing starts while a signal is only half carried out: the rest of it takes that partition too", () =>
    Effect.gen(function* () {
      const s = yield* given([1, 1], { concurrency: 1 })
      yield* s.session.lost(at(0, 1), at(1, 2))
      assert.deepStrictEqual(s.desk.started, ["0:0"])
      yield* s.session.assign([
        { partition: 0, epoch: 3, committed: 0 },
        { partition: 1, epoch: 4, committed: 0 }
      ])
      yield* s.session.chunk(0, 3, 0, 1)
      yield* s.session.chunk(1, 4, 0, 1)
      yield* s.session.assign([])
      assert.deepStrictEqual(s.desk.started, ["0:0", "0:0"])
    })
  )

  for (const protocol of ["eager", "incremental"] as const) {
    it.effect(
      `D6: thrown out of the group while draining (${protocol}): nothing is committed, the records come again in new epochs`,
      () =>
        Effect.gen(function* () {
          const w = yield* world({ partitions: 2, protocol })
          for (let p = 0; p < 2; p++) yield* w.produce(2, p)
          const a = yield* w.member("a")
          const b = yield* w.member("b")
          yield* pass(3_000)
          const draining = (yield* a.consumer.snapshot).partitions.filter((p) => p.state === "holding")
          assert.isAbove(draining.length, 0)
          const { epoch, partition } = draining[0]!
          yield* a.desk.finish(partition, 0)
          yield* a.session().evict
          const before = w.kafka
            .commitsUnsafe()
            .flatMap((commit) => commit.entries)
            .filter((e) => e.code === undefined).length
          yield* pass(3_000)
          assert.isTrue(a.desk.attempts.filter((one) => one.record.epoch === epoch).every((one) => !one.running))
          assert.strictEqual(
            w.kafka
              .commitsUnsafe()
              .flatMap((commit) => commit.entries)
              .filter((e) => e.code === undefined).length,
            before
          )
          yield* passUntil("both run again", () => a.desk.running.length + b.desk.running.length >= 4, 60_000, 1_000)
          yield* a.desk.finishAll()
          yield* b.desk.finishAll()
          yield* pass(20_000)
          assert.deepStrictEqual([w.committed(0), w.committed(1)], [2, 2])
        })
    )
  }

  for (const [state, prepare] of [
    [
      "opening",
      (s) =>
        Effect.andThen(
          Effect.sync(() => void s.session.answers.push(later().answer)),
          s.session.assign([{ partition: 0, epoch: 1 }])
        )
    ],
    [
      "open",
      (s) => Effect.andThen(s.session.assign([{ partition: 0, epoch: 1, committed: 0 }]), s.session.chunk(0, 1, 0, 2))
    ],
    [
      "holding",
      (s) =>
        Effect.gen(function* () {
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.chunk(0, 1, 0, 2)
          yield* s.session.revoking([at(0, 1)], { exact: true })
        })
    ],
    [
      "flushing",
      (s) =>
        Effect.gen(function* () {
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.chunk(0, 1, 0, 2)
          s.session.answers.push(later().answer)
          yield* s.session.revoking([at(0, 1)], { exact: true })
          yield* s.desk.finish(0, 0, 1)
        })
    ],
    [
      "suspended",
      (s) =>
        Effect.gen(function* () {
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
          yield* s.session.chunk(0, 1, 0, 2)
          yield* s.session.revoking([at(0, 1)], { exact: false })
          yield* pass(5_000)
        })
    ]
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

describe("rebalance, exact", () => {
  it.effect(
    "I11: a revoke touches only what is revoked: the other partition starts, finishes and commits meanwhile",
    () =>
      Effect.gen(function* () {
        const s = yield* given([2, 2], { batchSize: 1, minCommitInterval: 0 })
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
        yield* s.session.chunk(1, 2, 2, 4)
        assert.deepStrictEqual(s.desk.running, ["0:0", "0:1", "1:0", "1:1", "1:2", "1:3"])
        yield* s.desk.finish(1, 0, 1)
        assert.deepStrictEqual(s.session.commits, ["1=2"])
        assert.isFalse(revoke.answered())
        yield* pass(5_000)
        assert.isTrue(revoke.answered())
        assert.deepStrictEqual(s.desk.interrupted, ["0:0", "0:1"])
        assert.deepStrictEqual(s.desk.running, ["1:2", "1:3"])
        assert.isFalse(s.session.paused.has(1))
      })
  )

  it.effect("D47: two incremental members: what moves is drained and flushed, what stays runs on uninterrupted", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 4, protocol: "incremental" })
      for (let p = 0; p < 4; p++) yield* w.produce(4, p)
      const a = yield* w.member("a", { concurrency: 16, batchSize: 1, minCommitInterval: 0 })
      assert.strictEqual(a.desk.running.length, 16)
      const b = yield* w.member("b", { concurrency: 16 })
      yield* pass(3_000)
      const leaving = (yield* a.consumer.snapshot).partitions
        .filter((p) => p.state === "holding")
        .map((p) => p.partition)
      assert.strictEqual(leaving.length, 2)
      // the first record of each partition: those that stay commit at once, those that go with the flush
      for (let p = 0; p < 4; p++) yield* a.desk.finish(p, 0)
      yield* passUntil("b has its share", () => b.desk.running.length === 6)
      assert.deepStrictEqual(
        a.desk.interrupted.map((place) => Number(place.split(":")[0])).filter((p) => !leaving.includes(p)),
        []
      )
      assert.strictEqual(a.desk.interrupted.length, 6)
      for (let p = 0; p < 4; p++) assert.strictEqual(w.committed(p), 1)
      // b goes on after what a has done
      assert.isTrue(b.desk.started.every((place) => !place.endsWith(":0")))
      yield* a.desk.finishAll()
      yield* b.desk.finishAll()
      yield* pass(10_000)
      for (let p = 0; p < 4; p++) assert.strictEqual(w.committed(p), 4)
    })
  )

  it.effect("two revokes at once, of different partitions, are drained and answered each by itself", () =>
    Effect.gen(function* () {
      const s = yield* given([1, 1])
      const first = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(1_000)
      const second = yield* s.session.revoking([at(1, 2)], { exact: true })
      yield* s.desk.finish(1, 0)
      assert.deepStrictEqual([first.answered(), second.answered()], [false, true])
      yield* pass(4_000)
      assert.strictEqual(first.at(), 5_000)
      assert.deepStrictEqual(s.session.commits, ["1=1"])
    })
  )

  it.effect("finalizers of interrupted handlers have interruptGrace before the flush of an exact revoke", () =>
    Effect.gen(function* () {
      const s = yield* given([3], {
        desk: new Desk({
          around: ({ record }, wait) => Effect.onInterrupt(wait, () => Effect.sleep(record.offset === 1n ? 300 : 600))
        })
      })
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(5_599)
      assert.isFalse(revoke.answered())
      yield* pass(1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      yield* pass(10_000)
      assert.strictEqual((yield* s.consumer.snapshot).permits.byZombies, 0)
    })
  )

  it.effect("a lost partition while the flush of another drain is tried again does not stop that", () =>
    Effect.gen(function* () {
      const s = yield* given([1, 1])
      yield* s.desk.finishAll()
      s.session.answers.push(...Array.from({ length: 5 }, () => outcomes("retriable", "NOT_COORDINATOR")))
      const revoke = yield* s.session.revoking([at(0, 1), at(1, 2)], { exact: true })
      yield* pass(100)
      yield* s.session.lost(at(0, 1))
      assert.isFalse(revoke.answered())
      yield* pass(300)
      assert.isTrue(revoke.answered())
      assert.strictEqual(s.session.commits.at(-1), "1=1")
      // and where all of them are lost there is nothing to try any more
      yield* s.session.assign([{ partition: 0, epoch: 3, committed: 0 }])
      yield* s.session.chunk(0, 3, 0, 1)
      yield* s.desk.finishAll()
      s.session.answers.push(...Array.from({ length: 50 }, () => outcomes("retriable", "NOT_COORDINATOR")))
      const second = yield* s.session.revoking([at(0, 3)], { exact: true })
      yield* s.session.lost(at(0, 3))
      assert.isTrue(second.answered())
      const sent = s.session.sent.length
      yield* pass(30_000)
      assert.isAtMost(s.session.sent.length, sent + 1)
    })
  )

  it.effect("a partition more or less changes what one of several may hold", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ maxHeldRecords: 100 })
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 0 },
        { partition: 1, epoch: 2, committed: 0 }
      ])
      yield* s.session.chunk(0, 1, 0, 60)
      assert.deepStrictEqual([...s.session.paused], [0])
      for (let i = 0; i < 10; i++) yield* s.desk.finish(0, i)
      assert.deepStrictEqual([...s.session.paused], [0])
      yield* s.session.lost(at(1, 2))
      // alone it may hold all, and goes on at half
      for (let i = 10; i < 12; i++) yield* s.desk.finish(0, i)
      assert.deepStrictEqual([...s.session.paused], [])
    })
  )

  it.effect("the last hundred rebalances are remembered, and all are counted", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      for (let i = 0; i < 130; i++) {
        yield* s.session.assign([{ partition: 0, epoch: i + 1, committed: 0 }])
        yield* pass(1)
      }
      const { rebalanceCounts, rebalances } = yield* s.consumer.snapshot
      assert.strictEqual(rebalances.length, 100)
      assert.strictEqual(rebalances.at(-1)!.at, 129)
      assert.deepStrictEqual(rebalanceCounts, { assigned: 130, revoked: 0, lost: 0 })
    })
  )

  it.effect("an event that the table does not have is ignored, counted, and logged once", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ careless: true })
      s.session.answers.push(later().answer)
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      // nothing is fetched before begin
      yield* s.session.chunk(0, 1, 0, 3)
      yield* s.session.chunk(0, 1, 3, 5)
      assert.deepStrictEqual(s.unexpected, ["partition opening chunk", "partition opening chunk"])
      assert.strictEqual((yield* s.consumer.snapshot).unexpectedTransitions, 2)
      assert.deepStrictEqual(s.desk.started, [])
      assert.strictEqual(
        s.logs.filter((line) => line.includes('unexpected event "chunk" in state "opening"')).length,
        1
      )
    })
  )

  it.effect("records that had run longer than revokeDrain when the revoke came are not waited for", () =>
    Effect.gen(function* () {
      const s = yield* given([1])
      yield* pass(6_000)
      yield* s.session.chunk(0, 1, 1, 2)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
      assert.isFalse(revoke.answered())
      yield* pass(100)
      yield* s.desk.finish(0, 1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.running, ["0:0"])
    })
  )

  it.effect("a revoke is answered when nothing runs, and buffered records of an exact one never start", () =>
    Effect.gen(function* () {
      const s = yield* given([5], { concurrency: 1 })
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      // what was on its way is given up, unregistered
      yield* s.session.chunk(0, 1, 5, 7)
      yield* s.desk.finish(0, 0)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.desk.started, ["0:0"])
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual((yield* s.consumer.snapshot).released, 6)
      assert.strictEqual((yield* s.consumer.snapshot).held.records, 0)
    })
  )

  it.effect(
    "a chunk that comes while an eager revoke is held is buffered and runs after the partition was retained",
    () =>
      Effect.gen(function* () {
        const s = yield* given([1])
        yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* s.session.chunk(0, 1, 1, 3)
        assert.deepStrictEqual(s.desk.running, ["0:0"])
        yield* s.desk.finish(0, 0)
        assert.deepStrictEqual(s.desk.running, [])
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
        assert.deepStrictEqual(s.desk.running, ["0:1", "0:2"])
        assert.include(s.rows, "partition:P31")
      })
  )

  for (const phase of ["holding", "flushing"] as const) {
    it.effect(`an assignment that retains a partition in state ${phase} opens it again (the client did not wait)`, () =>
      Effect.gen(function* () {
        const s = yield* given([2])
        const late = later()
        if (phase === "flushing") s.session.answers.push(late.answer)
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* s.desk.finish(0, 0)
        if (phase === "flushing") yield* s.desk.finish(0, 1)
        assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, phase)
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0 }])
        assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.state, "open")
        assert.include(s.rows, "partition:P10a")
        assert.isTrue(revoke.answered())
        yield* s.session.chunk(0, 1, 2, 3)
        assert.include(s.desk.running, "0:2")
        // the flush's late answer counts as any commit's
        yield* late.give()
        yield* s.desk.finishAll()
        yield* pass(10_000)
        assert.strictEqual(s.session.commits.at(-1), "0=3")
        assert.deepStrictEqual(s.desk.interrupted, [])
      })
    )
  }

  for (const [phase, exact] of [
    ["holding", true],
    ["holding", false],
    ["flushing", true],
    ["flushing", false]
  ] as const) {
    it.effect(
      `an assignment without a partition in state ${phase} (exact ${exact}) ends its epoch and sends nothing more`,
      () =>
        Effect.gen(function* () {
          const s = yield* given([2])
          const late = later()
          s.session.answers.push(late.answer)
          const revoke = yield* s.session.revoking([at(0, 1)], { exact })
          yield* s.desk.finish(0, 0)
          if (phase === "flushing") yield* s.desk.finish(0, 1)
          const sent = s.session.sent.length
          yield* s.session.assign([])
          assert.isTrue(revoke.answered())
          assert.include(s.rows, "partition:P10b")
          assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
          yield* late.give()
          yield* pass(20_000)
          assert.strictEqual(s.session.sent.length, sent)
          if (phase === "flushing") assert.strictEqual((yield* s.consumer.snapshot).fenced, 1)
        })
    )
  }

  it.effect(
    "I2: a partition that comes back with a higher epoch starts from the committed offset; outcomes of the old epoch are fenced",
    () =>
      Effect.gen(function* () {
        const s = yield* given([3], { batchSize: 1, minCommitInterval: 0, interruptGrace: 1_000, desk: stubborn() })
        yield* s.session.revoking([at(0, 1)], { exact: false })
        yield* pass(5_000)
        yield* s.session.assign([{ partition: 0, epoch: 2, committed: 1 }])
        assert.include(s.rows, "partition:P14")
        yield* s.session.chunk(0, 2, 1, 3)
        yield* pass(1_000)
        // the old fibers end now, with success: nothing of an ended epoch is sent
        const old = s.desk.attempts.slice(0, 3)
        for (const attempt of old) attempt.end(Exit.void)
        yield* pass(100)
        assert.deepStrictEqual(s.session.commits, [])
        assert.strictEqual((yield* s.consumer.snapshot).fenced, 3)
        yield* s.desk.finish(0, 1)
        yield* pass(100)
        assert.deepStrictEqual(s.session.commits, ["0=2"])
        yield* s.desk.finish(0, 2)
      })
  )

  it.effect(
    "an eager revoke while the start is being established is answered at once, and opened anew when retained",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted()
        const late = later()
        s.session.answers.push(late.answer)
        yield* s.session.assign([{ partition: 0, epoch: 1 }])
        assert.deepStrictEqual(s.session.commits, ["0=0"])
        const revoke = yield* s.session.revoking([at(0, 1)], { exact: false })
        assert.isTrue(revoke.answered())
        assert.include(s.rows, "partition:P4a")
        yield* late.give(outcomes("deferred", "REBALANCE_IN_PROGRESS"))
        assert.deepStrictEqual(s.session.begun, [])
        yield* s.session.assign([{ partition: 0, epoch: 1, retained: true }])
        yield* pass(3_500)
        assert.deepStrictEqual(s.session.begun, ["0#1@0"])
        assert.strictEqual(s.session.commits.at(-1), "0=0")
      })
  )

  it.effect("an exact revoke while the start is being established ends the epoch and is answered at once", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      s.session.answers.push(later().answer)
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      assert.isTrue(revoke.answered())
      assert.include(s.rows, "partition:P4")
      assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
    })
  )

  it.effect("a revoke of what is not owned is answered at once", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      yield* s.session.assign([])
      const revoke = yield* s.session.revoking([at(0, 7)], { exact: true })
      assert.isTrue(revoke.answered())
      assert.include(s.rows, "partition:P29")
    })
  )

  it.effect(
    "an owed answer is given also when the flush fails, is deferred, or gets no answer within flushReserve",
    () =>
      Effect.gen(function* () {
        for (const answer of [
          outcomes("retriable", "NO_ANSWER"),
          outcomes("deferred", "REBALANCE_IN_PROGRESS"),
          later().answer
        ]) {
          const s = yield* given([1], { flushReserve: 2_000 })
          s.session.answers.push(...Array.from({ length: 200 }, () => answer))
          const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
          yield* s.desk.finish(0, 0)
          assert.isFalse(revoke.answered())
          yield* pass(1_990)
          assert.isFalse(revoke.answered())
          yield* pass(10)
          assert.isTrue(revoke.answered())
          assert.deepStrictEqual((yield* s.consumer.snapshot).partitions, [])
        }
      })
  )

  it.effect("a flush that the broker puts off is tried again until it is stored", () =>
    Effect.gen(function* () {
      const s = yield* given([1])
      s.session.answers.push(
        outcomes("retriable", "COORDINATOR_LOAD_IN_PROGRESS"),
        outcomes("retriable", "NOT_COORDINATOR")
      )
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* s.desk.finish(0, 0)
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      yield* pass(100)
      assert.deepStrictEqual(s.session.commits, ["0=1", "0=1", "0=1"])
      assert.isTrue(revoke.answered())
    })
  )

  it.effect("a handler that ignores the interruption of an exact revoke delays the answer by interruptGrace only", () =>
    Effect.gen(function* () {
      const s = yield* given([2], { desk: stubborn() })
      yield* s.desk.finish(0, 0)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(5_999)
      assert.isFalse(revoke.answered())
      yield* pass(1)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.strictEqual((yield* s.consumer.snapshot).permits.byZombies, 1)
      yield* s.desk.finish(0, 1)
      const snapshot = yield* s.consumer.snapshot
      assert.deepStrictEqual([snapshot.permits.byZombies, snapshot.permits.used, snapshot.held.records], [0, 0, 0])
    })
  )
})

/** handlers that ignore interruption */
const stubborn = () => new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
