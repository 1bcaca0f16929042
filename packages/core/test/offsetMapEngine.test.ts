import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import type { CommitEntry } from "../src/ConsumerSession.ts"
import { encodedBytes } from "../src/internal/commitLoop.ts"
import { writeMap } from "../src/internal/mapWriter.ts"
import { OffsetMap } from "../src/OffsetMap.ts"
import { Desk, ended, pass, passUntil, turns, whileTimePasses, world } from "./harness.ts"
import { at, given, outcomes, recordAt, type Scripted, scripted } from "./script.ts"

/** what a map says is done, as `from-to` */
const said = (partition: number, base: number, metadata: string): ReadonlyArray<string> => {
  const decoded = OffsetMap.decode(metadata, { topic: "t", partition, base: BigInt(base), trust: "own" })
  return decoded._tag === "Map" ? [...OffsetMap.done(decoded.map)].map(([from, to]) => `${from}-${to}`) : [decoded._tag]
}
const entrySays = (entry: CommitEntry) => said(entry.partition, Number(entry.offset), entry.metadata)

const mapFor = (partition: number, base: number, runs: ReadonlyArray<readonly [from: number, to: number]>): string =>
  OffsetMap.encode({
    topic: "t",
    partition,
    base: BigInt(base),
    runs: runs.flatMap(([from, to]) => [from - base, to - base]),
    limit: 4_096
  }).metadata

/** Records at these offsets, then nothing up to `next`; the log ends at `end`. */
const chunk = (
  s: Scripted,
  partition: number,
  epoch: number,
  offsets: ReadonlyArray<number>,
  next: number,
  end = next
): Effect.Effect<void> =>
  s.session.signal({
    _tag: "Chunk",
    ...at(partition, epoch),
    records: offsets.map((offset) => recordAt(partition, offset)),
    nextOffset: BigInt(next),
    end: BigInt(end)
  })

const count = (length: number, each: (i: number) => number): ReadonlyArray<number> =>
  Array.from({ length }, (_, i) => each(i))
const lastEntry = (s: Scripted): CommitEntry => s.session.sent.at(-1)!.entries.at(-1)!

