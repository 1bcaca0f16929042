/** Suite: decompression of batches, and what is said of those that cannot be. */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, it } from "@effect/vitest"
import * as zlib from "node:zlib"
import type { Decompress } from "../../src/Broker.ts"
import { unpackedLimit } from "../../src/internal/unpacking.ts"
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
    decompress(codec, bytes, "the batch at 5 of t/3", 7n).then(
      () => undefined,
      (e: KafkaClientError) => e
    )

  suiteOf(client, "compressed batches", () => {
    it.each(all)(
      "%s: one byte, some, and so many that it is done beside the event loop",
      async (_, codec, compress) => {
        for (const length of [1, 10, 1_000_000]) {
          const plain = Buffer.from(Array.from({ length }, (_value, i) => (i * 7919) ^ (i >> 3)))
          assert.isTrue(plain.equals(await decompress(codec, compress(plain), "a batch", 0n)))
          const same = Buffer.alloc(length, "abc")
          assert.isTrue(same.equals(await decompress(codec, compress(same), "a batch", 0n)))
        }
      }
    )

    // each is a megabyte or less
    it.each(all)(
      "%s that unpacks to more than memory should take is not, and it is said how to go on",
      async (_, codec, compress) => {
        const error = await failure(codec, compress(Buffer.alloc(unpackedLimit + 1)))
        assert.strictEqual(error?.reason, "CorruptData")
        for (const part of ["the batch at 5 of t/3", "128 MiB", "commit offset 7"]) assert.include(error?.detail, part)
      }
    )

    it.each(all)("%s of as much as it may unpack to is read", async (_, codec, compress) => {
      const plain = Buffer.alloc(unpackedLimit, "record ")
      const unpacked = await decompress(codec, compress(plain), "a batch", 0n)
      assert.isTrue(unpacked.equals(plain))
    })

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
