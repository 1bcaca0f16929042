/**
 * Which records of an epoch are done, and up to where they can be committed. Pure and synchronous.
 *
 * Records are numbered by delivery (`seq`), because offsets have holes (control records, compaction) while deliveries have
 * none. A ring of bits holds what lies between the oldest record that is not done and the newest delivered one.
 *
 * What a former owner has left word of as done, and was not delivered yet, is kept as runs (`claim`).
 *
 * Invariants (tests in `test/offsetTracker.model.test.ts`, against lists and sets, and `test/offsetTracker.test.ts`):
 * - `committable` never passes a record that is not done (I1), and never goes back (I2);
 * - it does not depend on the order in which records are settled;
 * - a record behind a gap keeps its bit until the gap is closed; growing the ring keeps all bits;
 * - `mapRuns` says of no record that it is done unless it is, or a former owner has said so of an offset that was not delivered yet.
 *
 * Cost: 0.01 us a record; `version` and `runCount` change only where there is a gap. Offsets are kept as numbers relative to the start, which is exact for 2^53 records.
 */
export class OffsetTracker {
  /** seq of the oldest record that is not done */
  base = 0
  /** seq of the next delivered record */
  next = 0
  /** records that are done behind `base` */
  behindGap = 0
  /** runs of these */
  runCount = 0
  /** another number when something behind `base` has become done, or is not behind it any more */
  version = 0
  /** seq of the newest done record */
  highestDone = -1
  /** what a former owner says is done: pairs of from and to, relative to the start; passed up to `claimAt` */
  private claimed: ReadonlyArray<number> | undefined = undefined
  private claimAt = 0
  private bits: Uint8Array
  private offsets: Float64Array
  private mask: number
  private readonly start: bigint
  /** relative `nextOffset` of the newest chunk */
  private end = 0

  constructor(start: bigint, capacity = 1024) {
    this.start = start
    this.bits = new Uint8Array(capacity)
    this.offsets = new Float64Array(capacity)
    this.mask = capacity - 1
  }

  /** The next offset that a chunk may start with. */
  get delivered(): bigint {
    return this.start + BigInt(this.end)
  }

  /** The next offset to read after the done prefix. */
  get committable(): bigint {
    return this.start + BigInt(this.committableRelative)
  }

  /** as a number, for a cheap "has it moved?" */
  get committableRelative(): number {
    return this.base < this.next ? this.offsets[this.base & this.mask]! : this.end
  }

  deliver(offset: bigint): number {
    const seq = this.next
    if (seq - this.base > this.mask) this.grow()
    this.next = seq + 1
    this.offsets[seq & this.mask] = Number(offset - this.start)
    this.bits[seq & this.mask] = 0
    return seq
  }

  /** A chunk ends here: beyond its last record where control records or holes follow. Says whether `committable` moved by it. */
  chunkEnds(nextOffset: bigint): boolean {
    const end = Number(nextOffset - this.start)
    if (end <= this.end) return false
    this.end = end
    if (this.claimed !== undefined) this.passClaims(end)
    return this.base === this.next
  }

  /** Relative to the start, as in an offset map. */
  claim(runs: ReadonlyArray<number>): void {
    this.claimed = runs
    this.claimAt = 0
    this.version++
    this.passClaims(this.end)
  }

  /** Whether a former owner speaks of something that was not delivered yet. */
  get claiming(): boolean {
    return this.claimed !== undefined
  }

  /** Whether a former owner says that this is done. Ask in the order of offsets, before the chunk ends. */
  isClaimed(offset: bigint): boolean {
    const { claimed } = this
    if (claimed === undefined) return false
    const at = Number(offset - this.start)
    while (this.claimAt < claimed.length && claimed[this.claimAt + 1]! <= at) this.claimAt += 2
    return this.claimAt < claimed.length && claimed[this.claimAt]! <= at
  }

  private passClaims(end: number): void {
    const claimed = this.claimed!
    while (this.claimAt < claimed.length && claimed[this.claimAt + 1]! <= end) this.claimAt += 2
    if (this.claimAt >= claimed.length) this.claimed = undefined
  }

