/** Decompression: gzip and zstd by Node's own zlib, snappy and lz4 by what the library brings along. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Decompress } from "@concurrent-kafka/driver/Broker"
import { isOverLimit, tooLarge, unpackedBytes, unpackedLimit } from "@concurrent-kafka/driver/Protocol"
import { compressionsAlgorithms } from "@platformatic/kafka"
import { promisify } from "node:util"
import * as zlib from "node:zlib"

const gunzip = promisify(zlib.gunzip)
const unzstd = promisify(zlib.zstdDecompress)

const limited = { maxOutputLength: unpackedLimit }

/** below this a thread of the pool costs more than the work */
const small = 65_536

const codecs: Readonly<
  Record<number, { readonly name: string; readonly decompress: (bytes: Buffer) => Buffer | Promise<Buffer> }>
> = {
  1: {
    name: "gzip",
    decompress: (bytes) => (bytes.length < small ? zlib.gunzipSync(bytes, limited) : gunzip(bytes, limited))
  },
  2: { name: "snappy", decompress: (bytes) => compressionsAlgorithms.snappy.decompressSync(bytes) },
  3: { name: "lz4", decompress: (bytes) => compressionsAlgorithms.lz4.decompressSync(bytes) },
  4: {
    name: "zstd",
    decompress: (bytes) => (bytes.length < small ? zlib.zstdDecompressSync(bytes, limited) : unzstd(bytes, limited))
  }
}

export const decompress: Decompress = async (codec, bytes, where, behind) => {
  const known = codecs[codec]
  if (known === undefined) {
    throw new KafkaClientError({
      reason: "MissingCodec",
      detail: `${where} is compressed with number ${codec}, which nobody here knows`
    })
  }
  try {
    if (unpackedBytes(codec, bytes) <= unpackedLimit) return await known.decompress(bytes)
  } catch (cause) {
    if (isOverLimit(cause)) throw tooLarge(where, known.name, bytes.length, behind)
    const detail = `${where} cannot be decompressed with ${known.name}`
    throw new KafkaClientError({ reason: "CorruptData", detail, cause })
  }
  throw tooLarge(where, known.name, bytes.length, behind)
}
