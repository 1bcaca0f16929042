import { assert, describe, it } from "@effect/vitest"
import kafkajs from "kafkajs"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { lz4Frame, repetition } from "../../driver/test/lz4.ts"
import { codecs } from "../../driver/test/suites/codecs.ts"
import { decompress, registerZstd } from "../src/internal/codecs.ts"
import { client } from "./client.ts"

registerZstd()
codecs(client, decompress, [])

describe("the codecs of kafkajs", () => {
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

  it("lz4 of a program's own is not given bytes of which nobody knows what they unpack to", async () => {
    const codecs = kafkajs.CompressionCodecs as Record<number, unknown>
    const before = codecs[3]
    const given: Array<Buffer> = []
    codecs[3] = () => ({ decompress: async (bytes: Buffer) => given.push(bytes) })
    try {
      const whole = lz4Frame(Buffer.from([0x10, 0x61]))
      await decompress(3, whole, "the batch at 5 of t/3", 7n)
      for (const broken of [
        lz4Frame(repetition(600_000)).subarray(0, -4),
        lz4Frame(Buffer.alloc(4 * 1024 * 1024 + 1))
      ]) {
        const error = await decompress(3, broken, "the batch at 5 of t/3", 7n).then(
          () => undefined,
          (e: KafkaClientError) => e
        )
        assert.deepInclude(error, {
          reason: "CorruptData",
          detail: "the batch at 5 of t/3 cannot be decompressed with lz4"
        })
      }
      assert.deepStrictEqual(given, [whole])
    } finally {
      codecs[3] = before
    }
  })
})