describe("what is done behind a gap", () => {
  it.effect(
    "D15: one stuck record and 12,000 behind it: they are recorded, and after a crash only it is handled again",
    () =>
      Effect.gen(function* () {
        const w = yield* world()
        yield* w.produce(12_000)
        const desk = () => new Desk({ around: (attempt, wait) => (attempt.record.offset === 0n ? wait : Effect.void) })
        const a = yield* w.member("a", { desk: desk(), sessionTimeout: 9_000 })
        yield* passUntil("all but one have finished", () => a.desk.attempts.length === 12_000, 60_000)
        yield* pass(11_000)
        assert.strictEqual(w.committed(), 0)
        const { metadata } = w.kafka.committedUnsafe("g", "t", 0)!
        assert.deepStrictEqual(said(0, 0, metadata), ["1-12000"])
        assert.isBelow(metadata.length, 30)
        const [p] = (yield* a.consumer.snapshot).partitions
        assert.deepInclude(p, { mapBytes: metadata.length, gaps: 1, committed: 0n })
        yield* a.session().crash
        const b = yield* w.member("b", { desk: desk() })
        yield* passUntil("b has it", () => b.desk.attempts.length > 0, 60_000, 1_000)
        yield* pass(5_000)
        assert.deepStrictEqual(b.desk.started, ["0:0"])
        yield* b.desk.finish(0, 0)
        assert.deepStrictEqual((yield* b.consumer.snapshot).outcomes, ended({ handled: 1, alreadyDone: 11_999 }))
        yield* pass(11_000)
        assert.strictEqual(w.committed(), 12_000)
        assert.strictEqual(w.kafka.committedUnsafe("g", "t", 0)!.metadata, "")
      }),
    120_000
  )

  it.effect("I3: a second life runs what was in flight and what finished after the last map, and nothing else", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      for (let p = 0; p < 2; p++) yield* w.produce(10, p)
      const a = yield* w.member("a", { concurrency: 20, batchSize: 1, sessionTimeout: 9_000 })
      yield* a.desk.finish(0, 0, 2, 3, 7)
      yield* a.desk.finish(1, 5)
      yield* pass(500)
      yield* a.desk.finish(0, 8)
      // the map of now was not sent: the last one is not a second old
      yield* a.session().crash
      const b = yield* w.member("b", { concurrency: 20 })
      yield* passUntil("b has it", () => b.desk.attempts.length > 0, 60_000, 1_000)
      assert.deepStrictEqual([...b.desk.started].sort(), [
        "0:1",
        "0:4",
        "0:5",
        "0:6",
        "0:8",
        "0:9",
        ...["0", "1", "2", "3", "4", "6", "7", "8", "9"].map((o) => `1:${o}`)
      ])
      yield* b.desk.finishAll()
      yield* pass(11_000)
      assert.deepStrictEqual([w.committed(0), w.committed(1)], [10, 10])
      assert.strictEqual((yield* b.consumer.snapshot).outcomes.alreadyDone, 4)
    })
  )

  it.effect("a quick second handover: what was not delivered meanwhile stays in the map", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0, concurrency: 20 })
      const metadata = mapFor(0, 100, [
        [102, 104],
        [110, 120],
        [130, 131]
      ])
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 100, metadata }])
      yield* s.consumer.flush
      assert.deepStrictEqual(s.session.commits, [], "as it was")
      yield* chunk(s, 0, 1, [100, 101, 102, 103, 104], 105, 200)
      assert.deepStrictEqual(s.desk.started, ["0:100", "0:101", "0:104"])
      yield* s.desk.finish(0, 101)
      yield* s.consumer.flush
      assert.strictEqual(lastEntry(s).offset, 100n)
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["101-104", "110-120", "130-131"])
      yield* s.desk.finish(0, 100)
      assert.strictEqual(lastEntry(s).offset, 104n)
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["110-120", "130-131"])
      // the rest, from its middle
      yield* chunk(
        s,
        0,
        1,
        count(16, (i) => 105 + i),
        121,
        200
      )
      assert.deepStrictEqual(s.desk.started.slice(3), ["0:105", "0:106", "0:107", "0:108", "0:109", "0:120"])
      yield* s.desk.finishAll()
      yield* pass(10)
      assert.strictEqual(lastEntry(s).offset, 121n)
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["130-131"])
      assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ handled: 9, alreadyDone: 12 }))
      yield* chunk(
        s,
        0,
        1,
        count(10, (i) => 121 + i),
        131,
        200
      )
      yield* s.desk.finishAll()
      yield* pass(10)
      assert.strictEqual(lastEntry(s).offset, 131n)
      assert.strictEqual(lastEntry(s).metadata, "")
      assert.strictEqual(s.rows.filter((row) => row === "record:R1").length, 13)
    })
  )

  it.effect(
    "what is done behind a gap arms both triggers, and a map alone is committed once in mapInterval, flushes aside",
    () =>
      Effect.gen(function* () {
        const s = yield* given([500], {
          batchSize: 10,
          batchInterval: 10_000,
          minCommitInterval: 50,
          concurrency: 1_000
        })
        yield* s.desk.finish(0, 2)
        yield* pass(9_999)
        assert.deepStrictEqual(s.session.commits, [])
        yield* pass(1)
        assert.deepStrictEqual(entrySays(lastEntry(s)), ["2-3"])
        // ten more at once: the map is not a second old
        const before = s.session.now()
        for (let i = 4; i < 24; i++) yield* s.desk.finish(0, i)
        assert.strictEqual(s.session.sent.length, 1)
        yield* pass(999)
        assert.strictEqual(s.session.sent.length, 1)
        yield* pass(1)
        assert.strictEqual(s.session.sent.length, 2)
        assert.strictEqual(s.session.sent[1]!.at - before, 1_000)
        assert.deepStrictEqual(entrySays(lastEntry(s)), ["2-3", "4-24"])
        // under a steady flow
        for (let i = 0; i < 100; i++) {
          for (let k = 0; k < 3; k++) yield* s.desk.finish(0, 30 + 3 * i + k)
          yield* pass(100)
        }
        const alone = s.session.sent.map((one) => one.at)
        assert.isAtMost(s.session.sent.length, 13)
        for (let i = 1; i < alone.length; i++) assert.isAtLeast(alone[i]! - alone[i - 1]!, 1_000)
        // an offset that moves does not wait
        yield* s.desk.finish(0, 400)
        yield* s.consumer.flush
        const sent = s.session.sent.length
        yield* s.desk.finish(0, 0, 1, 3)
        yield* pass(50)
        assert.strictEqual(lastEntry(s).offset, 24n)
        yield* s.desk.finish(0, 402)
        yield* s.consumer.flush
        yield* s.desk.finish(0, 404)
        yield* s.consumer.flush
        assert.strictEqual(s.session.sent.length, sent + 3)
      })
  )

  it.effect("I8: at a revoke and at close the map goes with the offset, and what is interrupted is not in it", () =>
    Effect.gen(function* () {
      const s = yield* given([6, 6], { concurrency: 20 })
      yield* s.desk.finish(0, 0, 2, 4)
      yield* s.desk.finish(1, 1, 5)
      const revoke = yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(2_000)
      yield* s.desk.finish(0, 5)
      yield* pass(3_000)
      assert.isTrue(revoke.answered())
      assert.deepStrictEqual(s.session.commits, ["0=1"])
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["2-3", "4-6"])
      yield* whileTimePasses(s.close)
      assert.deepStrictEqual(s.session.commits, ["0=1", "1=0"])
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["1-2", "5-6"])
    })
  )

  it.effect("D18: control records and filtered ones between all records make no runs of their own", () =>
    Effect.gen(function* () {
      const s = yield* scripted({
        batchSize: 1,
        concurrency: 200,
        headerFilter: (record) => record.offset % 10n !== 4n
      })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      // every other offset is a marker; some records are not for us
      yield* chunk(
        s,
        0,
        1,
        count(100, (i) => 2 * i),
        200
      )
      for (let i = 1; i < 100; i++) if ((2 * i) % 10 !== 4 && i !== 50) yield* s.desk.finish(0, 2 * i)
      yield* pass(1_000)
      yield* s.consumer.flush
      assert.deepStrictEqual(entrySays(lastEntry(s)), ["2-100", "102-200"])
      assert.strictEqual((yield* s.consumer.snapshot).partitions[0]!.gaps, 2)
      // the prefix moves by filtered ones alone
      yield* s.desk.finish(0, 0, 100)
      yield* pass(100)
      assert.strictEqual(lastEntry(s).offset, 200n)
    })
  )

  it.effect(
    "the map of a moment lies beside the offset of that moment, whatever finishes while a request is under way",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ commitLatency: 40 })
        yield* w.produce(300)
        let random = 11
        const next = (n: number) => (random = (random * 48271) % 2147483647) % n
        // the monitor of the world reads each map
        const a = yield* w.member("a", {
          concurrency: 60,
          batchSize: 1,
          mapInterval: 10,
          minCommitInterval: 0,
          desk: new Desk({ around: () => Effect.sleep(1 + next(400)) })
        })
        yield* passUntil("all are committed", () => w.committed() === 300, 60_000, 20)
        assert.isAbove(w.kafka.commitsUnsafe().filter((c) => c.entries.some((e) => e.metadata !== "")).length, 10)
        yield* whileTimePasses(a.close)
      })
  )

  for (const [name, options, client] of [
    ["with offsetMap off", { offsetMap: "off" }, {}],
    ["where the client cannot carry metadata", {}, { commitMetadata: false }]
  ] as const) {
    it.effect(
      `D15: ${name} nothing is written or read, and 10,000 records may be started in front of a stuck one`,
      () =>
        Effect.gen(function* () {
          const w = yield* world()
          w.expect("passedOver")
          yield* w.produce(10_100)
          const desk = new Desk({ around: (attempt, wait) => (attempt.record.offset === 0n ? wait : Effect.void) })
          const a = yield* w.member("a", { ...options, client, desk, batchSize: 1 })
          yield* pass(5_000)
          assert.strictEqual(desk.attempts.length, 10_000)
          assert.include((yield* a.consumer.snapshot).partitions[0]!.paused, "uncommitted")
          yield* whileTimePasses(a.close)
          assert.isTrue(w.kafka.commitsUnsafe().every((c) => c.entries.every((e) => e.metadata === "")))
          yield* w.kafka.setCommitted("g", "t", 0, { offset: 5n, metadata: mapFor(0, 5, [[6, 10_000]]) })
          const b = yield* w.member("b", { ...options, client, concurrency: 3 })
          yield* pass(1_000)
          assert.deepStrictEqual(b.desk.started, ["0:5", "0:6", "0:7"])
        }),
      120_000
    )
  }
})

