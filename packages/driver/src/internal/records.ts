/**
 * Record batches (magic 2, KIP-98) to records. The hot path: at 300,000 records a second a record may take 3 microseconds
 * in all. So key and value are views of their batch's bytes, and headers and timestamp are decoded when somebody asks.
 *
 * - Each batch is copied out of the answer: a record that is held for long (a retry, a gap) keeps its batch in memory, some
 *   16 KiB as producers make them, and not an answer of up to 10 MiB.
 *
 * - A batch that was changed on its way is not read (`damagedBatch`).
 * - No record below the position that was asked for: a broker answers with whole batches.
 * - No control record, and under `read_committed` none of an aborted transaction.
 * - `next` is the end of the last whole batch by its own header, however many of its records compaction has removed;
 *   from the last record alone a compacted tail would be walked through one offset a fetch.
 * - An answer may unpack to hundreds of times its size: it is decoded in pieces ("cut anywhere, the pieces are the whole").
 */
import type { ConsumerRecord, Headers } from "@concurrent-kafka/core/ConsumerRecord"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { crc32 } from "node:zlib"
import type { Decompress } from "../Broker.ts"
import { crc32c } from "./crc32c.ts"
import type { AbortedTransaction } from "./fetchResponse.ts"

/** what all formats begin with: offset, length, four bytes of their own, the format */
const prefix = 17
/** of a batch around its records */
const overhead = 61
/** bytes of what stands around the content of a record, at least; with key and value Node 24 takes 340 */
const weightOfRecord = 200
const noHeaders: Headers = []

class Reader {
  readonly buffer: Buffer
  at: number
  constructor(buffer: Buffer, at: number) {
    this.buffer = buffer
    this.at = at
  }
  /** a zigzag varint of at most 5 bytes */
  int(): number {
    const b = this.buffer
    let byte = b[this.at++]!
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let value = byte & 0x7f
    for (let shift = 7; shift < 35; shift += 7) {
      byte = b[this.at++]!
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return (value >>> 1) ^ -(value & 1)
    }
    throw new RangeError("a number is longer than 5 bytes")
  }
  /** a zigzag varlong; a number of at most 49 bits where one is enough */
  long(): number | bigint {
    const b = this.buffer
    const start = this.at
    let value = 0
    let scale = 1
    for (let i = 0; i < 7; i++) {
      const byte = b[this.at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
      scale *= 128
    }
    this.at = start
    let big = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = b[this.at++]!
      big |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, (big >> 1n) ^ -(big & 1n))
    }
    throw new RangeError("a number is longer than 10 bytes")
  }
}

/** What the records of a batch share. */
interface Batch {
  readonly baseTimestamp: bigint
  /** the time of all records when the broker stamps them (LogAppendTime) */
  readonly appended: bigint | undefined
}

