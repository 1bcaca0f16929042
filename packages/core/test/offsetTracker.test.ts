import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { OffsetTracker } from "../src/internal/offsetTracker.ts"

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

/** A log of chunks: gaps before each record, and after the last one of each chunk. */
const Chunks = Schema.Array(Schema.Struct({ gaps: Schema.Array(upTo(3)), tail: upTo(3) })).check(Schema.isMaxLength(12))
/** in which order records are settled: each takes one of those that are left */
const Choices = Schema.Array(upTo(1_000)).check(Schema.isMaxLength(60))

/** The obvious way to know it: a list of records with a mark each. */
class Model {
  readonly records: Array<{ readonly offset: bigint; done: boolean }> = []
  next: bigint
  constructor(start: bigint) {
    this.next = start
  }
  get committable(): bigint {
    return this.records.find((record) => !record.done)?.offset ?? this.next
  }
  get prefix(): number {
    const open = this.records.findIndex((record) => !record.done)
    return open === -1 ? this.records.length : open
  }
  /** by a former owner, of what was not delivered yet; offsets */
  claims: ReadonlyArray<readonly [bigint, bigint]> = []
  /** whether an offset may be called done: by somebody, or because there is no record */
  mayBeDone(offset: bigint): boolean {
    if (offset >= this.next) return this.claims.some(([from, to]) => from <= offset && offset < to)
    return this.records.find((record) => record.offset === offset)?.done ?? true
  }
  runs(): Array<readonly [bigint, bigint]> {
    const runs: Array<readonly [bigint, bigint]> = []
    for (let i = this.prefix; i < this.records.length; i++) {
      if (!this.records[i]!.done) continue
      let j = i
      while (j < this.records.length && this.records[j]!.done) j++
      runs.push([this.records[i]!.offset, this.records[j]?.offset ?? this.next])
      i = j
    }
    return runs
  }
}

type Log = typeof Chunks.Type

const deliver = (log: Log, start: bigint, capacity: number) => {
  const tracker = new OffsetTracker(start, capacity)
  const model = new Model(start)
  let offset = start
  for (const { gaps, tail } of log) {
    for (const gap of gaps) {
      offset += BigInt(gap)
      assert.strictEqual(tracker.deliver(offset), model.records.length)
      model.records.push({ offset, done: false })
      offset++
    }
    offset += BigInt(tail)
    tracker.chunkEnds(offset)
    model.next = offset
  }
  return { tracker, model }
}

const order = (count: number, choices: ReadonlyArray<number>): Array<number> => {
  const left = Array.from({ length: count }, (_, i) => i)
  return choices.flatMap((choice) => (left.length === 0 ? [] : left.splice(choice % left.length, 1)))
}

const agree = (tracker: OffsetTracker, model: Model) => {
  assert.strictEqual(tracker.committable, model.committable)
  assert.strictEqual(tracker.base, model.prefix)
  assert.strictEqual(tracker.delivered, model.next)
  assert.strictEqual(tracker.behindGap, model.records.filter((record) => record.done).length - model.prefix)
  model.records.forEach((record, seq) => {
    assert.strictEqual(tracker.isDone(seq), record.done, `seq ${seq}`)
    if (seq >= tracker.base) assert.strictEqual(tracker.offsetOf(seq), record.offset)
  })
  assert.deepStrictEqual(tracker.runs(1_000).runs, model.runs())
  assert.strictEqual(tracker.runCount, model.runs().length)
  const map = tracker.mapRuns()
  const inMap = (offset: bigint) =>
    map.some(
      (from, i) =>
        i % 2 === 0 && from <= Number(offset - model.committable) && Number(offset - model.committable) < map[i + 1]!
    )
  for (let i = 0; i < map.length - 1; i++) assert.isTrue(map[i]! < map[i + 1]!, "ascending, and apart")
  for (const record of model.records) {
    if (record.offset >= model.committable)
      assert.strictEqual(inMap(record.offset), record.done, `map, ${record.offset}`)
  }
  for (const [from, to] of model.claims) {
    for (let offset = from; offset < to; offset++) {
      if (offset >= model.next) assert.isTrue(inMap(offset), `claimed, ${offset}`)
    }
  }
  for (let i = 0; i < map.length; i += 2) {
    for (let at = map[i]!; at < map[i + 1]!; at++) assert.isTrue(model.mayBeDone(model.committable + BigInt(at)))
  }
  const lastDone = model.records.findLast((record) => record.done)
  const behind = lastDone !== undefined && lastDone.offset > model.committable
  assert.strictEqual(tracker.span, behind ? Number(lastDone.offset + 1n - model.committable) : 0)
}

