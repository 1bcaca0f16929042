/** Suite: decompression of batches, and what is said of those that cannot be. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, it } from "@effect/vitest"
import * as zlib from "node:zlib"
import type { Decompress } from "../../src/Broker.ts"
import { type Client, suiteOf } from "../client.ts"

type Compressor = readonly [name: string, codec: number, compress: (plain: Buffer) => Buffer]

/** What Node compresses. */
export const compressors: ReadonlyArray<Compressor> = [
  ["gzip", 1, zlib.gzipSync],
  ["zstd", 4, zlib.zstdCompressSync]
]

/** `decompress` of a client, with codecs of its own beside those that every client has. */
export const codecs = (client: Client, decompress: Decompress, own: ReadonlyArray<Compressor>): void => {
  const all = [...compressors, ...own]
  const unknown = new Map<number, string>([[5, "number 5"], client.unknownCodec])
  const failure = (codec: number, bytes: Buffer) =>
    decompress(codec, bytes, "the batch at 5 of t/3").then(
      () => undefined,
      (e: KafkaClientError) => e
    )

  suiteOf(client, "compressed batches", () => {
    it.each(all)(
      "%s: one byte, some, and so many that it is done beside the event loop",
      async (_, codec, compress) => {
        for (const length of [1, 10, 1_000_000]) {
          const plain = Buffer.from(Array.from({ length }, (_value, i) => (i * 7919) ^ (i >> 3)))
          assert.isTrue(plain.equals(await decompress(codec, compress(plain), "a batch")))
          const same = Buffer.alloc(length, "abc")
          assert.isTrue(same.equals(await decompress(codec, compress(same), "a batch")))
        }
      }
    )

    it.each(all)("bytes that are no %s are corrupt, and the batch is named", async (_, codec) => {
      const error = await failure(codec, Buffer.from("neither of them"))
      assert.strictEqual(error?.reason, "CorruptData")
      assert.include(error?.detail, "t/3")
    })

    it.each([...unknown])("codec %d without anybody who knows it is named: %s", async (codec, name) => {
      const error = await failure(codec, Buffer.alloc(8))
      assert.strictEqual(error?.reason, "MissingCodec")
      assert.include(error?.detail, name)
      assert.include(error?.detail, "t/3")
    })
  })
}
