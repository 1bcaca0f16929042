/**
 * What a producer has for one partition: records that wait, and at most one batch that the broker has not confirmed. All of it is
 * synchronous; the sender decides when something goes out.
 *
 * Invariants (sender.test.ts):
 * - a batch whose fate is not known is sent again as it was, with the same sequence number: a broker stores it once;
 * - a sequence number is given to other records only when it is certain that the broker has none stored under it. Otherwise it
 *   would take them for a repetition, and acknowledge without storing them;
 * - where that is not certain, the epoch of this producer in this partition ends: what comes late of the old one is refused;
 * - a batch that no broker has for certain is none any more: its records are in front of the queue again, so that each of them may
 *   be taken back, or be too old, for itself. So whatever is a batch is under way or in doubt;
 * - records leave in the order in which they came.
 */
import { PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { batchFate, type BatchFate } from "./classify.ts"
import type { ProducerIdentity } from "./produceRequest.ts"
import { type BatchRecord, encodeBatch } from "./recordBatch.ts"

/** One call of `send`. */
export class Sending {
  #left: number
  readonly #failed: Array<{ readonly index: number; readonly error: PublishError }> = []
  readonly #end: (sending: Sending, error: PublishError | undefined) => void
  /** it has its answer, or nobody waits for one */
  over = false

  constructor(records: number, end: (sending: Sending, error: PublishError | undefined) => void) {
    this.#left = records
    this.#end = end
  }

  settle(index: number, error: PublishError | undefined): void {
    if (this.over) return
    if (error !== undefined) this.#failed.push({ index, error })
    if (--this.#left > 0) return
    this.over = true
    this.#end(this, this.#failed.length === 0 ? undefined : PublishError.combine(this.#failed))
  }
}

export interface Entry extends BatchRecord {
  readonly sending: Sending
  /** in its send */
  readonly index: number
  /** bytes, about */
  readonly size: number
  /** when it was sent */
  readonly since: number
  /** the partition that was asked for */
  readonly partition: number | undefined
  /** since when that partition is known not to be there */
  missingSince: number | undefined
}

interface Batch {
  entries: ReadonlyArray<Entry>
  identity: ProducerIdentity
  sequence: number
  encoded: Buffer | undefined
  /** an attempt has ended without its fate being known: it may be in the log */
  doubtful: boolean
}

/** what went wrong last */
export interface Trouble {
  readonly code: string
  readonly cause?: unknown
}

/** What the sender has to do after an answer. */
export interface Consequence {
  /** look who the leader is */
  readonly moved: boolean
  /** wait a moment before the next attempt */
  readonly pause: boolean
  /** get another producer id */
  readonly renew: boolean
}

const fateOfNotEncoded: BatchFate = { next: "split", doubtful: false, moved: false }
const maxSequence = 0x7fffffff
const maxEpoch = 0x7fff
/** a topic that takes less in a batch gets one record at a time in the end */
const smallestLimit = 1024

export const publishError = (reason: PublishError["reason"], { cause, code }: Trouble, detail: string): PublishError =>
  new PublishError({ reason, code, detail, ...(cause === undefined ? {} : { cause }) })

export class Lane {
  readonly topic: string
  readonly partition: number
  /** broker id; -1 while there is none */
  leader = -1
  state: "idle" | "sending" | "paused" = "idle"
  /** in a row */
  failures = 0
  /** since when the partition is known not to be there */
  missingSince: number | undefined
  trouble: Trouble = { code: "LEADER_NOT_AVAILABLE" }
  #queue: Array<Entry> = []
  #head = 0
  #batch: Batch | undefined
  /** `undefined`: the one that the sender has next */
  #identity: ProducerIdentity | undefined
  #sequence = 0
  readonly #defaultLimit: number
  #limit: number
  /** Records of a batch. Halved by a split and doubled by a success: among many bad records it stays where they are found. */
  #most = Infinity
  readonly #span: number

  /**
   * `limit`: bytes of a batch, if it has more than one record. `span`: milliseconds between its first and its last record; in doubt
   * they are given up together, when the last one is too old.
   */
  constructor(topic: string, partition: number, limit: number, span: number) {
    this.topic = topic
    this.partition = partition
    this.#defaultLimit = limit
    this.#limit = limit
    this.#span = span
  }

  get isEmpty(): boolean {
    return this.#batch === undefined && this.#head === this.#queue.length
  }

  push(entry: Entry): void {
    this.#queue.push(entry)
  }

  /** The batch to be sent now: the same again, or a new one of what waits. */
  take(identity: ProducerIdentity): Buffer | undefined {
    for (;;) {
      const batch = (this.#batch ??= this.#form(identity))
      if (batch === undefined) return undefined
      const { producerId, epoch } = batch.identity
      try {
        return (batch.encoded ??= encodeBatch(batch.entries, { producerId, epoch, sequence: batch.sequence }))
      } catch (cause) {
        // one of its records; the others, and those of other lanes, are not to suffer for it
        this.#apply(fateOfNotEncoded, { code: "INVALID_RECORD", cause })
      }
    }
  }

  #form(identity: ProducerIdentity): Batch | undefined {
    const queue = this.#queue
    const entries: Array<Entry> = []
    for (let bytes = 0; this.#head < queue.length; this.#head++) {
      const entry = queue[this.#head]!
      if (entry.sending.over) continue
      if (entries.length > 0) {
        if (entries.length >= this.#most || bytes + entry.size > this.#limit) break
        if (entry.since - entries[0]!.since > this.#span) break
      }
      bytes += entry.size
      entries.push(entry)
    }
    if (this.#head === queue.length) {
      this.#queue = []
      this.#head = 0
    } else if (this.#head > 4096 && this.#head * 2 > queue.length) {
      this.#queue = queue.slice(this.#head)
      this.#head = 0
    }
    if (entries.length === 0) return undefined
    this.#identity ??= identity
    return { entries, identity: this.#identity, sequence: this.#sequence, encoded: undefined, doubtful: false }
  }

  /** Ends the epoch in this partition; `undefined` when it was the last of its producer id. */
  #bump(): ProducerIdentity | undefined {
    const before = this.#identity
    this.#sequence = 0
    this.#identity =
      before === undefined || before.epoch >= maxEpoch
        ? undefined
        : { producerId: before.producerId, epoch: before.epoch + 1 }
    return this.#identity
  }

  #end(error: PublishError | undefined): void {
    const batch = this.#batch!
    this.#batch = undefined
    this.failures = 0
    if (error === undefined) this.#sequence = sequenceAfter(batch.sequence, batch.entries.length)
    else if (batch.doubtful) this.#bump()
    for (const { index, sending } of batch.entries) sending.settle(index, error)
  }

  /** What the broker said of the batch. */
  answered(code: string): Consequence {
    return this.#apply(batchFate(code), { code })
  }

  /** There was no answer. `sent`: the broker may have got it. */
  unanswered(trouble: Trouble, sent: boolean, fatal: boolean): Consequence {
    return this.#apply({ next: fatal ? "refuse" : "again", doubtful: sent, moved: true }, trouble)
  }

  #apply(fate: BatchFate, trouble: Trouble): Consequence {
    const batch = this.#batch
    // it was given up meanwhile
    if (batch === undefined) return { moved: fate.moved, pause: false, renew: false }
    const what = `send ${batch.entries.length} records to ${this.topic}/${this.partition}`
    const result = (pause: boolean, renew = false) => ({ moved: fate.moved, pause, renew })
    if (fate.doubtful) batch.doubtful = true
    // what was never in the log before is something else that the broker knows under these numbers
    const next = fate.next !== "before" ? fate.next : batch.doubtful ? "done" : "bump"
    if (next !== "done") this.trouble = trouble
    switch (next) {
      case "done":
        this.missingSince = undefined
        this.#most *= 2
        this.#end(undefined)
        return result(false)
      case "refuse":
        this.#end(publishError(batch.doubtful ? "unconfirmed" : "refused", trouble, what))
        return result(false)
      case "split": {
        // An earlier attempt may be in the log whole (the limit was higher then): halves of it would be stored again.
        if (batch.doubtful) {
          this.#end(publishError("unconfirmed", trouble, what))
          return result(false)
        }
        if (batch.entries.length === 1) {
          this.#limit = this.#defaultLimit
          this.#end(publishError("refused", trouble, what))
          return result(false)
        }
        if (trouble.code !== "INVALID_RECORD" && trouble.code !== "INVALID_TIMESTAMP") {
          this.#limit = Math.max(smallestLimit, Math.min(this.#limit, batch.encoded!.length) >> 1)
        }
        this.#most = batch.entries.length >> 1
        this.#putBack(batch)
        return result(false)
      }
      case "bump":
      case "renew": {
        // It expects another number, though nothing else of ours is under way: it has lost batches of ours, or all it knew.
        if (batch.doubtful) {
          if (next === "renew") this.#identity = undefined
          this.#end(publishError("unconfirmed", trouble, what))
          return result(false, next === "renew")
        }
        if (next === "renew") {
          this.#identity = undefined
          this.#sequence = 0
        } else {
          this.#bump()
        }
        this.#putBack(batch)
        return result(true, this.#identity === undefined)
      }
      case "again":
        // the next one has the same number, with these records or without some of them
        if (!batch.doubtful) this.#putBack(batch)
        return result(true)
    }
  }

  /** The records of a batch that is not stored for certain go in front again. */
  #putBack({ entries }: Batch): void {
    this.#batch = undefined
    if (this.#head < entries.length) {
      this.#queue = [...entries, ...this.#queue.slice(this.#head)]
      this.#head = 0
      return
    }
    // where they were: with a long queue this is done often
    for (let i = entries.length - 1; i >= 0; i--) this.#queue[--this.#head] = entries[i]!
  }

  /** Gives up what was sent at or before `since`; what is under way has its answer to wait for. */
  expire(since: number, detail: string): void {
    if (this.#batch !== undefined && this.state !== "sending" && this.#batch.entries.at(-1)!.since <= since) {
      this.#end(publishError("retriable", this.trouble, detail))
    }
    if (this.#batch !== undefined) return this.#prune()
    while (this.#head < this.#queue.length && this.#queue[this.#head]!.since <= since) {
      const { index, sending } = this.#queue[this.#head++]!
      sending.settle(index, publishError("retriable", this.trouble, detail))
    }
    this.#prune()
  }

  /** Lets go of what nobody waits for any more. */
  #prune(): void {
    this.#queue = this.#queue.slice(this.#head).filter(({ sending }) => !sending.over)
    this.#head = 0
  }

  /** Fails everything; what may be in the log all the same, with `doubtful` in place of `reason`. */
  failAll(reason: PublishError["reason"], doubtful: PublishError["reason"], trouble: Trouble, detail: string): void {
    if (this.#batch !== undefined) {
      const inDoubt = this.#batch.doubtful || this.state === "sending"
      this.#batch.doubtful = inDoubt
      this.#end(publishError(inDoubt ? doubtful : reason, trouble, detail))
    }
    const queue = this.#queue.slice(this.#head)
    this.#queue = []
    this.#head = 0
    for (const { index, sending } of queue) sending.settle(index, publishError(reason, trouble, detail))
  }
}

/** Sequence numbers begin again at 0 after the highest. */
export const sequenceAfter = (sequence: number, records: number): number =>
  sequence > maxSequence - records ? records - (maxSequence - sequence) - 1 : sequence + records
