import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, it } from "@effect/vitest"
import { compressionsAlgorithms } from "@platformatic/kafka"
import { lz4Frame, lz4Stored, repetition } from "../../driver/test/lz4.ts"
import { codecs } from "../../driver/test/suites/codecs.ts"
import { suiteOf } from "../../driver/test/client.ts"
import { decompress } from "../src/internal/codecs.ts"
import { client } from "./client.ts"

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

codecs(client, decompress, [
  ["snappy", 2, (plain) => compressionsAlgorithms.snappy.compressSync(plain)],
  ["snappy of Java", 2, xerial],
  ["lz4", 3, (plain) => compressionsAlgorithms.lz4.compressSync(plain)]
])

suiteOf(client, "lz4", () => {
  it("of which nobody knows what it unpacks to is not tried", async () => {
    // what it is made of can be read
    const letters = Buffer.from("letters")
    const packed = Buffer.concat([repetition(1), Buffer.from([0, 0xc0]), Buffer.from("abcdefghijkl")])
    assert.strictEqual(String(await decompress(3, lz4Stored(letters), "a batch", 0n)), "letters")
    assert.strictEqual(String(await decompress(3, lz4Frame(packed), "a batch", 0n)), `${"a".repeat(275)}abcdefghijkl`)
    for (const broken of [
      lz4Frame(repetition(600_000)).subarray(0, -4),
      lz4Stored(Buffer.alloc(4 * 1024 * 1024 + 1))
    ]) {
      const error = await decompress(3, broken, "the batch at 5 of t/3", 7n).then(
        () => undefined,
        (e: KafkaClientError) => e
      )
      assert.strictEqual(error?.reason, "CorruptData")
      assert.include(error?.detail, "the batch at 5 of t/3 cannot be decompressed")
      assert.instanceOf(error?.cause, RangeError)
    }
  })
})
