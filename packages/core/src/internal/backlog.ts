/**
 * The registered records of an epoch that wait to be started: those that were never looked at, in the chunks they came in; those that
 * wait in a lane; and those that are next, because their lane has become free or the time of their retry has come.
 *
 * Invariants (tests in `test/backlog.model.test.ts`, over epochs and zombies, and `test/backlog.test.ts`):
 * - records of one lane leave in offset order, the next only when the lane is let go (I4);
 * - a record whose lane is taken stops nobody of another lane;
 * - of those that are next and those that were never started each gets every other turn, the oldest first and nobody twice while
 *   others wait: neither a storm of retries nor a flood of new records stops the others, nor does one retry another.
 *
 * **Cost**: without lanes nothing is allocated for a record. With them a record is looked at once, and once more when it has waited.
 */
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { Lane, Laned, Lanes } from "./lanes.ts"
import { Rounds } from "./rounds.ts"
import type { Slot } from "./slot.ts"

/** A chunk whose records wait to be started. */
interface Buffered {
  readonly records: ReadonlyArray<ConsumerRecord>
  /** seq of the first record */
  readonly seq: number
  readonly at: number
  index: number
}

/** It has its lane already. */
interface Ready extends Laned {
  readonly lane: Lane | undefined
  /** its last attempt, when it is to be tried again */
  readonly before: Slot | undefined
}

/** In `taken` until something was taken. */
const nothing: ConsumerRecord = {
  topic: "",
  partition: -1,
  offset: -1n,
  timestamp: -1n,
  key: null,
  value: null,
  headers: []
}

export class Backlog {
  /** of this topic-partition, over epochs and runs; undefined when records are not ordered */
  readonly lanes: Lanes | undefined
  /** records in state `buffered` */
  size = 0
  /** by seq: records whose header filter or order function died; their attempts fail with it */
  defects: Map<number, unknown> | undefined = undefined
  readonly taken = {
    record: nothing,
    seq: 0,
    at: 0,
    lane: undefined as Lane | undefined,
    before: undefined as Slot | undefined
  }
  /** lanes whose holder is parked, and how many wait in them */
  private parkedLanes = 0
  private waitBehindParked = 0
  private chunks: Array<Buffered | undefined> = []
  private head = 0
  private readonly ready = new Rounds<Ready>((ready) => ready.seq)
  private readysTurn = true
  /** the record at the cursor whose lane is known */
  private lookedAt = -1
  private lookedUp: string | undefined = undefined

  constructor(lanes: Lanes | undefined) {
    this.lanes = lanes
    if (lanes !== undefined) lanes.owner = this
  }

  /** Whether there is a record that might be started, lanes aside. */
  get some(): boolean {
    return this.ready.size > 0 || this.head < this.chunks.length
  }

  /** Of the records in state `buffered`, those that wait behind a parked one of their lane. */
  get behindParked(): number {
    // where there is but one lane, nobody is asked into it
    return this.lanes?.single === true && this.parkedLanes > 0 ? this.size : this.waitBehindParked
  }

  /** The record that holds the lane is parked. */
  park(lane: Lane): void {
    lane.parked = true
    this.parkedLanes++
    this.waitBehindParked += lane.waiting
  }

  /** It is parked no more. */
  unpark(lane: Lane): void {
    lane.parked = false
    this.parkedLanes--
    this.waitBehindParked -= lane.waiting
  }

  /** Registered records, in offset order. */
  add(records: ReadonlyArray<ConsumerRecord>, seq: number, at: number): void {
    this.size += records.length
    this.chunks.push({ records, seq, at, index: 0 })
  }

  /** An interrupted record of an epoch that goes on: it keeps its lane. */
  putBack(slot: Slot): void {
    this.size++
    this.ready.push({ record: slot.record, seq: slot.seq, at: slot.receivedAt, lane: slot.lane, before: undefined })
    slot.lane = undefined
  }

  /** The time of its retry has come. */
  due(slot: Slot): void {
    this.ready.push({ record: slot.record, seq: slot.seq, at: slot.receivedAt, lane: slot.lane, before: slot })
  }

  /** Its lane has become free, and is its own. */
  proceed(laned: Laned, lane: Lane): void {
    this.ready.push({ record: laned.record, seq: laned.seq, at: laned.at, lane, before: undefined })
  }

