/**
 * What is true of the records, whatever any consumer believes: what was written, what a reader can see of it, and what of it
 * was done in which epoch. Nothing here comes out of the engine.
 *
 * A log that is truncated, or whose topic is created anew, begins another term: the same offset is another record then.
 */

export type Filter = "wanted" | "unwanted" | "throws"

export interface Rec {
  readonly id: number
  /** who wrote it: the step, and its place in what that has written */
  readonly source: string
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly key: string | null
  readonly filter: Filter
  /** the order function throws */
  readonly unorderable: boolean
  /** a transaction decides, or has decided against it */
  visible: "yes" | "pending" | "never"
  /** compaction or a hole took it */
  removed: boolean
  /** in some epoch */
  done: boolean
  readonly doneIn: Set<number>
  attempts: number
  /** how often chance had a say in it */
  chances: number
}

export const keyOf = (p: { readonly topic: string; readonly partition: number }): string => `${p.topic}/${p.partition}`

export class LogTruth {
  readonly topic: string
  readonly partition: number
  readonly term: number
  readonly records: Array<Rec>
  /** what lies below may be passed over: nobody owes it to anybody */
  excusedTo = 0n
  why = ""
  /** all records before this index were found to be done, excused, or not there */
  checked = 0
  gone = false

  constructor(topic: string, partition: number, term: number, records: Array<Rec>) {
    this.topic = topic
    this.partition = partition
    this.term = term
    this.records = records
  }

  excuse(to: bigint, why: string): void {
    if (to <= this.excusedTo) return
    this.excusedTo = to
    this.why = why
  }

  /** Index of the first record at or above `offset`. */
  indexOf(offset: bigint): number {
    let low = 0
    let high = this.records.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.records[middle]!.offset < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}

export class Truth {
  /** the logs that are there, by topic and partition */
  readonly logs = new Map<string, LogTruth>()
  readonly byId: Array<Rec> = []
  /** where each log begins now; retention moves it */
  readonly startOf: (topic: string, partition: number) => bigint

  constructor(startOf: (topic: string, partition: number) => bigint) {
    this.startOf = startOf
  }

  create(topic: string, partitions: number): void {
    for (let partition = 0; partition < partitions; partition++) this.add(topic, partition)
  }

  private add(topic: string, partition: number): void {
    const key = keyOf({ topic, partition })
    this.logs.set(key, new LogTruth(topic, partition, (this.logs.get(key)?.term ?? 0) + 1, []))
  }

  /** More partitions. */
  grow(topic: string, from: number, to: number): void {
    for (let partition = from; partition < to; partition++) this.add(topic, partition)
  }

  delete(topic: string): void {
    for (const log of this.logs.values()) if (log.topic === topic) log.gone = true
  }

  truncate(topic: string, partition: number, to: bigint): void {
    const key = keyOf({ topic, partition })
    const before = this.logs.get(key)!
    const log = new LogTruth(topic, partition, before.term + 1, before.records.slice(0, before.indexOf(to)))
    log.excuse(before.excusedTo, before.why)
    log.checked = Math.min(before.checked, log.records.length)
    this.logs.set(key, log)
  }

  /** The next record, once its offset is known. */
  written(rec: Omit<Rec, "id" | "doneIn" | "attempts" | "chances" | "removed">): Rec {
    const full: Rec = { ...rec, id: this.byId.length, removed: false, doneIn: new Set(), attempts: 0, chances: 0 }
    this.byId.push(full)
    this.logs.get(keyOf(rec))!.records.push(full)
    return full
  }

  get nextId(): number {
    return this.byId.length
  }

  /** Whether a reader is owed this record. */
  owed(log: LogTruth, rec: Rec): boolean {
    return (
      rec.visible !== "never" &&
      !rec.removed &&
      rec.offset >= log.excusedTo &&
      !log.gone &&
      rec.offset >= this.startOf(log.topic, log.partition)
    )
  }

  /** The first record below `offset` that is owed and not done. */
  missingBelow(log: LogTruth, offset: bigint): Rec | undefined {
    while (log.checked < log.records.length && log.records[log.checked]!.offset < offset) {
      const rec = log.records[log.checked]!
      if (!rec.done && this.owed(log, rec)) return rec
      log.checked++
    }
    return undefined
  }

  /** All that is owed and not done. */
  missing(): Array<Rec> {
    const all: Array<Rec> = []
    for (const log of this.logs.values()) {
      for (const rec of log.records) if (!rec.done && rec.visible === "yes" && this.owed(log, rec)) all.push(rec)
    }
    return all
  }
}
