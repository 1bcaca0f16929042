/**
 * The log of one partition: batches of records without a gap between their offsets, and inside of them what compaction,
 * transactions, retention and truncation leave behind. Records are made when they are read, so that a log of millions
 * costs what its values cost.
 *
 * Invariants (log.test.ts):
 * - batches follow each other without a gap in their offsets, from at or below `start` up to `end`;
 * - an offset is never given out twice, but after a truncation;
 * - nothing at or above the first offset of an open transaction is visible under read_committed.
 */
import type { ConsumerRecord, Headers } from "@concurrent-kafka/core/ConsumerRecord"

export interface Stored {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
  readonly timestamp: bigint
}

/** One producer's transaction; its records lie in several partitions. */
export interface TransactionState {
  state: "open" | "committed" | "aborted"
}

interface Batch {
  readonly base: bigint
  /** offsets that it takes, also of records that compaction removed */
  count: number
  readonly control: boolean
  readonly read: (index: number) => Stored
  readonly transaction: TransactionState | undefined
  removed: Set<number> | undefined
}

/** What the broker knows of an idempotent producer in this partition: its last batches, oldest first. */
interface ProducerState {
  readonly epoch: number
  readonly batches: Array<{ readonly sequence: number; readonly count: number; readonly base: bigint }>
}

/** as many as a broker remembers */
const rememberedBatches = 5

export type Read =
  | { readonly _tag: "OutOfRange" }
  | { readonly _tag: "Records"; readonly records: ReadonlyArray<ConsumerRecord>; readonly nextOffset: bigint }

const nothing: Stored = { key: null, value: null, headers: [], timestamp: -1n }

export class PartitionLog {
  readonly topic: string
  readonly partition: number
  start: bigint
  /** the high watermark: the next offset to be written */
  end: bigint
  private readonly batches: Array<Batch> = []
  private readonly open = new Map<TransactionState, bigint>()
  private readonly producers = new Map<number, ProducerState>()
  /** Called at each change; `data` when something new can be read, else the log was cut. */
  readonly watchers = new Set<(change: "data" | "cut") => void>()

  constructor(topic: string, partition: number, start: bigint) {
    this.topic = topic
    this.partition = partition
    this.start = start
    this.end = start
  }

  /** The end that a reader can see. An open transaction whose first records were cut off holds it back to the start only, as in Kafka. */
  visibleEnd(isolation: "read_committed" | "read_uncommitted"): bigint {
    let end = this.end
    if (isolation === "read_committed") {
      for (const first of this.open.values()) if (first < end) end = first
    }
    return end > this.start ? end : this.start
  }

  /** The offset of the first of `count` records, which `read` makes one by one whenever they are read. */
  append(count: number, read: (index: number) => Stored, transaction?: TransactionState): bigint {
    const base = this.end
    if (count === 0) return base
    if (transaction !== undefined && !this.open.has(transaction)) this.open.set(transaction, base)
    this.write(count, false, read, transaction)
    return base
  }

  /**
   * Of an idempotent producer: what it has sent before is there once, and what leaves a gap is refused. A producer that is not
   * known may begin anywhere. The result is Kafka's name of the error.
   */
  appendSequenced(
    producer: { readonly id: number; readonly epoch: number; readonly sequence: number },
    records: ReadonlyArray<Stored>
  ): string | undefined {
    const { epoch, id, sequence } = producer
    const count = records.length
    let state = this.producers.get(id)
    if (state !== undefined && epoch < state.epoch) return "INVALID_PRODUCER_EPOCH"
    if (state === undefined || epoch > state.epoch) {
      if (state !== undefined && sequence !== 0) return "OUT_OF_ORDER_SEQUENCE_NUMBER"
      state = { epoch, batches: [] }
      this.producers.set(id, state)
    } else {
      const { batches } = state
      if (batches.some((batch) => batch.sequence === sequence && batch.count === count)) return undefined
      const last = batches.at(-1)
      if (last !== undefined && sequence !== last.sequence + last.count) return "OUT_OF_ORDER_SEQUENCE_NUMBER"
    }
    state.batches.push({ sequence, count, base: this.append(count, (index) => records[index]!) })
    if (state.batches.length > rememberedBatches) state.batches.shift()
    return undefined
  }

  /** Ends a transaction here. Without one it is a marker that only takes an offset. */
  appendMarker(transaction: TransactionState | undefined): bigint {
    const base = this.end
    if (transaction !== undefined) this.open.delete(transaction)
    this.write(1, true, () => nothing, transaction)
    return base
  }

