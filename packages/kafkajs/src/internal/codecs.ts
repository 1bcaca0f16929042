/** Decompression by the codecs registered with kafkajs, so that those a program has registered for itself are used too. */
import { promisify } from "node:util"
import * as zlib from "node:zlib"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import kafkajs from "kafkajs"

const names: Readonly<Record<number, string>> = { 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd" }

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
      buffer.length < small ? zlib.zstdDecompressSync(buffer) : await decompress(buffer)
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

export const decompress = async (type: number, buffer: Buffer, where: string): Promise<Buffer> => {
  const codec = lookup(type)
  const name = names[type] ?? `number ${type}`
  if (!codec) {
    throw new KafkaClientError({
      reason: "MissingCodec",
      detail: `${where} is compressed with ${name}, for which kafkajs has no codec registered (kafkajs.CompressionCodecs)`
    })
  }
  try {
    return await codec.decompress(buffer)
  } catch (cause) {
    throw new KafkaClientError({ reason: "CorruptData", detail: `${where} cannot be decompressed with ${name}`, cause })
  }
}
