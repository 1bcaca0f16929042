/** Decompression as a library gives it to the driver, with what Node has. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as zlib from "node:zlib"
import type { Decompress } from "../src/Broker.ts"

const codecs: Readonly<Record<number, (bytes: Buffer) => Buffer>> = { 1: zlib.gunzipSync, 4: zlib.zstdDecompressSync }

export const decompress: Decompress = async (codec, bytes, where) => {
  const known = codecs[codec]
  if (known === undefined) throw new KafkaClientError({ reason: "MissingCodec", detail: where })
  try {
    return known(bytes)
  } catch (cause) {
    throw new KafkaClientError({ reason: "CorruptData", detail: where, cause })
  }
}