describe("maps that are too large", () => {
  /** every third of many, far from each other: more than fits */
  const scattered = (s: Scripted, records: number, spacing: number) =>
    chunk(
      s,
      0,
      1,
      count(records, (i) => i * spacing),
      records * spacing
    )

  it.effect(
    "D16: a map is cut to the limit; above three quarters of it nothing starts beyond what is done, until it has shrunk",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ batchSize: 1_000_000, concurrency: 1_200 })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* scattered(s, 1_600, 50)
        assert.strictEqual(s.desk.running.length, 1_200)
        for (let i = 1; i < 560; i += 2) yield* s.desk.finish(0, i * 50)
        // 280 runs are below three quarters of 4,096 characters
        assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, [])
        assert.strictEqual(s.desk.attempts.length, 1_480)
        for (let i = 561; i < 1_200; i += 2) yield* s.desk.finish(0, i * 50)
        assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, ["map"])
        assert.isTrue(s.session.paused.has(0))
        // permits are free, and records are there
        assert.isAtMost(s.desk.attempts.length, 1_490)
        assert.isBelow(s.desk.running.length, 900)
        yield* s.consumer.flush
        const { metadata, offset } = lastEntry(s)
        assert.strictEqual(offset, 0n)
        assert.isAtMost(metadata.length, 4_096)
        const runs = entrySays(lastEntry(s))
        assert.isAbove(runs.length, 300)
        assert.deepStrictEqual(
          runs,
          count(runs.length, (i) => 50 * (2 * i + 1)).map((from) => `${from}-${from + 50}`)
        )
        // what lies below finishes, the map shrinks, and it goes on
        for (let i = 4; i < 1_200; i += 2) yield* s.desk.finish(0, i * 50)
        assert.deepStrictEqual((yield* s.consumer.snapshot).partitions[0]!.paused, [])
        assert.strictEqual(s.desk.attempts.length, 1_600)
        yield* s.desk.finishAll()
        yield* s.desk.finishAll()
        yield* s.consumer.flush
        assert.strictEqual(lastEntry(s).offset, 1_600n * 50n)
        assert.deepStrictEqual((yield* s.consumer.snapshot).outcomes, ended({ handled: 1_600 }))
      }),
    120_000
  )

  it.effect("D16: at a revoke the map that is too large is cut, not left out", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1_000_000, concurrency: 2_000 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* scattered(s, 1_200, 50)
      for (let i = 1; i < 1_200; i += 2) yield* s.desk.finish(0, i * 50)
      yield* s.session.revoking([at(0, 1)], { exact: true })
      yield* pass(6_000)
      assert.deepStrictEqual(s.session.commits, ["0=0"])
      assert.isAbove(entrySays(lastEntry(s)).length, 300)
    })
  )

  it.effect(
    "D19: a broker that takes less: the limit is learned, the map is cut to it, and no offset is held up",
    () =>
      Effect.gen(function* () {
        const w = yield* world({ partitions: 2, maxMetadataLength: 100 })
        for (let p = 0; p < 2; p++) yield* w.produce(2_000, p)
        const a = yield* w.member("a", {
          batchSize: 1_000_000,
          concurrency: "unbounded",
          desk: new Desk({ around: (attempt, wait) => (attempt.record.offset % 16n === 0n ? wait : Effect.void) })
        })
        yield* pass(1_000)
        const outcomes = yield* a.consumer.flush
        assert.deepStrictEqual(outcomes.map((o) => `${o.partition} ${o.outcome}`).sort(), [
          "0 committed",
          "1 committed"
        ])
        const refused = () =>
          w.kafka
            .commitsUnsafe()
            .flatMap((c) => c.entries)
            .filter((e) => e.code !== undefined)
        assert.isAtMost(refused().length, 8, "by half and by half")
        for (let p = 0; p < 2; p++) {
          const { metadata } = w.kafka.committedUnsafe("g", "t", p)!
          assert.isAtMost(metadata.length, 100)
          assert.isAbove(said(p, 0, metadata).length, 2)
        }
        const before = refused().length
        yield* a.desk.finish(0, 0)
        yield* a.consumer.flush
        assert.strictEqual(w.committed(0), 16)
        yield* whileTimePasses(a.close)
        assert.strictEqual(refused().length, before, "learned once for the session, not by each partition")
        assert.isAbove(said(0, 16, w.kafka.committedUnsafe("g", "t", 0)!.metadata).length, 2)
      }),
    120_000
  )

  it.effect("D19: a broker that takes no metadata at all", () =>
    Effect.gen(function* () {
      const w = yield* world({ maxMetadataLength: 0 })
      yield* w.produce(50)
      const a = yield* w.member("a", { batchSize: 1, concurrency: 50 })
      yield* a.desk.finish(0, 0, 2, 3)
      yield* pass(2_000)
      assert.strictEqual(w.committed(), 1)
      yield* a.desk.finishAll()
      yield* pass(2_000)
      assert.strictEqual(w.committed(), 50)
      assert.deepStrictEqual((yield* a.consumer.snapshot).partitions[0]!.paused, [])
    })
  )

  it.effect("an entry that is refused alone loses its map before it is lost itself", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ batchSize: 1, minCommitInterval: 0 })
      s.session.always = (entries) =>
        entries.map(({ metadata }) =>
          metadata === ""
            ? { ...at(0, 1), outcome: "committed" }
            : { ...at(0, 1), outcome: "rejected", code: "REQUEST_TOO_LARGE" }
        )
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 5)
      yield* s.desk.finish(0, 2)
      yield* s.desk.finish(0, 0)
      yield* pass(10)
      assert.deepStrictEqual([lastEntry(s).offset, lastEntry(s).metadata], [1n, ""])
      const sent = s.session.sent.length
      yield* pass(60_000)
      assert.isAtMost(s.session.sent.length, sent + 1)
    })
  )

  it.effect(
    "D17: 1,000 partitions with maps: 256 KiB a request, 1 MiB a second, and a flush that does not wait",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ batchSize: 100_000, batchInterval: 100, concurrency: 10_000 })
        const partitions = count(1_000, (p) => p)
        // all of them come with almost full maps of a former owner
        const runs = count(350, (i) => 100 + 90 * i).map((from) => [from, from + 40 + (from % 7)] as const)
        yield* s.session.assign(
          partitions.map((p) => ({ partition: p, epoch: p + 1, committed: 0, metadata: mapFor(p, 0, runs) }))
        )
        for (const p of partitions) yield* chunk(s, p, p + 1, [0, 1, 2, 3, 4, 5], 6, 100_000)
        for (const p of partitions) s.desk.at(p, 1).end(Exit.void)
        yield* turns
        yield* pass(100)
        const bytes = (from: number) =>
          s.session.sent
            .slice(from)
            .reduce((sum, one) => sum + one.entries.reduce((n, e) => n + e.metadata.length, 0), 0)
        assert.isAbove(bytes(0), 3_000_000, "all of them")
        assert.strictEqual(new Set(s.session.commits).size, 1_000)
        for (const one of s.session.sent) assert.isAtMost(encodedBytes(one.entries), 256 * 1024)
        // a second cycle waits for as long as the first one's bytes are worth
        const first = s.session.sent.length
        const began = s.session.now()
        for (const p of partitions) s.desk.at(p, 3).end(Exit.void)
        yield* passUntil("the second cycle", () => s.session.sent.length > first, 20_000, 10)
        assert.isAtLeast(s.session.now() - began, Math.floor((bytes(0) - bytes(first)) / 1049) - 20)
        yield* pass(0)
        // and a flush does not
        const second = s.session.sent.length
        for (const p of partitions) s.desk.at(p, 5).end(Exit.void)
        yield* turns
        assert.strictEqual((yield* s.consumer.flush).length, 1_000)
        assert.isAbove(bytes(second), 3_000_000)
        for (const { entries } of s.session.sent.slice(second)) {
          assert.isAtMost(encodedBytes(entries), 256 * 1024)
          for (const entry of entries)
            assert.deepStrictEqual(entrySays(entry).slice(0, 4), ["1-2", "3-4", "5-6", "100-142"])
        }
      }),
    60_000
  )

  it.effect(
    "D17: a request that the broker refuses whole is halved, and the maps go with its halves",
    () =>
      Effect.gen(function* () {
        const s = yield* scripted({ batchSize: 1_000_000, concurrency: 2_000 })
        // less than what is sent at once, and more than what is too small to be refused for its size
        const accepted = 100_000
        s.session.always = (entries) =>
          encodedBytes(entries) > accepted
            ? outcomes("retriable", "UNKNOWN_SERVER_ERROR")(entries)
            : outcomes("committed")(entries)
        const partitions = count(300, (p) => p)
        const runs = count(350, (i) => 100 + 90 * i).map((from) => [from, from + 40] as const)
        yield* s.session.assign(
          partitions.map((p) => ({ partition: p, epoch: p + 1, committed: 0, metadata: mapFor(p, 0, runs) }))
        )
        for (const p of partitions) yield* chunk(s, p, p + 1, [0, 1, 2], 3, 100_000)
        for (const p of partitions) s.desk.at(p, 1).end(Exit.void)
        yield* turns
        const answers = yield* s.consumer.flush
        assert.strictEqual(answers.length, 300)
        assert.isTrue(answers.every((o) => o.outcome === "committed"))
        const stored = s.session.sent
          .filter((one) => encodedBytes(one.entries) <= accepted)
          .flatMap((one) => one.entries)
        assert.isAbove(s.session.sent.filter((one) => encodedBytes(one.entries) > accepted).length, 3)
        assert.strictEqual(new Set(stored.map((e) => e.partition)).size, 300)
        for (const entry of stored) assert.deepStrictEqual(entrySays(entry).slice(0, 2), ["1-2", "100-140"])
      }),
    60_000
  )
})

