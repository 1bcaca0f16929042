import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { PartitionLog, type TransactionState } from "../src/internal/log.ts"

/** What a log is, said as simply as possible: a slot for each offset. */
interface Slot {
  readonly offset: bigint
  readonly value: number
  readonly control: boolean
  readonly transaction: TransactionState | undefined
  removed: boolean
}

class Model {
  start = 0n
  slots: Array<Slot> = []
  end = 0n

  append(values: ReadonlyArray<number>, control: boolean, transaction: TransactionState | undefined) {
    for (const value of values) {
      this.slots.push({ offset: this.end++, value, control, transaction, removed: false })
    }
  }
  visibleEnd(committed: boolean) {
    const open = this.slots.find((slot) => slot.transaction?.state === "open")
    const end = committed && open !== undefined ? open.offset : this.end
    return end > this.start ? end : this.start
  }
  visible(from: bigint, committed: boolean) {
    return this.slots.filter(
      (slot) =>
        slot.offset >= from &&
        slot.offset >= this.start &&
        slot.offset < this.visibleEnd(committed) &&
        !slot.control &&
        !slot.removed &&
        !(committed && slot.transaction?.state === "aborted")
    )
  }
}

const value = (n: number) => ({ key: Uint8Array.of(n % 5), value: Uint8Array.of(n), headers: [], timestamp: 0n })

const Step = Schema.Struct({
  kind: Schema.Literals([
    "append",
    "append",
    "begin",
    "write",
    "commit",
    "abort",
    "marker",
    "remove",
    "delete",
    "truncate"
  ]),
  n: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 }))
})

const run = (steps: ReadonlyArray<{ readonly kind: string; readonly n: number }>) => {
  const log = new PartitionLog("t", 0, 0n)
  const model = new Model()
  let transaction: TransactionState | undefined
  let serial = 0
  const append = (count: number, within: TransactionState | undefined) => {
    const values = Array.from({ length: count }, () => serial++ % 250)
    log.append(count, (index) => value(values[index]!), within)
    model.append(values, false, within)
  }
  for (const { kind, n } of steps) {
    switch (kind) {
      case "append":
        append(n, undefined)
        break
      case "begin":
      case "write":
        transaction ??= { state: "open" }
        append(1 + (n % 4), transaction)
        break
      case "commit":
      case "abort":
        if (transaction === undefined) break
        transaction.state = kind === "commit" ? "committed" : "aborted"
        log.appendMarker(transaction)
        model.append([0], true, transaction)
        transaction = undefined
        break
      case "marker":
        log.appendMarker(undefined)
        model.append([0], true, undefined)
        break
      case "remove": {
        const offset = BigInt(n * 3)
        log.remove([offset])
        const slot = model.slots.find((one) => one.offset === offset)
        if (slot !== undefined) slot.removed = true
        break
      }
      case "delete": {
        const offset = BigInt(n * 2)
        log.deleteBefore(offset)
        const start = offset < model.end ? offset : model.end
        if (start > model.start) model.start = start
        break
      }
      case "truncate": {
        const offset = model.end - BigInt(n) < model.start ? model.start : model.end - BigInt(n)
        log.truncateTo(offset)
        model.slots = model.slots.filter((slot) => slot.offset < offset)
        model.end = offset
        // What the transaction had written is gone; it goes on as if it had begun later.
        if (transaction !== undefined && !model.slots.some((slot) => slot.transaction === transaction))
          transaction = undefined
        break
      }
    }
  }
  return { log, model }
}

