import { compressionsAlgorithms } from "@platformatic/kafka"
import { codecs } from "../../driver/test/suites/codecs.ts"
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
