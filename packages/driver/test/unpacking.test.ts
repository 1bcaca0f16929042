import { assert, describe, it } from "@effect/vitest"
import { unpackedBytes, unpackedLimit } from "../src/internal/unpacking.ts"
import { lz4Frame, lz4Stored, repetition } from "./lz4.ts"

const lz4 = 3
const mebibyte = 1024 * 1024
/** more than the limit, in bytes of the length of a repetition */
const beyond = Math.ceil(unpackedLimit / 255) + 1

describe("what a batch unpacks to", () => {
  it("lz4: the sum of what its blocks say", () => {
    // one byte, and 4 + 15 + 3 * 255 + 7 that repeat it; then five that stand for themselves
    const block = Buffer.concat([repetition(3), Buffer.from([7, 0x50]), Buffer.from("abcde")])
    assert.strictEqual(unpackedBytes(lz4, lz4Frame(block)), 1 + 791 + 5)
    assert.strictEqual(unpackedBytes(lz4, lz4Frame(block, block)), 2 * 797)
    const twoFrames = Buffer.concat([lz4Frame(block), lz4Stored(block), Buffer.alloc(3)])
    assert.strictEqual(unpackedBytes(lz4, twoFrames), 797 + block.length)
  })

  it("lz4: beyond the limit it is too much, whether the rest can be read or not", () => {
    // a repetition with its end, and behind it a length that does not end
    const block = Buffer.concat([repetition(beyond), Buffer.from([0, 0xf0])])
    const breaksOff = lz4Frame(block).subarray(0, -4)
    assert.isAbove(unpackedBytes(lz4, breaksOff), unpackedLimit)
  })

  it("lz4: bytes that break off are not taken for ones that unpack to little", () => {
    assert.throws(() => unpackedBytes(lz4, lz4Frame(repetition(beyond)).subarray(0, -4)), RangeError)
    const whole = lz4Frame(Buffer.from([0x10, 0x61]))
    for (const missing of [1, 2, 3, 5, 6, 7, 8, 9]) {
      assert.throws(() => unpackedBytes(lz4, whole.subarray(0, -missing)), RangeError, undefined, `without ${missing}`)
    }
    // without its end it is whole to some libraries
    assert.strictEqual(unpackedBytes(lz4, whole.subarray(0, -4)), 1)
  })

  it("lz4: a block that is longer than any may be is not looked at", () => {
    const longest = Buffer.alloc(4 * mebibyte)
    assert.strictEqual(unpackedBytes(lz4, lz4Stored(longest)), 4 * mebibyte)
    const longer = Buffer.alloc(4 * mebibyte + 1)
    for (const frame of [lz4Stored(longer), lz4Frame(longer)]) {
      assert.throws(() => unpackedBytes(lz4, frame), RangeError, String(longer.length))
    }
  })

  it("lz4: what is in a form that Kafka does not have is not counted as nothing", () => {
    const frame = lz4Frame(Buffer.from([0x10, 0x61]))
    const legacy = Buffer.from([0x02, 0x21, 0x4c, 0x18, 2, 0, 0, 0, 0x10, 0x61])
    const skipped = Buffer.from([0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])
    for (const bytes of [legacy, skipped, Buffer.from("neither of them")]) {
      assert.throws(() => unpackedBytes(lz4, bytes), RangeError)
    }
    for (const bytes of [legacy, skipped]) {
      assert.throws(() => unpackedBytes(lz4, Buffer.concat([frame, bytes])), RangeError)
    }
    assert.strictEqual(unpackedBytes(lz4, Buffer.concat([frame, Buffer.from("neither of them")])), 1)
  })

  it("snappy: bytes without an end of their length are not taken for ones that unpack to little", () => {
    assert.throws(() => unpackedBytes(2, Buffer.from([0xff, 0xff])), RangeError)
  })
})