class FetchedRecord implements ConsumerRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly #batch: Batch
  readonly #delta: number | bigint
  readonly #source: Buffer
  #headers: Headers | number

  constructor(
    topic: string,
    partition: number,
    offset: bigint,
    key: Uint8Array | null,
    value: Uint8Array | null,
    batch: Batch,
    delta: number | bigint,
    source: Buffer,
    headersAt: number
  ) {
    this.topic = topic
    this.partition = partition
    this.offset = offset
    this.key = key
    this.value = value
    this.#batch = batch
    this.#delta = delta
    this.#source = source
    this.#headers = headersAt
  }

  get timestamp(): bigint {
    const { appended, baseTimestamp } = this.#batch
    return appended ?? baseTimestamp + BigInt(this.#delta)
  }

  get headers(): Headers {
    if (typeof this.#headers === "number") this.#headers = readHeaders(this.#source, this.#headers)
    return this.#headers
  }
}

const readHeaders = (source: Buffer, at: number): Headers => {
  const r = new Reader(source, at)
  const count = r.int()
  if (count <= 0) return noHeaders
  const headers: Array<readonly [string, Uint8Array | null]> = []
  for (let i = 0; i < count; i++) {
    const nameLength = r.int()
    if (nameLength < 0) throw new RangeError("a header has no name")
    const name = source.toString("utf8", r.at, (r.at += nameLength))
    const length = r.int()
    headers.push([name, length < 0 ? null : source.subarray(r.at, (r.at += length))])
  }
  return headers
}

export interface Decoded {
  readonly records: ReadonlyArray<ConsumerRecord>
  /** the position after what was decoded; the one asked for when there was nothing */
  readonly next: bigint
  /** the memory that it takes, in bytes, about */
  readonly weight: number
  /** whether nothing is left */
  readonly isWhole: boolean
}

export interface Source {
  readonly topic: string
  readonly partition: number
  readonly position: bigint
  readonly batches: Buffer
  /** empty under `read_uncommitted` */
  readonly aborted: ReadonlyArray<AbortedTransaction>
  readonly decompress: Decompress
  /** of `weight`, above 0: nothing more is decoded when it is reached */
  readonly most: number
}

export interface Damage {
  /** of the batch, as it says */
  readonly offset: bigint
  /** what is wrong with it, as in "it has ..." */
  readonly what: string
}

/**
 * The first batch that is not as it was written: its checksum is not its own, or what that does not cover, its format and its length, cannot
 * be. A topic that was written before Kafka 0.11 has older formats; those have another checksum, and are left to `decodeRecords`. So is a last
 * batch that is cut, unless it is also the first: brokers send that one whole, however large it is.
 *
 * **Source**: `check.crcs` of the Java consumer, which is on by default; KIP-74.
 */
export const damagedBatch = (batches: Buffer): Damage | undefined => {
  for (let at = 0; at + prefix <= batches.length;) {
    const end = at + 12 + batches.readInt32BE(at + 8)
    if (end > batches.length) {
      return at > 0 ? undefined : { offset: batches.readBigInt64BE(0), what: "no end within the answer" }
    }
    const magic = batches.readInt8(at + 16)
    if (isOlder(batches, at, end, magic)) return undefined
    const what =
      magic !== 2
        ? `message format ${magic}, which is none`
        : end < at + overhead
          ? "a wrong length"
          : crc32c(batches, at + 21, end) !== batches.readUInt32BE(at + 17)
            ? "a wrong checksum"
            : undefined
    if (what !== undefined) return { offset: batches.readBigInt64BE(at), what }
    at = end
  }
  return undefined
}

/** A message of format 0 or 1: its checksum stands before the format, and covers all behind itself. */
const isOlder = (batches: Buffer, at: number, end: number, magic: number): boolean =>
  (magic === 0 || magic === 1) &&
  end > at + prefix &&
  crc32(batches.subarray(at + 16, end)) === batches.readUInt32BE(at + 12)

/**
 * Up to the end, or until it weighs `most`: then behind a whole batch, and at least one. What is left is decoded by asking again for the same
 * batches from `next` on; or another answer, from there on, brings it.
 *
 * Throws `KafkaClientError` (`CorruptData`, `MissingCodec`), or rejects with it. A promise only when something is compressed.
 */
export const decodeRecords = (source: Source): Decoded | Promise<Decoded> => {
  const { aborted, batches, most, partition, position, topic } = source
  const records: Array<ConsumerRecord> = []
  let at = 0
  let next = position
  let weight = 0
  let isWhole = true
  const transactions =
    aborted.length > 0 ? [...aborted].sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1)) : undefined
  let nextTransaction = 0
  const abortedProducers = new Set<bigint>()

  /** Goes on to the next batch that is compressed, and returns what unpacks it; `undefined` when there is none. */
  const advance = (): (() => Promise<void>) | undefined => {
    while (at + prefix <= batches.length) {
      const base = batches.readBigInt64BE(at)
      const end = at + 12 + batches.readInt32BE(at + 8)
      // the last batch of an answer may be cut
      if (end > batches.length) break
      const where = `the batch at offset ${base} of ${topic}/${partition}`
      const magic = batches.readInt8(at + 16)
      if (magic !== 2) {
        throw new KafkaClientError({
          reason: "CorruptData",
          detail: `${where} has message format ${magic}; only format 2 (Kafka 0.11 and later) is read`
        })
      }
      if (end < at + overhead)
        throw new KafkaClientError({ reason: "CorruptData", detail: `${where} has a wrong length` })
      const attributes = batches.readInt16BE(at + 21)
      const last = base + BigInt(batches.readInt32BE(at + 23))
      const isControl = (attributes & 0x20) !== 0
      let skip = isControl || last < position
      // also below the position: what is aborted behind it is told by what comes before
      if (transactions !== undefined) {
        // the algorithm of the reference client: transactions that begin up to here, an abort marker ends its producer's
        while (nextTransaction < transactions.length && transactions[nextTransaction]!.firstOffset <= last) {
          abortedProducers.add(transactions[nextTransaction++]!.producerId)
        }
        const producer = batches.readBigInt64BE(at + 43)
        if (isControl) {
          if (isAbortMarker(batches, at + overhead, end, where)) abortedProducers.delete(producer)
        } else if ((attributes & 0x10) !== 0 && abortedProducers.has(producer)) {
          skip = true
        }
      }
      let unpack: (() => Promise<void>) | undefined
      if (!skip) {
        if (weight >= most) {
          isWhole = false
          break
        }
        const batch: Batch = {
          baseTimestamp: batches.readBigInt64BE(at + 27),
          appended: (attributes & 0x08) !== 0 ? batches.readBigInt64BE(at + 35) : undefined
        }
        const count = batches.readInt32BE(at + 57)
        const codec = attributes & 0x07
        const body = batches.subarray(at + overhead, end)
        if (codec === 0) {
          readRecords(Buffer.from(body), count, base, batch, source, records, where)
          weight += body.length + count * weightOfRecord
        } else {
          unpack = async () => {
            const plain = await source.decompress(codec, body, where, last + 1n)
            readRecords(plain, count, base, batch, source, records, where)
            weight += plain.length + count * weightOfRecord
          }
        }
      }
      if (last >= next) next = last + 1n
      at = end
      if (unpack !== undefined) return unpack
    }
    return undefined
  }

  const first = advance()
  if (first === undefined) return { records, next, weight, isWhole }
  // one after another: the records stay in order, and how much it is shows behind each
  const rest = async () => {
    for (let unpack: typeof first | undefined = first; unpack !== undefined; unpack = advance()) await unpack()
    return { records, next, weight, isWhole }
  }
  const result = rest()
  // who asked may be interrupted before it listens
  result.catch(() => undefined)
  return result
}