  isDone(seq: number): boolean {
    return seq < this.base || this.bits[seq & this.mask] === 1
  }

  offsetOf(seq: number): bigint {
    return this.start + BigInt(this.offsets[seq & this.mask]!)
  }

  /** Marks a record as done; returns by how many records the prefix grew. Settling twice changes nothing. */
  settle(seq: number): number {
    const { bits, mask } = this
    if (seq < this.base || bits[seq & mask] === 1) return 0
    bits[seq & mask] = 1
    if (seq > this.highestDone) this.highestDone = seq
    if (seq !== this.base) {
      this.behindGap++
      this.version++
      // `base` itself is not done, and beyond `next` the ring has bits of former rounds
      this.runCount += 1 - bits[(seq - 1) & mask]! - (seq + 1 < this.next ? bits[(seq + 1) & mask]! : 0)
      return 0
    }
    let base = seq + 1
    while (base < this.next && bits[base & mask] === 1) base++
    const grown = base - this.base
    this.base = base
    if (grown > 1) {
      this.behindGap -= grown - 1
      this.runCount--
      this.version++
    }
    return grown
  }

  /** done behind a gap, as `[from, to)` in offset order, at most so many runs */
  runs(most: number): ReadonlyArray<readonly [from: bigint, to: bigint]> {
    const runs: Array<readonly [bigint, bigint]> = []
    let seq = this.base
    while (runs.length < most && seq <= this.highestDone) {
      while (this.bits[seq & this.mask] === 0) seq++
      const from = seq
      while (seq <= this.highestDone && this.bits[seq & this.mask] === 1) seq++
      runs.push([this.offsetOf(from), this.endBefore(seq)])
    }
    return runs
  }

  /** records that are not done while a later one is */
  get gaps(): number {
    return this.highestDone + 1 - this.base - this.behindGap
  }

  /** all that are done */
  get done(): number {
    return this.base + this.behindGap
  }

  /** where what comes behind the newest done record begins; `committable` when nothing is done behind a gap */
  get doneUpTo(): bigint {
    return this.endBefore(this.highestDone + 1)
  }

  /** where the record in front of this one ends: holes behind it are its own */
  private endBefore(seq: number): bigint {
    return seq < this.next ? this.offsetOf(seq) : this.delivered
  }

  /** offsets from `committable` to the newest done record; 0 when nothing is done behind a gap */
  get span(): number {
    return this.behindGap === 0 ? 0 : this.offsets[this.highestDone & this.mask]! + 1 - this.committableRelative
  }

  /**
   * What is done behind `committable`, relative to it, as an offset map says it: pairs of from and to. Holes behind a done record are
   * done, so that control records between records cut no run in pieces.
   */
  mapRuns(): Array<number> {
    const runs: Array<number> = []
    const zero = this.committableRelative
    const { bits, mask, offsets } = this
    if (this.behindGap > 0) {
      const last = this.highestDone
      let seq = this.base
      while (seq <= last) {
        while (bits[seq & mask] === 0) seq++
        const from = offsets[seq & mask]!
        while (seq <= last && bits[seq & mask] === 1) seq++
        runs.push(from - zero, (seq < this.next ? offsets[seq & mask]! : this.end) - zero)
      }
    }
    const { claimed } = this
    if (claimed === undefined) return runs
    for (let i = this.claimAt; i < claimed.length; i += 2) {
      const from = Math.max(claimed[i]!, this.end) - zero
      const to = claimed[i + 1]! - zero
      if (runs.length > 0 && runs[runs.length - 1] === from) runs[runs.length - 1] = to
      else runs.push(from, to)
    }
    return runs
  }

  private grow(): void {
    const capacity = (this.mask + 1) * 2
    const bits = new Uint8Array(capacity)
    const offsets = new Float64Array(capacity)
    for (let seq = this.base; seq < this.next; seq++) {
      bits[seq & (capacity - 1)] = this.bits[seq & this.mask]!
      offsets[seq & (capacity - 1)] = this.offsets[seq & this.mask]!
    }
    this.bits = bits
    this.offsets = offsets
    this.mask = capacity - 1
  }
}