describe("maps of others", () => {
  const foreign: ReadonlyArray<readonly [metadata: string, why: string]> = [
    ["AQAAAAAAAAAB", "kafkaStreams"],
    ["WGFiYw==", "truncated"],
    ['{"a":1}', "notBase64"],
    ["TAEAAQ==", "unsupported"],
    ["ZAAAAAYBAg==", "unsupported"],
    ["RAAAAAYBAg==", "unsupported"],
    ["owned by pod-7", "notBase64"],
    ["bAAGMgA=", "unchecked"],
    ["bgABAAEAAgAC", "unchecked"],
    ["ZQAAAAEAAAABAAAAAgAAAAI=", "unchecked"],
    ["YQECAw==", "zstdMissing"],
    [mapFor(99, 5, [[6, 8]]), "checkWrong"]
  ]

  it.effect("D20: whatever lies beside a committed offset, the consumer starts there and passes over nothing", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ concurrency: 100, batchSize: 1, minCommitInterval: 0 })
      yield* s.session.assign(foreign.map(([metadata], p) => ({ partition: p, epoch: p + 1, committed: 5, metadata })))
      for (let p = 0; p < foreign.length; p++) yield* chunk(s, p, p + 1, [5, 6, 7], 8)
      assert.strictEqual(s.desk.attempts.length, 3 * foreign.length)
      // it stays as it is, until there is something to commit
      yield* s.consumer.flush
      assert.deepStrictEqual(s.session.commits, [])
      yield* s.desk.finish(0, 5)
      assert.deepStrictEqual(s.session.commits, ["0=6"])
      assert.strictEqual(lastEntry(s).metadata, "")
      for (const [metadata, why] of foreign) {
        const lines = s.logs.filter((line) => line.includes(`(${why})`))
        // what was never meant to be a map is nothing to warn of
        assert.strictEqual(
          lines.length,
          why === "notBase64" || why === "kafkaStreams" ? 0 : 1,
          `${why}: ${lines.join(" ")}`
        )
        assert.isTrue(
          s.logs.every((line) => !line.includes(metadata)),
          "its content is nobody's business"
        )
      }
    })
  )

  it.effect("D20: a fork's envelope around one of our maps is read", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ concurrency: 100 })
      const inner = Buffer.from(mapFor(0, 5, [[6, 8]]), "base64")
      const metadata = Buffer.concat([Buffer.from([0x58, 0, 2, 9, 9]), inner]).toString("base64")
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 5, metadata }])
      yield* s.session.chunk(0, 1, 5, 10)
      assert.deepStrictEqual(s.desk.started, ["0:5", "0:8", "0:9"])
    })
  )

  it.effect("D21: a map that was copied beside a translated offset marks nothing", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(20)
      yield* w.kafka.setCommitted("g", "t", 0, { offset: 4n, metadata: mapFor(0, 7, [[8, 15]]) })
      const a = yield* w.member("a", { concurrency: 30, offsetMap: "all" })
      yield* pass(1_000)
      assert.strictEqual(a.desk.attempts.length, 16)
      assert.isTrue(a.logs.some((line) => line.includes("checkWrong")))
    })
  )

  it.effect("maps of the Java Parallel Consumer are passed by unless they are trusted", () =>
    Effect.gen(function* () {
      const java = writeMap([1, 3, 4, 5], 4_096, undefined, undefined).metadata
      for (const offsetMap of ["own", "all"] as const) {
        const s = yield* scripted({ concurrency: 100, offsetMap })
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 10, metadata: java }])
        yield* chunk(s, 0, 1, [10, 11, 12, 13, 14, 15], 16)
        assert.deepStrictEqual(
          s.desk.started,
          offsetMap === "all" ? ["0:10", "0:13", "0:15"] : count(6, (i) => 10 + i).map((o) => `0:${o}`)
        )
        assert.strictEqual(
          s.logs.some((line) => line.includes("unchecked")),
          offsetMap === "own"
        )
      }
    })
  )

  it.effect("I12: a map that speaks of what the log does not have, or of another beginning, is not used", () =>
    Effect.gen(function* () {
      const s = yield* scripted({ concurrency: 100, offsetMap: "all" })
      const endless = "ZQAAAAF/////"
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 5, metadata: endless },
        { partition: 1, epoch: 2, committed: 5, metadata: mapFor(1, 5, [[6, 9]]) },
        { partition: 2, epoch: 3, committed: 5, metadata: mapFor(2, 5, [[6, 9]]) }
      ])
      yield* chunk(s, 0, 1, [5, 6, 7], 8, 1_000)
      yield* chunk(s, 1, 2, [5, 6, 7], 8, 8)
      yield* chunk(s, 2, 3, [3, 4, 5, 6, 7], 8, 1_000)
      assert.strictEqual(s.desk.attempts.length, 9)
      assert.strictEqual(s.logs.filter((line) => line.includes("(beyondEnd)")).length, 2)
      assert.strictEqual(s.logs.filter((line) => line.includes("(otherStart)")).length, 1)
    })
  )

  it.effect("D22: retention has cut into what a map speaks of: above the cut it is as good as it was", () =>
    Effect.gen(function* () {
      const w = yield* world()
      yield* w.produce(30)
      yield* w.kafka.setCommitted("g", "t", 0, {
        offset: 5n,
        metadata: mapFor(0, 5, [
          [7, 9],
          [12, 20]
        ])
      })
      yield* w.kafka.deleteRecordsBefore("t", 0, 14n)
      w.expect("passedOver")
      const a = yield* w.member("a", { concurrency: 50 })
      yield* pass(1_000)
      assert.deepStrictEqual(
        a.desk.started,
        count(10, (i) => 20 + i).map((o) => `0:${o}`)
      )
      const snapshot = yield* a.consumer.snapshot
      assert.deepStrictEqual([snapshot.lostToRetention, snapshot.outcomes.alreadyDone], [9n, 6])
      yield* a.desk.finishAll()
      yield* pass(11_000)
      assert.strictEqual(w.committed(), 30)
    })
  )

  it.effect("D22: a position behind the end of the log, and a seek: the map is dropped, also in the broker", () =>
    Effect.gen(function* () {
      const w = yield* world()
      w.expect("passedOver")
      w.expect("backwards")
      yield* w.produce(30)
      yield* w.kafka.setCommitted("g", "t", 0, { offset: 40n, metadata: mapFor(0, 40, [[41, 60]]) })
      const a = yield* w.member("a", { concurrency: 50 })
      yield* pass(1_000)
      assert.strictEqual(a.desk.attempts.length, 30)
      assert.deepStrictEqual(w.kafka.committedUnsafe("g", "t", 0), { offset: 0n, metadata: "" })
      yield* a.desk.finish(0, 0, 2, 3, 4)
      yield* a.consumer.flush
      assert.deepStrictEqual(said(0, 1, w.kafka.committedUnsafe("g", "t", 0)!.metadata), ["2-5"])
      yield* whileTimePasses(a.consumer.seek({ topic: "t", partition: 0 }, 1n))
      assert.deepStrictEqual(w.kafka.committedUnsafe("g", "t", 0), { offset: 1n, metadata: "" })
      yield* pass(1_000)
      assert.strictEqual(a.desk.attempts.length, 59, "those that the map had called done too")
    })
  )

  it.effect("what comes back retained with another map than was sent last is committed again", () =>
    Effect.gen(function* () {
      const s = yield* given([6], { batchSize: 1, minCommitInterval: 0 })
      yield* s.desk.finish(0, 2)
      yield* s.consumer.flush
      const older = lastEntry(s).metadata
      yield* s.desk.finish(0, 4)
      yield* s.consumer.flush
      const newer = lastEntry(s).metadata
      assert.notStrictEqual(older, newer)
      const sent = s.session.sent.length
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0, metadata: newer }])
      assert.strictEqual(s.session.sent.length, sent)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* pass(6_000)
      const suspended = s.session.sent.length
      // a late request of ours was applied over it
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 0, metadata: older }])
      assert.strictEqual(s.session.sent.length, suspended + 1)
      assert.strictEqual(lastEntry(s).metadata, newer)
    })
  )

  it.effect("compressed maps are read and written where there is a compressor, and only there", () =>
    Effect.gen(function* () {
      const zstd: OffsetMap.Zstd = {
        compress: (bytes) => zstdCompressSync(bytes),
        decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
      }
      const runs = count(600, (i) => 6 * i + 1).flatMap((from) => [from, from + 3])
      const { metadata } = OffsetMap.encode({ topic: "t", partition: 0, base: 0n, runs, limit: 4_096, zstd })
      const consumer = () =>
        Effect.gen(function* () {
          const s = yield* scripted({ concurrency: 10 })
          yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0, metadata }])
          yield* chunk(
            s,
            0,
            1,
            count(8, (i) => i),
            8,
            10_000
          )
          yield* s.desk.finish(0, 6)
          yield* s.consumer.flush
          return { started: s.desk.started, magic: Buffer.from(lastEntry(s).metadata, "base64")[0] }
        })
      const without = yield* consumer()
      assert.deepStrictEqual([without.started.length, without.magic], [8, 0x6c])
      const withZstd = yield* Effect.provideService(consumer(), OffsetMap.Zstd, zstd)
      assert.deepStrictEqual(withZstd.started, ["0:0", "0:4", "0:5", "0:6"])
      assert.include([0x61, 0x70], withZstd.magic)
    })
  )
})
