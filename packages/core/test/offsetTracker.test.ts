import { assert, describe, it } from "@effect/vitest"
import { OffsetTracker } from "../src/internal/offsetTracker.ts"

describe("OffsetTracker", () => {
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

  it("runs are cut at the number asked for, what is done and what is not is counted in full", () => {
    const tracker = new OffsetTracker(0n, 2)
    for (let i = 0n; i < 20n; i++) tracker.deliver(i)
    tracker.chunkEnds(20n)
    for (let seq = 1; seq < 20; seq += 2) tracker.settle(seq)
    assert.deepStrictEqual(tracker.runs(2), [
      [1n, 2n],
      [3n, 4n]
    ])
    assert.strictEqual(tracker.runs(100).length, 10)
    assert.deepStrictEqual([tracker.gaps, tracker.done, tracker.behindGap, tracker.doneUpTo], [10, 10, 10, 20n])
  })

  it("a stuck head and a hundred thousand done behind it", () => {
    const tracker = new OffsetTracker(0n)
    for (let i = 0; i <= 100_000; i++) tracker.deliver(BigInt(i))
    tracker.chunkEnds(100_001n)
    for (let seq = 100_000; seq > 0; seq--) assert.strictEqual(tracker.settle(seq), 0)
    assert.strictEqual(tracker.committable, 0n)
    assert.deepStrictEqual(tracker.runs(10), [[1n, 100_001n]])
    assert.strictEqual(tracker.gaps, 1)
    assert.strictEqual(tracker.settle(0), 100_001)
    assert.strictEqual(tracker.committable, 100_001n)
    assert.strictEqual(tracker.behindGap, 0)
  })

  it("a gap is a record, however many of them lie side by side", () => {
    const tracker = new OffsetTracker(0n)
    for (let i = 0n; i < 1_000n; i++) tracker.deliver(i)
    tracker.chunkEnds(1_000n)
    assert.strictEqual(tracker.gaps, 0)
    tracker.settle(500)
    assert.deepStrictEqual([tracker.gaps, tracker.done, tracker.doneUpTo], [500, 1, 501n])
    for (let seq = 0; seq < 500; seq++) tracker.settle(seq)
    assert.deepStrictEqual([tracker.gaps, tracker.done, tracker.doneUpTo], [0, 501, 501n])
  })
})