  /**
   * From `position` on at most `max` records. What follows the last of them and is no record (markers, aborted records,
   * holes) is passed in `nextOffset`.
   */
  read(position: bigint, max: number, isolation: "read_committed" | "read_uncommitted"): Read {
    if (position < this.start || position > this.end) return { _tag: "OutOfRange" }
    const records: Array<ConsumerRecord> = []
    const limit = this.visibleEnd(isolation)
    // retention may have cut into the first batch of an open transaction
    if (position >= limit) return { _tag: "Records", records, nextOffset: position }
    let next = position
    for (let i = this.find(position); i < this.batches.length; i++) {
      const batch = this.batches[i]!
      // A batch is wholly on one side: an open transaction begins with a batch.
      if (batch.base >= limit) break
      const hidden = batch.control || (isolation === "read_committed" && batch.transaction?.state === "aborted")
      if (!hidden) {
        for (let index = position > batch.base ? Number(position - batch.base) : 0; index < batch.count; index++) {
          if (batch.removed !== undefined && batch.removed.has(index)) continue
          const offset = batch.base + BigInt(index)
          if (records.length === max) return { _tag: "Records", records, nextOffset: offset }
          const stored = batch.read(index)
          records.push({
            topic: this.topic,
            partition: this.partition,
            offset,
            timestamp: stored.timestamp,
            key: stored.key,
            value: stored.value,
            headers: stored.headers
          })
        }
      }
      next = batch.base + BigInt(batch.count)
    }
    return { _tag: "Records", records, nextOffset: next > position ? next : position }
  }

  /** Removes single records, as compaction does; their offsets stay empty. */
  remove(offsets: Iterable<bigint>): void {
    for (const offset of offsets) {
      const batch = this.batches[this.find(offset)]
      if (batch === undefined || offset < batch.base) continue
      ;(batch.removed ??= new Set()).add(Number(offset - batch.base))
    }
  }

  /** Keeps the newest record of each key below the last stable offset; aborted records and, if asked, tombstones go too. */
  compact(tombstones: boolean): void {
    const newest = new Map<string, [batch: Batch, index: number]>()
    const limit = this.visibleEnd("read_committed")
    for (const batch of this.batches) {
      if (batch.control || batch.base + BigInt(batch.count) > limit) continue
      for (let index = 0; index < batch.count; index++) {
        if (batch.removed?.has(index) === true || batch.base + BigInt(index) < this.start) continue
        const stored = batch.read(index)
        if (batch.transaction?.state === "aborted") {
          ;(batch.removed ??= new Set()).add(index)
          continue
        }
        if (stored.key === null) continue
        const key = stored.key.join()
        const older = newest.get(key)
        if (older !== undefined) (older[0].removed ??= new Set()).add(older[1])
        newest.set(key, [batch, index])
        if (tombstones && stored.value === null) (batch.removed ??= new Set()).add(index)
      }
    }
  }

  /** Retention: what lies below `offset` is gone. */
  deleteBefore(offset: bigint): void {
    const start = offset < this.end ? offset : this.end
    if (start <= this.start) return
    this.start = start
    const keep = this.find(start)
    this.batches.splice(0, keep)
    this.changed("cut")
  }

  /** An unclean leader election: what lies at or above `offset` was never there, and its offsets will be given out again. */
  truncateTo(offset: bigint): void {
    if (offset >= this.end) return
    const end = offset < this.start ? this.start : offset
    const at = this.find(end)
    const cut = this.batches[at]
    if (cut !== undefined && cut.base < end) {
      cut.count = Number(end - cut.base)
      this.batches.length = at + 1
    } else {
      this.batches.length = at
    }
    this.end = end
    for (const [transaction, first] of this.open) if (first >= end) this.open.delete(transaction)
    for (const { batches } of this.producers.values()) {
      while (batches.length > 0 && batches.at(-1)!.base >= end) batches.pop()
    }
    this.changed("cut")
  }

  changed(change: "data" | "cut"): void {
    for (const watcher of this.watchers) watcher(change)
  }

  private write(count: number, control: boolean, read: Batch["read"], transaction: TransactionState | undefined): void {
    this.batches.push({ base: this.end, count, control, read, transaction, removed: undefined })
    this.end += BigInt(count)
    this.changed("data")
  }

  /** Index of the first batch that ends above `offset`. */
  private find(offset: bigint): number {
    let low = 0
    let high = this.batches.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const batch = this.batches[middle]!
      if (batch.base + BigInt(batch.count) > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}