/** A control record's key is `version: int16, type: int16`; type 0 is abort. */
const isAbortMarker = (buffer: Buffer, at: number, end: number, where: string): boolean => {
  const r = new Reader(buffer.subarray(0, end), at)
  try {
    r.int() // length
    r.at++ // attributes
    r.long() // timestamp
    r.int() // offset
    return r.int() >= 4 && r.buffer.readInt16BE(r.at + 2) === 0
  } catch (cause) {
    throw corrupt(where, cause)
  }
}

const corrupt = (where: string, cause: unknown) =>
  new KafkaClientError({ reason: "CorruptData", detail: `${where} cannot be decoded`, cause })

const readRecords = (
  buffer: Buffer,
  count: number,
  base: bigint,
  batch: Batch,
  source: Source,
  out: Array<ConsumerRecord>,
  where: string
): void => {
  const { partition, position, topic } = source
  // BigInt(number) is one allocation, base + BigInt(delta) two
  const safeBase = base <= 0x1fffff00000000n ? Number(base) : -1
  const from = safeBase >= 0 && position <= 0x1fffffffffffffn ? Number(position) : -1
  const r = new Reader(buffer, 0)
  try {
    if (count < 0) throw new RangeError("a batch has less than no records")
    for (let i = 0; i < count; i++) {
      const length = r.int()
      const recordEnd = r.at + length
      if (length < 0 || recordEnd > buffer.length) throw new RangeError("a record is longer than its batch")
      r.at++ // attributes
      const delta = r.long()
      const offsetDelta = r.int()
      if (from >= 0 ? safeBase + offsetDelta < from : base + BigInt(offsetDelta) < position) {
        r.at = recordEnd
        continue
      }
      const keyLength = r.int()
      const key = keyLength < 0 ? null : buffer.subarray(r.at, (r.at += keyLength))
      const valueLength = r.int()
      const value = valueLength < 0 ? null : buffer.subarray(r.at, (r.at += valueLength))
      if (r.at > recordEnd) throw new RangeError("a record is longer than it says")
      const offset = safeBase >= 0 ? BigInt(safeBase + offsetDelta) : base + BigInt(offsetDelta)
      out.push(new FetchedRecord(topic, partition, offset, key, value, batch, delta, buffer, r.at))
      r.at = recordEnd
    }
    // the position goes on behind the batch: what is left of it would never be seen
    if (r.at !== buffer.length) throw new RangeError("a batch has more records than it says")
  } catch (cause) {
    throw corrupt(where, cause)
  }
}
