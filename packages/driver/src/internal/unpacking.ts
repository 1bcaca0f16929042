/**
 * How large a batch may become when it is unpacked. Some kilobytes can be packed so that they fill all memory, and brokers look at what
 * is packed only.
 *
 * Codecs of Node stop at a limit. Of snappy and lz4 it is counted before they are unpacked: their libraries have no limit.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"

/** Bytes. A producer makes batches of some kilobytes, and the Java one lets none be larger than its `max.request.size` before packing, 1 MiB. */
export const unpackedLimit = 128 * 1024 * 1024

/** `behind`: the offset after the batch. */
export const tooLarge = (where: string, codec: string, packed: number, behind: bigint): KafkaClientError =>
  new KafkaClientError({
    reason: "CorruptData",
    detail:
      `${where} is not read: its ${packed} bytes unpack with ${codec} to more than ${unpackedLimit / 1024 / 1024} MiB; ` +
      `to go on behind it, end the members of the group and commit offset ${behind} for it`
  })

/** Whether a codec of Node has stopped at its limit (`maxOutputLength`). */
export const isOverLimit = (error: unknown): boolean =>
  error instanceof RangeError && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE"

/**
 * What these bytes unpack to with snappy (2) or lz4 (3), at the most that they say; 0 of others, which have a limit of their own. Behind the
 * limit it is not counted on. Throws a `RangeError` where they cannot be read: how far a library would get with them is not known, and it
 * may fill all memory before it finds out.
 */
export const unpackedBytes = (codec: number, bytes: Buffer): number =>
  codec === 2 ? ofSnappy(bytes) : codec === 3 ? ofLz4(bytes) : 0

/** Java's snappy writes blocks with their lengths behind 16 bytes that begin with these. */
const xerial = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])

const ofSnappy = (bytes: Buffer): number => {
  if (!bytes.subarray(0, xerial.length).equals(xerial)) return ofSnappyBlock(bytes, 0)
  let sum = 0
  for (let at = 16; at < bytes.length; at += 4 + bytes.readUInt32BE(at)) sum += ofSnappyBlock(bytes, at + 4)
  return sum
}

/** It begins with its length, which a library makes room for at once. */
const ofSnappyBlock = (bytes: Buffer, at: number): number => {
  let length = 0
  for (let scale = 1; scale < 2 ** 35; scale *= 128) {
    const byte = bytes.readUInt8(at++)
    length += (byte & 0x7f) * scale
    if (byte < 0x80) break
  }
  return length
}

const lz4Frame = 0x184d2204
/** Other forms of lz4, which libraries may know. Kafka has none of them. */
const isOtherLz4 = (magic: number): boolean => magic === 0x184c2102 || (magic & 0xfffffff0) === 0x184d2a50
/** bytes of a block: no frame may have longer ones, packed or not */
const longestLz4Block = 4 * 1024 * 1024

const ofLz4 = (bytes: Buffer): number => {
  let at = 0
  let sum = 0
  // some libraries read one frame, some all
  while (at === 0 || at + 4 <= bytes.length) {
    const magic = bytes.readUInt32LE(at)
    if (magic !== lz4Frame) {
      if (at === 0 || isOtherLz4(magic)) throw new RangeError(`no frame of lz4 at ${at}`)
      return sum
    }
    const flags = bytes.readUInt8(at + 4)
    at += 6
    if (flags & 0x08) {
      // what the frame claims
      const claimed = Number(bytes.readBigUInt64LE(at))
      if (claimed > unpackedLimit) return claimed
      at += 8
    }
    if (flags & 0x01) at += 4
    at++
    // the end of the last frame may be missing: what is there has been counted
    while (at < bytes.length) {
      const size = bytes.readUInt32LE(at)
      at += 4
      if (size === 0) break
      const length = size & 0x7fffffff
      if (length > longestLz4Block || at + length > bytes.length) throw new RangeError(`a block of ${length} bytes`)
      sum += size >>> 31 === 1 ? length : ofLz4Block(bytes, at, at + length)
      if (sum > unpackedLimit) return sum
      at += length + (flags & 0x10 ? 4 : 0)
    }
    if (flags & 0x04) at += 4
  }
  return sum
}

/**
 * Sequences of literals and of what is repeated, each with its length; the last has literals only. Who has counted beyond the limit is done:
 * what comes behind that does not have to be readable.
 */
const ofLz4Block = (bytes: Buffer, from: number, end: number): number => {
  let at = from
  let sum = 0
  const length = (nibble: number): number => {
    let total = nibble
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; total += byte) byte = bytes.readUInt8(at++)
    return total
  }
  while (at < end && sum <= unpackedLimit) {
    const token = bytes.readUInt8(at++)
    const literals = length(token >> 4)
    sum += literals
    at += literals
    if (at >= end) break
    at += 2
    sum += 4 + length(token & 15)
  }
  return sum
}
