import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { decompress } from "./codecs.ts"
import { crc32c } from "../src/internal/crc32c.ts"
import { type BatchRecord, encodeBatch, roughSize } from "../src/internal/recordBatch.ts"
import { decodeProduce, encodeProduce } from "../src/internal/produceRequest.ts"
import { decodeRecords } from "../src/internal/records.ts"
import { encodeBatch as byTheText } from "./batches.ts"

const by = { producerId: 4711n, epoch: 3, sequence: 99 }

const read = (batch: Buffer) => {
  const decoded = decodeRecords({
    topic: "t",
    partition: 0,
    position: 0n,
    aborted: [],
    batches: batch,
    decompress,
    most: Infinity
  })
  if (decoded instanceof Promise) throw new Error("nothing is compressed")
  return decoded.records
}

const list = (bytes: Uint8Array | null) => (bytes === null ? null : [...bytes])
const plain = ({ headers, key, timestamp, value }: BatchRecord) => ({
  key: list(key),
  value: list(value),
  timestamp,
  headers: headers.map(([name, content]) => [name, list(content)])
})

describe("CRC-32C", () => {
  it("is that of the standard", () => {
    // RFC 3720, appendix B.4, and the check value of the catalogue of CRCs
    assert.strictEqual(crc32c(new Uint8Array(32)), 0x8a9136aa)
    assert.strictEqual(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
    assert.strictEqual(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e)
    assert.strictEqual(crc32c(Buffer.from("--123456789"), 2), 0xe3069283)
    assert.strictEqual(crc32c(Buffer.from("--123456789--"), 2, 11), 0xe3069283)
  })
})

const Bytes = Schema.NullOr(
  Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(Schema.isMaxLength(300))
)
const Records = Schema.Array(
  Schema.Struct({
    key: Bytes,
    value: Bytes,
    timestamp: Schema.Int,
    headers: Schema.Array(Schema.Tuple([Schema.String, Bytes])).check(Schema.isMaxLength(4))
  })
).check(Schema.isMinLength(1), Schema.isMaxLength(80))

describe("a batch", () => {
  it.prop("is read back as it was written, and takes about what was foretold", [Records], ([given]) => {
    const bytes = (content: ReadonlyArray<number> | null) => (content === null ? null : Uint8Array.from(content))
    const records = given.map(({ headers, key, timestamp, value }): BatchRecord => ({
      key: bytes(key),
      value: bytes(value),
      timestamp: BigInt(timestamp),
      // half a surrogate pair has no UTF-8
      headers: headers.map(([name, content]) => [name.toWellFormed(), bytes(content)])
    }))
    const batch = encodeBatch(records, by)
    assert.deepStrictEqual(read(batch).map(plain), records.map(plain))
    assert.strictEqual(batch.readUInt32BE(17), crc32c(batch, 21))
    const foretold = records.reduce((sum, record) => sum + roughSize(record), 61)
    assert.isBelow(Math.abs(batch.length - foretold), 40 * records.length + 100)
  })

  it("is byte for byte what the protocol's text says", () => {
    const key = Buffer.from("k")
    const records: ReadonlyArray<BatchRecord> = [
      { key, value: Buffer.from("first"), timestamp: 1000n, headers: [] },
      { key: null, value: null, timestamp: 900n, headers: [["h", null]] },
      { key, value: Buffer.alloc(70, "x"), timestamp: 1_000_000_000_000n, headers: [["h", key]] }
    ]
    const expected = byTheText({
      base: 0n,
      last: 2,
      baseTime: 1000n,
      maxTime: 1_000_000_000_000n,
      records: [
        { delta: 0, key: "k", value: "first" },
        { delta: 1, time: -100, headers: [["h", null]] },
        { delta: 2, key: "k", value: Buffer.alloc(70, "x"), time: 999_999_999_000, headers: [["h", "k"]] }
      ]
    })
    const none = encodeBatch(records, { producerId: -1n, epoch: -1, sequence: -1 })
    assert.deepStrictEqual(none, expected)
    const mine = encodeBatch(records, by)
    assert.strictEqual(mine.readBigInt64BE(43), 4711n)
    assert.strictEqual(mine.readInt16BE(51), 3)
    assert.strictEqual(mine.readInt32BE(53), 99)
  })

  it("keeps timestamps that no number holds apart", () => {
    const timestamps = [0n, 2n ** 62n + 1n, 2n ** 53n + 1n, -1n]
    const batch = encodeBatch(
      timestamps.map((timestamp) => ({ key: null, value: null, headers: [], timestamp })),
      by
    )
    // the last byte but three of each record's timestamp is where a number would have lost them
    assert.strictEqual(batch.readBigInt64BE(27), 0n)
    assert.strictEqual(batch.readBigInt64BE(35), 2n ** 62n + 1n)
    const expected = byTheText({
      base: 0n,
      last: 3,
      baseTime: 0n,
      maxTime: 2n ** 62n + 1n,
      records: timestamps.map((time, delta) => ({ delta, time }))
    })
    assert.deepStrictEqual(batch.subarray(61), expected.subarray(61))
  })
})

describe("Produce", () => {
  it("names each topic once, with its partitions and their batches", () => {
    const buffer = encodeProduce(
      [
        { topic: "a", partition: 1, batch: Buffer.from("xx") },
        { topic: "b", partition: 0, batch: Buffer.from("y") },
        { topic: "a", partition: 0, batch: Buffer.from("z") }
      ],
      1234
    )
    assert.strictEqual(
      buffer.toString("hex"),
      [
        "ffff", // no transaction
        "ffff", // all replicas
        "000004d2",
        "00000002",
        ...["0001", "61", "00000002", "00000001", "00000002", "7878", "00000000", "00000001", "7a"],
        ...["0001", "62", "00000001", "00000000", "00000001", "79"]
      ].join("")
    )
  })

  it.each([3, 5, 7])("answers of version %d are read whole", (version) => {
    const partition = (number: string, code: string) =>
      `${number}${code}${"00".repeat(16)}${version >= 5 ? "ff".repeat(8) : ""}`
    const answer = Buffer.from(
      `00000002 0001 61 00000002 ${partition("00000001", "0000")} ${partition("00000000", "0006")}
       0001 62 00000001 ${partition("00000007", "002d")} 0000002a`.replaceAll(/\s/g, ""),
      "hex"
    )
    assert.deepStrictEqual(decodeProduce(answer, version), {
      clientSideThrottleTime: version >= 6 ? 42 : 0,
      partitions: [
        { topic: "a", partition: 1, code: "NONE" },
        { topic: "a", partition: 0, code: "NOT_LEADER_OR_FOLLOWER" },
        { topic: "b", partition: 7, code: "OUT_OF_ORDER_SEQUENCE_NUMBER" }
      ]
    })
  })
})
