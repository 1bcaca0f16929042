/**
 * Records to record batches (magic 2, KIP-98), uncompressed. What kafkajs's own encoder cannot: headers keep their order and
 * their repetitions, and their values may be null.
 */
import type { Headers } from "@concurrent-kafka/core/ConsumerRecord"
import { crc32c } from "./crc32c.ts"

export interface BatchRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
  readonly timestamp: bigint
}

const latestTimestamp = 0x7fffffffffffffffn
/** Lengths have 32 bits, and there is a little around it. */
const mostBytes = 0x7fff0000

/** Why the format has no place for this record, by Kafka's name of it. `size`: its rough size. */
export const notEncodable = ({ timestamp }: BatchRecord, size: number): string | undefined => {
  // -1: it has none. Java's producer takes no lower one either
  if (timestamp < -1n || timestamp > latestTimestamp) return "INVALID_TIMESTAMP"
  return size > mostBytes ? "MESSAGE_TOO_LARGE" : undefined
}

/** By what the broker knows a batch again: who sends it, and the number of its first record. */
export interface Sequence {
  readonly producerId: bigint
  readonly epoch: number
  readonly sequence: number
}

const overhead = 61
/** offsets of the batch's header that are written last */
const crcAt = 17
const attributesAt = 21
/** beyond it a difference of timestamps does not fit a number when it is doubled */
const safeDelta = 2 ** 51

/** zigzag, for values of 32 bits */
const zigzag = (value: number): number => ((value << 1) ^ (value >> 31)) >>> 0
/** zigzag, for numbers that are too large for 32 bits */
const zigzagLong = (value: number): number => (value < 0 ? -2 * value - 1 : 2 * value)

const sizeOf = (unsigned: number): number => {
  let size = 1
  for (; unsigned > 0x7f; unsigned = Math.floor(unsigned / 128)) size++
  return size
}

const sizeOfInt = (value: number): number => sizeOf(zigzag(value))

const sizeOfBig = (value: bigint): number => {
  let size = 1
  for (let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n)); rest > 0x7fn; rest >>= 7n) size++
  return size
}

const sizeOfBytes = (bytes: Uint8Array | null): number => (bytes === null ? 1 : sizeOfInt(bytes.length) + bytes.length)

class Writer {
  readonly buffer: Buffer
  at: number
  constructor(buffer: Buffer, at: number) {
    this.buffer = buffer
    this.at = at
  }
  int(value: number): void {
    this.unsigned(zigzag(value))
  }
  unsigned(value: number): void {
    for (; value > 0x7f; value = Math.floor(value / 128)) this.buffer[this.at++] = (value % 128) | 0x80
    this.buffer[this.at++] = value
  }
  big(value: bigint): void {
    let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
    for (; rest > 0x7fn; rest >>= 7n) this.buffer[this.at++] = Number(rest & 0x7fn) | 0x80
    this.buffer[this.at++] = Number(rest)
  }
  bytes(bytes: Uint8Array | null): void {
    if (bytes === null) return this.int(-1)
    this.int(bytes.length)
    this.buffer.set(bytes, this.at)
    this.at += bytes.length
  }
  text(text: string, length: number): void {
    this.int(length)
    this.at += this.buffer.write(text, this.at, "utf8")
  }
}

/** About what a record takes in a batch, to say when a batch is full. */
export const roughSize = (record: BatchRecord): number => {
  let size = 21 + (record.key?.length ?? 0) + (record.value?.length ?? 0)
  for (const [name, value] of record.headers) size += 6 + Buffer.byteLength(name) + (value?.length ?? 0)
  return size
}

/** The difference of two timestamps; exact as a number where one is enough. */
const deltaOf = (timestamp: bigint, base: bigint): number | bigint => {
  if (timestamp === base) return 0
  const delta = timestamp - base
  const small = Number(delta)
  // from -1 to the highest is one more than 64 bits have: who reads it adds in 64 bits, too
  return Math.abs(small) < safeDelta ? small : BigInt.asIntN(64, delta)
}

export const encodeBatch = (records: ReadonlyArray<BatchRecord>, by: Sequence): Buffer => {
  const base = records[0]!.timestamp
  let latest = base
  let total = overhead
  const sizes = records.map(({ headers, key, timestamp, value }, index) => {
    if (timestamp > latest) latest = timestamp
    const delta = deltaOf(timestamp, base)
    let size = 1 + (typeof delta === "number" ? sizeOf(zigzagLong(delta)) : sizeOfBig(delta))
    size += sizeOfInt(index) + sizeOfBytes(key) + sizeOfBytes(value) + sizeOfInt(headers.length)
    for (const [name, content] of headers) {
      const length = Buffer.byteLength(name)
      size += sizeOfInt(length) + length + sizeOfBytes(content)
    }
    total += sizeOfInt(size) + size
    return size
  })
  const buffer = Buffer.allocUnsafe(total)
  buffer.writeBigInt64BE(0n, 0) // base offset: the broker's business
  buffer.writeInt32BE(total - 12, 8)
  buffer.writeInt32BE(-1, 12) // leader epoch: the broker's business
  buffer.writeInt8(2, 16)
  buffer.writeInt16BE(0, attributesAt)
  buffer.writeInt32BE(records.length - 1, 23)
  buffer.writeBigInt64BE(base, 27)
  buffer.writeBigInt64BE(latest, 35)
  buffer.writeBigInt64BE(by.producerId, 43)
  buffer.writeInt16BE(by.epoch, 51)
  buffer.writeInt32BE(by.sequence, 53)
  buffer.writeInt32BE(records.length, 57)
  const w = new Writer(buffer, overhead)
  records.forEach(({ headers, key, timestamp, value }, index) => {
    w.int(sizes[index]!)
    buffer[w.at++] = 0 // attributes
    const delta = deltaOf(timestamp, base)
    if (typeof delta === "number") w.unsigned(zigzagLong(delta))
    else w.big(delta)
    w.int(index)
    w.bytes(key)
    w.bytes(value)
    w.int(headers.length)
    for (const [name, content] of headers) {
      w.text(name, Buffer.byteLength(name))
      w.bytes(content)
    }
  })
  buffer.writeUInt32BE(crc32c(buffer, attributesAt), crcAt)
  return buffer
}
