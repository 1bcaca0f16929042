import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { compressionsAlgorithms } from "@platformatic/kafka"
import { assert, describe, it } from "@effect/vitest"
import * as zlib from "node:zlib"
import { decompress } from "../src/internal/codecs.ts"
import { isSupported } from "./supported.ts"

/** As Java's producer writes it: a header of 16 bytes, then blocks with their lengths. */
const xerial = (plain: Buffer): Buffer => {
  const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1])
  const blocks = [plain.subarray(0, plain.length >> 1), plain.subarray(plain.length >> 1)].flatMap((block) => {
    const packed = compressionsAlgorithms.snappy.compressSync(block)
    const length = Buffer.alloc(4)
    length.writeInt32BE(packed.length)
    return [length, packed]
  })
  return Buffer.concat([head, ...blocks])
}

const compressors: ReadonlyArray<readonly [name: string, codec: number, compress: (plain: Buffer) => Buffer]> = [
  ["gzip", 1, zlib.gzipSync],
  ["snappy", 2, (plain) => compressionsAlgorithms.snappy.compressSync(plain)],
  ["snappy of Java", 2, xerial],
  ["lz4", 3, (plain) => compressionsAlgorithms.lz4.compressSync(plain)],
  ["zstd", 4, zlib.zstdCompressSync]
]

describe.skipIf(!isSupported)("compressed batches", () => {
  it.each(compressors)("%s, small and large", async (_, codec, compress) => {
    for (const length of [2, 300_000]) {
      const plain = Buffer.from(Array.from({ length }, (_value, i) => (i * 7919) ^ (i >> 3)))
      assert.isTrue(plain.equals(await decompress(codec, compress(plain), "a batch")))
    }
  })

  it.each(compressors)("bytes that are no %s are corrupt, and the batch is named", async (_, codec) => {
    const error = await decompress(codec, Buffer.from("neither of them"), "the batch at 5 of t/3").then(
      () => undefined,
      (e: KafkaClientError) => e
    )
    assert.strictEqual(error?.reason, "CorruptData")
    assert.include(error?.detail, "t/3")
  })

  it("a codec that nobody knows is named", async () => {
    const error = await decompress(5, Buffer.alloc(8), "the batch at 5 of t/3").then(
      () => undefined,
      (e: KafkaClientError) => e
    )
    assert.strictEqual(error?.reason, "MissingCodec")
    assert.include(error?.detail, "number 5")
  })
})