  /**
   * The next record that may start, into `taken`. `below`: nothing from this seq on. `beyond`: there are records, but beyond it.
   */
  take(below: number): boolean | "beyond" {
    const cursor = this.fresh(below)
    const first = this.ready.first(below)
    if (first !== undefined && (this.readysTurn || typeof cursor === "string")) {
      this.readysTurn = false
      this.ready.pop()
      if (first.before === undefined) this.size--
      this.into(first.record, first.seq, first.at, first.lane, first.before)
      return true
    }
    this.readysTurn = true
    if (typeof cursor === "string") return cursor === "beyond" || this.ready.size > 0 ? "beyond" : false
    const { lookedUp } = this
    const lane = lookedUp === undefined ? undefined : this.lanes!.take(lookedUp)
    this.into(cursor.records[cursor.index]!, cursor.seq + cursor.index, cursor.at, lane, undefined)
    this.size--
    this.step(cursor)
    return true
  }

  private into(
    record: ConsumerRecord,
    seq: number,
    at: number,
    lane: Lane | undefined,
    before: Slot | undefined
  ): void {
    const { taken } = this
    taken.record = record
    taken.seq = seq
    taken.at = at
    taken.lane = lane
    taken.before = before
  }

  /** The chunk at whose cursor a record stands that may start; what stands before it and finds its lane taken goes there to wait. */
  private fresh(below: number): Buffered | "beyond" | "none" {
    const { lanes } = this
    for (;;) {
      const chunk = this.chunks[this.head]
      if (chunk === undefined) return "none"
      const seq = chunk.seq + chunk.index
      if (seq >= below) return "beyond"
      if (lanes === undefined) return chunk
      const record = chunk.records[chunk.index]!
      if (this.lookedAt !== seq) {
        this.lookedUp = this.laneOf(lanes, record, seq)
        this.lookedAt = seq
      }
      const lane = this.lookedUp === undefined ? undefined : lanes.get(this.lookedUp)
      if (lane === undefined) return chunk
      if (lanes.single) return "none"
      lanes.wait(lane, { record, seq, at: chunk.at })
      if (lane.parked) this.waitBehindParked++
      this.step(chunk)
    }
  }

  private laneOf(lanes: Lanes, record: ConsumerRecord, seq: number): string | undefined {
    try {
      return lanes.of(record)
    } catch (defect) {
      // its header filter may have died before: then that is what it fails with
      if (this.defects?.has(seq) !== true) this.defective(seq, defect)
      return undefined
    }
  }

  /** The attempts of this record are to fail with it. */
  defective(seq: number, defect: unknown): void {
    const defects = (this.defects ??= new Map<number, unknown>())
    defects.set(seq, defect)
  }

  private step(chunk: Buffered): void {
    if (++chunk.index < chunk.records.length) return
    this.chunks[this.head] = undefined
    if (++this.head === this.chunks.length) {
      this.chunks = []
      this.head = 0
    } else if (this.head > 64) {
      this.chunks = this.chunks.slice(this.head)
      this.head = 0
    }
  }

  /** Gives up everything; what is to be retried is not told. The lanes of those that were next are let go by `letGo`. */
  drop(each: (record: ConsumerRecord) => void, letGo: (lane: Lane) => void): void {
    // first: nothing must proceed to where a lane is let go
    this.lanes?.drop(({ record }) => each(record))
    const { all } = this.ready
    this.ready.clear()
    for (const { before, lane, record } of all) {
      if (before !== undefined) continue
      each(record)
      if (lane !== undefined) letGo(lane)
    }
    for (let i = this.head; i < this.chunks.length; i++) {
      const chunk = this.chunks[i]!
      for (let j = chunk.index; j < chunk.records.length; j++) each(chunk.records[j]!)
    }
    this.chunks = []
    this.head = 0
    this.lookedAt = -1
    this.size = 0
    this.waitBehindParked = 0
  }

  /** The oldest record that is not started, for health and snapshots. */
  get oldest(): Laned | undefined {
    let oldest: Laned | undefined
    for (const ready of this.ready.all) {
      if (ready.before === undefined && (oldest === undefined || ready.seq < oldest.seq)) oldest = ready
    }
    for (const { first } of this.lanes?.all ?? []) {
      if (first !== undefined && (oldest === undefined || first.seq < oldest.seq)) oldest = first
    }
    const chunk = this.chunks[this.head]
    if (chunk !== undefined && (oldest === undefined || chunk.seq + chunk.index < oldest.seq)) {
      oldest = { record: chunk.records[chunk.index]!, seq: chunk.seq + chunk.index, at: chunk.at }
    }
    return oldest
  }
}
