/**
 * Decompression by the codecs registered with kafkajs, so that those a program has registered for itself are used too. Of what they unpack
 * to there is a limit, except for gzip and zstd of a program's own.
 */
import { createRequire } from "node:module"
import { promisify } from "node:util"
import * as zlib from "node:zlib"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Decompress } from "@concurrent-kafka/driver/Broker"
import { isOverLimit, tooLarge, unpackedBytes, unpackedLimit } from "@concurrent-kafka/driver/Protocol"
import kafkajs from "kafkajs"

const names: Readonly<Record<number, string>> = { 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd" }

const limited = { maxOutputLength: unpackedLimit }

/** below this a thread of the pool costs more than the work */
const small = 65_536

/**
 * Registers zstd from Node's own zlib (22.15 and later), unless the program has registered one. The table is kafkajs's and
 * global, like the codec.
 */
export const registerZstd = (): void => {
  const { CompressionCodecs: codecs, CompressionTypes: types } = kafkajs
  if (typeof zlib.zstdDecompressSync !== "function" || lookup(types.ZSTD) !== undefined) return
  const compress = promisify(zlib.zstdCompress)
  const decompress = promisify(zlib.zstdDecompress)
  codecs[types.ZSTD] = () => ({
    compress: (encoder: { readonly buffer: Buffer }) => compress(encoder.buffer),
    decompress: async (buffer: Buffer) =>
      buffer.length < small ? zlib.zstdDecompressSync(buffer, limited) : await decompress(buffer, limited)
  })
}

interface Codec {
  readonly decompress: (buffer: Buffer) => Promise<Buffer> | Buffer
}

/** `undefined` when there is none: kafkajs throws for the codecs it lacks. */
const lookup = (type: number): Codec | undefined => {
  try {
    return (kafkajs.CompressionCodecs as Record<number, () => Codec>)[type]?.()
  } catch {
    return undefined
  }
}

const unzip = promisify(zlib.unzip)

/** What kafkajs itself unpacks gzip with; `undefined` where it is not found. */
const itsGzip: unknown = (() => {
  try {
    return createRequire(import.meta.url)("kafkajs/src/protocol/message/compression/gzip")
  } catch {
    return undefined
  }
})()

/** The same with a limit. */
const gzip: Codec = {
  decompress: (bytes) => (bytes.length < small ? zlib.unzipSync(bytes, limited) : unzip(bytes, limited))
}

export const decompress: Decompress = async (type, buffer, where, behind) => {
  const registered = lookup(type)
  const codec = registered !== undefined && registered === itsGzip ? gzip : registered
  const name = names[type] ?? `number ${type}`
  if (!codec) {
    throw new KafkaClientError({
      reason: "MissingCodec",
      detail: `${where} is compressed with ${name}, for which kafkajs has no codec registered (kafkajs.CompressionCodecs)`
    })
  }
  try {
    if (unpackedBytes(type, buffer) <= unpackedLimit) return await codec.decompress(buffer)
  } catch (cause) {
    if (isOverLimit(cause)) throw tooLarge(where, name, buffer.length, behind)
    throw new KafkaClientError({ reason: "CorruptData", detail: `${where} cannot be decompressed with ${name}`, cause })
  }
  throw tooLarge(where, name, buffer.length, behind)
}
