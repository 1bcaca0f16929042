import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import kafkajs from "kafkajs"
import * as zlib from "node:zlib"
import { decompress, registerZstd } from "../src/internal/codecs.ts"

const failure = (codec: number, bytes: Buffer) =>
  decompress(codec, bytes, "the batch at 5 of t/3").then(
    () => undefined,
    (e: unknown) => e as KafkaClientError
  )

describe("the codecs of kafkajs", () => {
  it.each([10, 1_000_000])("gzip and zstd, by Node's own zlib: %d bytes", async (length) => {
    registerZstd()
    const plain = Buffer.alloc(length, "abc")
    assert.isTrue(plain.equals(await decompress(1, zlib.gzipSync(plain), "")))
    const incompressible = Buffer.from(Array.from({ length }, (_, i) => (i * 7919) ^ (i >> 3)))
    assert.isTrue(incompressible.equals(await decompress(4, zlib.zstdCompressSync(incompressible), "")))
  })

  it("a codec that a program has registered for zstd is kept", () => {
    const codecs = kafkajs.CompressionCodecs as Record<number, unknown>
    const before = codecs[4]
    const own = () => ({
      compress: () => Promise.resolve(Buffer.alloc(0)),
      decompress: () => Promise.resolve(Buffer.alloc(0))
    })
    codecs[4] = own
    registerZstd()
    assert.strictEqual(codecs[4], own)
    codecs[4] = before
  })

  it.each([
    [2, "snappy"],
    [3, "lz4"],
    [5, "number 5"]
  ])("codec %d without anybody who knows it is named", async (codec, name) => {
    const error = await failure(codec, Buffer.alloc(8))
    assert.strictEqual(error?.reason, "MissingCodec")
    assert.include(error?.detail, name)
    assert.include(error?.detail, "t/3")
  })

  it("bytes that are no gzip are corrupt", async () => {
    const error = await failure(1, Buffer.from("no gzip"))
    assert.strictEqual(error?.reason, "CorruptData")
    assert.include(error?.detail, "t/3")
  })
})