const starts = [0n, 5n, 2n ** 53n + 1n, 2n ** 62n]

describe("OffsetTracker", () => {
  it.prop(
    "I1: agrees with a list of marks at each step: committable never passes a record that is not done",
    [Chunks, Choices, upTo(3)],
    ([log, choices, start]) => {
      const { model, tracker } = deliver(log, starts[start]!, 1)
      agree(tracker, model)
      for (const seq of order(model.records.length, choices)) {
        const before = model.prefix
        model.records[seq]!.done = true
        assert.strictEqual(tracker.settle(seq), model.prefix - before)
        agree(tracker, model)
        const open = model.records.find((record) => !record.done)
        if (open !== undefined) assert.isTrue(tracker.committable <= open.offset)
      }
    },
    { arbitrary: { runs: 200, size: 20 } }
  )

  it.prop(
    "does not depend on the order in which records are settled",
    [Chunks, Choices, Choices],
    ([log, one, other]) => {
      const a = deliver(log, 0n, 1)
      const b = deliver(log, 0n, 1)
      const count = Math.min(a.model.records.length, one.length)
      const settled = order(a.model.records.length, one).slice(0, count)
      for (const seq of settled) a.tracker.settle(seq)
      const shuffled = order(settled.length, [...other, ...settled.map(() => 0)]).map((i) => settled[i]!)
      assert.strictEqual(shuffled.length, settled.length)
      for (const seq of shuffled) b.tracker.settle(seq)
      assert.strictEqual(a.tracker.committable, b.tracker.committable)
      assert.deepStrictEqual(a.tracker.runs(100), b.tracker.runs(100))
      assert.strictEqual(a.tracker.behindGap, b.tracker.behindGap)
    },
    { arbitrary: { runs: 200, size: 100 } }
  )

  it.prop(
    "I2: deliveries and settlements in any mixture: committable never goes back, growing keeps all bits",
    [
      Schema.Array(Schema.Struct({ deliver: upTo(9), settle: Schema.Array(upTo(1_000)) })).check(Schema.isMaxLength(20))
    ],
    ([steps]) => {
      const tracker = new OffsetTracker(10n, 2)
      const model = new Model(10n)
      let last = tracker.committable
      for (const { deliver, settle } of steps) {
        for (let i = 0; i < deliver; i++) {
          tracker.deliver(model.next)
          model.records.push({ offset: model.next, done: false })
          model.next++
        }
        tracker.chunkEnds(model.next)
        agree(tracker, model)
        for (const choice of settle) {
          if (model.records.length === 0) continue
          const seq = choice % model.records.length
          // settling twice changes nothing
          const already = model.records[seq]!.done
          model.records[seq]!.done = true
          const grown = tracker.settle(seq)
          if (already) assert.strictEqual(grown, 0)
          assert.isTrue(tracker.committable >= last)
          last = tracker.committable
        }
        agree(tracker, model)
      }
    },
    { arbitrary: { runs: 200, size: 30 } }
  )

  it.prop(
    "what a former owner has finished is asked for once, in order, and stays in the map until it is delivered",
    [Chunks, Schema.Array(Schema.Tuple([upTo(5), upTo(8)])).check(Schema.isMaxLength(8)), Choices, upTo(12)],
    ([log, claims, choices, cut]) => {
      const start = 2n ** 53n + 1n
      const tracker = new OffsetTracker(start, 1)
      const model = new Model(start)
      const flat: Array<number> = []
      for (const [gap, length] of claims) {
        const from = (flat.at(-1) ?? -1) + 1 + gap
        flat.push(from, from + length + 1)
      }
      tracker.claim(flat)
      model.claims = claims.map((_, i) => [start + BigInt(flat[2 * i]!), start + BigInt(flat[2 * i + 1]!)] as const)
      agree(tracker, model)
      let offset = start
      log.forEach(({ gaps, tail }, i) => {
        // retention has cut the log
        if (i === cut) offset += 20n
        for (const gap of gaps) {
          offset += BigInt(gap)
          const claimed = model.claims.some(([from, to]) => from <= offset && offset < to)
          assert.strictEqual(tracker.isClaimed(offset), claimed)
          const seq = tracker.deliver(offset)
          model.records.push({ offset, done: claimed })
          if (claimed) tracker.settle(seq)
          offset++
        }
        offset += BigInt(tail)
        tracker.chunkEnds(offset)
        model.next = offset
        agree(tracker, model)
        assert.strictEqual(
          tracker.claiming,
          model.claims.some(([, to]) => to > model.next)
        )
      })
      for (const seq of order(model.records.length, choices)) {
        model.records[seq]!.done = true
        tracker.settle(seq)
        agree(tracker, model)
      }
    },
    { arbitrary: { runs: 200, size: 20 } }
  )

  it.prop(
    "the version changes whenever the map does, as long as the offset stays",
    [Chunks, Choices],
    ([log, choices]) => {
      const { model, tracker } = deliver(log, 0n, 1)
      let before = { offset: tracker.committable, version: tracker.version, map: tracker.mapRuns() }
      for (const seq of order(model.records.length, choices)) {
        tracker.settle(seq)
        const now = { offset: tracker.committable, version: tracker.version, map: tracker.mapRuns() }
        if (now.offset === before.offset && now.version === before.version) assert.deepStrictEqual(now.map, before.map)
        before = now
      }
      // records in order leave it alone
      const inOrder = deliver(log, 0n, 1)
      for (let seq = 0; seq < inOrder.model.records.length; seq++) inOrder.tracker.settle(seq)
      assert.strictEqual(inOrder.tracker.version, 0)
    },
    { arbitrary: { runs: 200, size: 30 } }
  )

  it("control records between all records, each done: one run", () => {
    const tracker = new OffsetTracker(0n)
    for (let i = 0n; i < 200n; i += 2n) tracker.deliver(i)
    tracker.chunkEnds(200n)
    for (let seq = 1; seq < 100; seq++) if (seq !== 50) tracker.settle(seq)
    assert.deepStrictEqual(tracker.mapRuns(), [2, 100, 102, 200])
    assert.strictEqual(tracker.runCount, 2)
  })

  it("a chunk's end says whether committable moved by it", () => {
    const tracker = new OffsetTracker(100n, 4)
    assert.isTrue(tracker.chunkEnds(103n), "control records only")
    assert.strictEqual(tracker.committable, 103n)
    assert.isFalse(tracker.chunkEnds(103n), "nothing new")
    assert.isFalse(tracker.chunkEnds(90n), "never back")
    tracker.deliver(105n)
    assert.isFalse(tracker.chunkEnds(110n), "a record in front of it is not done")
    assert.strictEqual(tracker.committable, 105n)
    assert.strictEqual(tracker.settle(0), 1)
    assert.strictEqual(tracker.committable, 110n, "beyond the last record, where markers follow it")
  })

  it("runs are cut at the number asked for, gaps are counted in full", () => {
    const tracker = new OffsetTracker(0n, 2)
    for (let i = 0n; i < 20n; i++) tracker.deliver(i)
    tracker.chunkEnds(20n)
    for (let seq = 1; seq < 20; seq += 2) tracker.settle(seq)
    assert.deepStrictEqual(tracker.runs(2), {
      runs: [
        [1n, 2n],
        [3n, 4n]
      ],
      gaps: 10
    })
    assert.strictEqual(tracker.runs(100).runs.length, 10)
  })

  it("a stuck head and a hundred thousand done behind it", () => {
    const tracker = new OffsetTracker(0n)
    for (let i = 0; i <= 100_000; i++) tracker.deliver(BigInt(i))
    tracker.chunkEnds(100_001n)
    for (let seq = 100_000; seq > 0; seq--) assert.strictEqual(tracker.settle(seq), 0)
    assert.strictEqual(tracker.committable, 0n)
    assert.deepStrictEqual(tracker.runs(10), { runs: [[1n, 100_001n]], gaps: 1 })
    assert.strictEqual(tracker.settle(0), 100_001)
    assert.strictEqual(tracker.committable, 100_001n)
    assert.strictEqual(tracker.behindGap, 0)
  })
})