describe("PartitionLog", () => {
  for (const isolation of ["read_committed", "read_uncommitted"] as const) {
    it.prop(
      `${isolation}: reading in chunks of any size gives what a slot for each offset gives`,
      [Schema.Array(Step), Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))],
      ([steps, max]) => {
        const { log, model } = run(steps)
        const committed = isolation === "read_committed"
        assert.strictEqual(log.start, model.start)
        assert.strictEqual(log.end, model.end)
        assert.strictEqual(log.visibleEnd(isolation), model.visibleEnd(committed))
        const expected = model.visible(model.start, committed)
        const seen: Array<[bigint, number]> = []
        let position = log.start
        for (;;) {
          const read = log.read(position, max, isolation)
          assert.strictEqual(read._tag, "Records")
          if (read._tag !== "Records") break
          assert.isTrue(read.records.length <= max)
          for (const record of read.records) {
            assert.isTrue(record.offset >= position && record.offset < read.nextOffset)
            seen.push([record.offset, record.value![0]!])
          }
          if (read.nextOffset === position) break
          assert.isTrue(read.nextOffset > position)
          position = read.nextOffset
        }
        assert.deepStrictEqual(
          seen,
          expected.map((slot) => [slot.offset, slot.value])
        )
        // All that can be read has been passed, holes and markers at the end too.
        assert.strictEqual(position, model.visibleEnd(committed) > log.start ? model.visibleEnd(committed) : log.start)
      },
      { arbitrary: { runs: 300 } }
    )
  }

  it("says that a position is out of range below the start and beyond the end, and not at the end", () => {
    const log = new PartitionLog("t", 0, 0n)
    log.append(10, (index) => value(index))
    log.deleteBefore(4n)
    assert.strictEqual(log.read(3n, 1, "read_committed")._tag, "OutOfRange")
    assert.strictEqual(log.read(4n, 1, "read_committed")._tag, "Records")
    assert.strictEqual(log.read(10n, 1, "read_committed")._tag, "Records")
    assert.strictEqual(log.read(11n, 1, "read_committed")._tag, "OutOfRange")
  })

  it("shows nothing of an open transaction whose first batch was cut in the middle, and compacts nothing of it", () => {
    const log = new PartitionLog("t", 0, 0n)
    const open: TransactionState = { state: "open" }
    const keyed = (index: number) => ({ ...value(index), key: new Uint8Array([1]) })
    log.append(4, keyed, open)
    log.append(2, keyed)
    log.deleteBefore(2n)
    log.compact(true)
    assert.deepStrictEqual(log.read(2n, 9, "read_committed"), { _tag: "Records", records: [], nextOffset: 2n })
    const offsets = () => {
      const read = log.read(2n, 9, "read_uncommitted")
      return read._tag === "Records" ? read.records.map(({ offset }) => offset) : []
    }
    assert.deepStrictEqual(offsets(), [2n, 3n, 4n, 5n])
  })

  it("keeps offsets that a double cannot hold apart", () => {
    const start = 2n ** 53n + 1n
    const log = new PartitionLog("t", 0, start)
    log.append(3, (index) => value(index))
    const read = log.read(start, 10, "read_committed")
    assert.deepStrictEqual(read._tag === "Records" ? read.records.map((one) => one.offset) : [], [
      start,
      start + 1n,
      start + 2n
    ])
  })

  it("compaction keeps the newest record of each key, and tombstones only until they are asked to go", () => {
    const log = new PartitionLog("t", 0, 0n)
    const records: Array<[string, string | null]> = [
      ["a", "1"],
      ["b", "2"],
      ["a", "3"],
      ["b", null],
      ["c", "4"]
    ]
    const utf8 = new TextEncoder()
    log.append(records.length, (index) => {
      const [key, text] = records[index]!
      return { key: utf8.encode(key), value: text === null ? null : utf8.encode(text), headers: [], timestamp: 0n }
    })
    const offsets = () => {
      const read = log.read(0n, 100, "read_committed")
      return read._tag === "Records" ? read.records.map((one) => Number(one.offset)) : []
    }
    log.compact(false)
    assert.deepStrictEqual(offsets(), [2, 3, 4])
    log.compact(true)
    assert.deepStrictEqual(offsets(), [2, 4])
    assert.strictEqual(log.end, 5n)
  })

  it("compaction removes aborted records and leaves an open transaction alone", () => {
    const log = new PartitionLog("t", 0, 0n)
    const aborted: TransactionState = { state: "open" }
    log.append(2, (index) => value(index), aborted)
    aborted.state = "aborted"
    log.appendMarker(aborted)
    log.append(1, () => value(0), { state: "open" })
    log.compact(true)
    const read = log.read(0n, 100, "read_uncommitted")
    assert.deepStrictEqual(read._tag === "Records" ? read.records.map((one) => one.offset) : [], [3n])
  })

  it("takes a producer's batches once and without a gap, by epoch, and forgets what was truncated", () => {
    const log = new PartitionLog("t", 0, 0n)
    const append = (epoch: number, sequence: number, count: number, id = 1) =>
      log.appendSequenced(
        { id, epoch, sequence },
        Array.from({ length: count }, (_, i) => value(sequence + i))
      ) ?? "ok"
    assert.strictEqual(append(0, 0, 2), "ok")
    assert.strictEqual(append(0, 2, 1), "ok")
    assert.strictEqual(append(0, 2, 1), "ok")
    assert.strictEqual(append(0, 0, 2), "ok")
    assert.strictEqual(log.end, 3n)
    assert.strictEqual(append(0, 4, 1), "OUT_OF_ORDER_SEQUENCE_NUMBER")
    assert.strictEqual(append(0, 2, 2), "OUT_OF_ORDER_SEQUENCE_NUMBER")
    for (let sequence = 3; sequence < 8; sequence++) assert.strictEqual(append(0, sequence, 1), "ok")
    // older than the five that are remembered
    assert.strictEqual(append(0, 2, 1), "OUT_OF_ORDER_SEQUENCE_NUMBER")
    assert.strictEqual(log.end, 8n)
    // another producer may begin anywhere, a next epoch at 0 only, an older one not at all
    assert.strictEqual(append(0, 77, 1, 2), "ok")
    assert.strictEqual(append(1, 8, 1), "OUT_OF_ORDER_SEQUENCE_NUMBER")
    assert.strictEqual(append(1, 0, 1), "ok")
    assert.strictEqual(append(0, 8, 1), "INVALID_PRODUCER_EPOCH")
    assert.strictEqual(append(1, 1, 1), "ok")
    log.truncateTo(10n)
    assert.strictEqual(append(1, 1, 1), "ok")
    assert.strictEqual(log.end, 11n)
  })
})
