import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import { base64Length, fromBase64, toBase64 } from "../src/internal/base64.ts"
import { crc24 } from "../src/internal/mapCheck.ts"
import { type Form, writeForm } from "../src/internal/mapForms.ts"
import { plainCharacters, writeMap } from "../src/internal/mapWriter.ts"
import { OffsetMap } from "../src/OffsetMap.ts"

const zstd: OffsetMap.Zstd = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
}
/** `OFFSET_MAP_SEED` plays other inputs. */
const firstSeed = Number(process.env["OFFSET_MAP_SEED"] ?? 20_261_121)
const place = { topic: "orders", partition: 3, base: 100n }
const own = { ...place, trust: "own" } as const
const all = { ...place, trust: "all" } as const

/** What the Java library calls a map: from the base to the highest that succeeded, and what of it did not. */
const runsOf = (base: number, highest: number, incomplete: ReadonlyArray<number>): Array<number> => {
  const runs: Array<number> = []
  for (let offset = base; offset <= highest; offset++) {
    if (incomplete.includes(offset)) continue
    if (runs.at(-1) === offset - base) runs[runs.length - 1] = offset - base + 1
    else runs.push(offset - base, offset - base + 1)
  }
  return runs
}

const written = (form: Form, runs: ReadonlyArray<number>, length: number) => toBase64(writeForm(form, runs, length, 0))
const mapOf = (decoded: OffsetMap.Decoded): OffsetMap => {
  if (decoded._tag !== "Map") assert.fail(JSON.stringify(decoded))
  return (decoded as { readonly map: OffsetMap }).map
}
const why = (decoded: OffsetMap.Decoded): string => (decoded._tag === "Unusable" ? decoded.why : decoded._tag)
const bytes = (...values: ReadonlyArray<number>) => toBase64(Uint8Array.from(values))

/** produced and read again by the Java library, version 0.5.3.3 */
const golden: ReadonlyArray<{
  readonly base: number
  readonly highest: number
  readonly incomplete: ReadonlyArray<number>
  readonly bits16?: string
  readonly runs16?: string
  readonly bits32?: string
  readonly runs32: string
  readonly chosen: "bits16" | "runs32" | "nothing"
}> = [
  {
    base: 100,
    highest: 105,
    incomplete: [100, 102, 103],
    bits16: "bAAGMgA=",
    runs16: "bgABAAEAAgAC",
    bits32: "bwAAAAYyAA==",
    runs32: "ZQAAAAEAAAABAAAAAgAAAAI=",
    chosen: "bits16"
  },
  {
    base: 100,
    highest: 105,
    incomplete: [103],
    bits16: "bAAGNwA=",
    runs16: "bgAAAAMAAQAC",
    bits32: "bwAAAAY3AA==",
    runs32: "ZQAAAAAAAAADAAAAAQAAAAI=",
    chosen: "bits16"
  },
  {
    base: 0,
    highest: 2,
    incomplete: [0, 1],
    bits16: "bAADBAA=",
    runs16: "bgACAAE=",
    bits32: "bwAAAAMEAA==",
    runs32: "ZQAAAAIAAAAB",
    chosen: "bits16"
  },
  {
    base: 100,
    highest: 100,
    incomplete: [100],
    bits16: "bAABAAA=",
    runs16: "bgAB",
    bits32: "bwAAAAEAAA==",
    runs32: "ZQAAAAE=",
    chosen: "nothing"
  },
  {
    base: 100,
    highest: 99,
    incomplete: [],
    bits16: "bAAAAA==",
    runs16: "bgAA",
    bits32: "bwAAAAAA",
    runs32: "ZQAAAAA=",
    chosen: "nothing"
  },
  { base: 0, highest: 40_000, incomplete: [0], runs32: "ZQAAAAEAAJxA", chosen: "runs32" },
  { base: 0, highest: 40_000, incomplete: [0, 39_999], runs32: "ZQAAAAEAAJw+AAAAAQAAAAE=", chosen: "runs32" }
]

describe("golden vectors of the Java Parallel Consumer", () => {
  it("each form is read as what it was written from", () => {
    for (const { base, bits16, bits32, highest, incomplete, runs16, runs32 } of golden) {
      for (const metadata of [bits16, runs16, bits32, runs32]) {
        if (metadata === undefined) continue
        const options = { ...all, base: BigInt(base) }
        const runs = runsOf(base, highest, incomplete)
        for (const text of [metadata, metadata.replace(/=+$/, "")]) {
          const decoded = OffsetMap.decode(text, options)
          if (runs.length === 0) assert.strictEqual(decoded._tag, "Empty", text)
          else {
            assert.deepStrictEqual(mapOf(decoded), { base: BigInt(base), length: highest - base + 1, runs }, text)
            assert.deepInclude(decoded, { own: false })
          }
        }
        const expected = runs.length === 0 && incomplete.length === 0 ? ["Empty", "unchecked"] : ["unchecked"]
        assert.include(expected, why(OffsetMap.decode(metadata, { ...options, trust: "own" })), metadata)
      }
    }
  })

  it("without the check each form is written byte for byte as there, and the same one is chosen", () => {
    for (const { base, bits16, bits32, chosen, highest, incomplete, runs32 } of golden) {
      const runs = runsOf(base, highest, incomplete)
      const length = highest - base + 1
      if (bits16 !== undefined) assert.strictEqual(written("bits16", runs, length), bits16)
      if (bits32 !== undefined) assert.strictEqual(written("bits32", runs, length), bits32)
      else assert.strictEqual(writeForm("bits32", runs, length, 0).length, 5_007)
      if (length > 0) assert.strictEqual(written("runs32", runs, length), runs32)
      const { cut, metadata } = writeMap(runs, 4_096, undefined, undefined)
      assert.isFalse(cut)
      assert.strictEqual(metadata, chosen === "nothing" ? "" : chosen === "bits16" ? bits16 : runs32)
    }
  })

  it("the forms end where they end there: 32,767 offsets for the first bit set", () => {
    // a pattern for which runs are long
    const runs = (length: number) => Array.from({ length: length >> 1 }, (_, i) => [2 * i + 1, 2 * i + 2]).flat()
    assert.strictEqual(fromBase64(writeMap(runs(32_766), 100_000, undefined, undefined).metadata)![0], 0x6c)
    assert.strictEqual(fromBase64(writeMap(runs(32_768), 100_000, undefined, undefined).metadata)![0], 0x6f)
  })
})

describe("what is not used", () => {
  it("D20: metadata of other tools, and what no reader can read", () => {
    const cases: ReadonlyArray<readonly [metadata: string, why: string]> = [
      ["AQAAAAAAAAAB", "kafkaStreams"],
      ["AgAAAAAAAAAB", "kafkaStreams"],
      ["WGFiYw==", "truncated"],
      ['{"a":1}', "notBase64"],
      ["TAEAAQ==", "unsupported"],
      [bytes(0xee, 1, 2), "unsupported"],
      [bytes(0x64, 0, 0, 0, 6, 1, 2), "unsupported"],
      [bytes(0x44, 0, 0, 0, 6, 1, 2), "unsupported"],
      [bytes(0x7a, 1, 2), "unknownMagic"],
      ["pod-7 at 2026", "notBase64"],
      ["committed", "notBase64"],
      ["abcde", "notBase64"],
      ["bAAGMgA", "unchecked"],
      ["bAAGMg=", "notBase64"],
      ["=", "notBase64"],
      ["bA==", "truncated"],
      ["A".repeat(70_000), "tooLong"],
      [bytes(0x6c, 0xff, 0xff, 0), "negative"],
      [bytes(0x6f, 0x80, 0, 0, 0, 0), "negative"],
      [bytes(0x6e, 0xff, 0xff), "negative"],
      [bytes(0x65, 0, 0, 0, 1, 0x80, 0, 0, 0), "negative"],
      [bytes(0x6c, 0, 6), "truncated"],
      [bytes(0x6f, 0, 0, 0), "truncated"],
      [bytes(0x6c, 0, 6, 0x32, 0, 0), "trailing"],
      [bytes(0x6c, 0, 6, 0x32, 7), "trailing"],
      [bytes(0x6c, 0, 6, 0xf2, 0), "trailing"],
      [bytes(0x6e, 0, 1, 0), "trailing"],
      [bytes(0x65, 0, 0, 0, 1, 0), "trailing"],
      // the zstd forms, with nothing to read them
      ...[0x61, 0x73, 0x4a, 0x70].map((magic) => [bytes(magic, 1, 2, 3), "zstdMissing"] as const)
    ]
    for (const [metadata, expected] of cases) {
      assert.strictEqual(why(OffsetMap.decode(metadata, own)), expected, metadata.slice(0, 40))
    }
    assert.strictEqual(why(OffsetMap.decode("", own)), "Empty")
  })

  it("D20: a fork's envelope is read through to the map inside", () => {
    const inner = fromBase64(OffsetMap.encode({ ...place, runs: [1, 2, 4, 6], limit: 4_096 }).metadata)!
    const envelope = (rider: ReadonlyArray<number>, map: Uint8Array | ReadonlyArray<number>) =>
      bytes(0x58, rider.length >> 8, rider.length & 0xff, ...rider, ...map)
    assert.deepStrictEqual(mapOf(OffsetMap.decode(envelope([1, 2, 3], inner), own)).runs, [1, 2, 4, 6])
    assert.deepStrictEqual(mapOf(OffsetMap.decode(envelope([], inner), own)).runs, [1, 2, 4, 6])
    assert.strictEqual(why(OffsetMap.decode(envelope([1, 2, 3], []), own)), "Empty")
    assert.strictEqual(why(OffsetMap.decode(envelope([1], [0x58, 0, 0]), own)), "nested")
    assert.strictEqual(why(OffsetMap.decode(bytes(0x58, 0), own)), "truncated")
    assert.strictEqual(why(OffsetMap.decode(bytes(0x58, 0, 2, 1), own)), "truncated")
    assert.strictEqual(why(OffsetMap.decode(envelope([1], [0x64, 0, 0]), own)), "unsupported")
    assert.strictEqual(why(OffsetMap.decode(envelope([1], fromBase64("bAAGMgA=")!), own)), "unchecked")
    assert.strictEqual(OffsetMap.decode(envelope([1], fromBase64("bAAGMgA=")!), all)._tag, "Map")
  })

  it("D21: a map beside another topic, partition or offset than it was written for", () => {
    for (const runs of [
      [1, 2, 4, 6],
      [1, 40_000],
      Array.from({ length: 40 }, (_, i) => [3 * i + 1, 3 * i + 3]).flat()
    ]) {
      const { metadata } = OffsetMap.encode({ ...place, runs, limit: 4_096 })
      assert.deepInclude(OffsetMap.decode(metadata, own), { _tag: "Map", own: true })
      for (const other of [{ topic: "order" }, { topic: "us-east.orders" }, { partition: 4 }, { base: 97n }]) {
        for (const trust of ["own", "all"] as const) {
          assert.strictEqual(why(OffsetMap.decode(metadata, { ...place, ...other, trust })), "checkWrong")
        }
      }
      for (let base = 1n; base < 5_000n; base++) {
        if (base !== 100n) assert.strictEqual(why(OffsetMap.decode(metadata, { ...own, base })), "checkWrong")
      }
    }
  })

  it("a map that speaks of what the log does not have", () => {
    const { metadata } = OffsetMap.encode({ ...place, runs: [1, 2, 4, 6], limit: 4_096 })
    assert.strictEqual(OffsetMap.decode(metadata, { ...own, end: 106n })._tag, "Map")
    assert.strictEqual(why(OffsetMap.decode(metadata, { ...own, end: 105n })), "beyondEnd")
    const endless = bytes(0x65, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff)
    assert.strictEqual(why(OffsetMap.decode(endless, { ...all, end: 10_000n })), "beyondEnd")
  })
})

describe("zstd", () => {
  const dense = Array.from({ length: 6_000 }, (_, i) => [i * 3 + 1, i * 3 + (i % 3 === 0 ? 3 : 2)]).flat()

  it("is written where no other form is short, and never without a compressor", () => {
    const plain = OffsetMap.encode({ ...place, runs: dense, limit: 4_096 })
    const packed = OffsetMap.encode({ ...place, runs: dense, limit: 4_096, zstd })
    assert.strictEqual(fromBase64(plain.metadata)![0], 0x6c)
    assert.include([0x61, 0x70], fromBase64(packed.metadata)![0])
    assert.isBelow(packed.metadata.length, plain.metadata.length)
    assert.deepStrictEqual(mapOf(OffsetMap.decode(packed.metadata, { ...own, zstd })).runs, dense)
    assert.strictEqual(why(OffsetMap.decode(packed.metadata, own)), "zstdMissing")
    const short = OffsetMap.encode({ ...place, runs: [1, 1_000], limit: 4_096, zstd })
    assert.strictEqual(fromBase64(short.metadata)![0], 0x65)
  })

  it("each compressed form is read, whoever compressed it", () => {
    const bodies: ReadonlyArray<readonly [magic: number, metadata: string]> = [
      [0x61, "bAAGMgA="],
      [0x73, "bwAAAAYyAA=="],
      [0x4a, "bgABAAEAAgAC"],
      [0x70, "ZQAAAAEAAAABAAAAAgAAAAI="]
    ]
    for (const [magic, metadata] of bodies) {
      const text = bytes(magic, ...zstd.compress(fromBase64(metadata)!.subarray(1)))
      assert.deepStrictEqual(mapOf(OffsetMap.decode(text, { ...all, zstd })).runs, [1, 2, 4, 6])
      assert.strictEqual(why(OffsetMap.decode(text, { ...own, zstd })), "unchecked")
    }
  })

  it("what cannot be decompressed, or becomes too long, is not used", () => {
    assert.strictEqual(why(OffsetMap.decode(bytes(0x61, 1, 2, 3, 4), { ...own, zstd })), "zstdFailed")
    const bomb = bytes(0x70, ...zstd.compress(new Uint8Array(50_000_000)))
    assert.isBelow(bomb.length, 10_000)
    assert.strictEqual(why(OffsetMap.decode(bomb, { ...all, zstd })), "zstdFailed")
    const limits: Array<number> = []
    const watched: OffsetMap.Zstd = {
      ...zstd,
      decompress: (some, limit) => {
        limits.push(limit)
        return zstd.decompress(some, limit)
      }
    }
    assert.strictEqual(why(OffsetMap.decode(bomb, { ...all, zstd: watched })), "zstdFailed")
    assert.deepStrictEqual(limits, [65_536], "it is not unpacked to see how long it is")
    const careless = { ...zstd, decompress: () => new Uint8Array(70_000) }
    assert.strictEqual(why(OffsetMap.decode(bomb, { ...all, zstd: careless })), "zstdFailed")
  })

  it("what would not be read for its length is not written: it is written otherwise", () => {
    // a bit set of 100,000 bytes and runs of 1.6 MB
    const runs = Array.from({ length: 200_000 }, (_, i) => [i * 4 + 1, i * 4 + 2]).flat()
    const { cut, length, metadata } = OffsetMap.encode({ ...place, runs, limit: 4_096, zstd })
    assert.isTrue(cut)
    assert.isAbove(length, 100_000, "further than the 24,000 that fit plainly")
    assert.strictEqual(mapOf(OffsetMap.decode(metadata, { ...own, zstd })).length, length)
  })
})

// ------------------------------------------------------------------ properties

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
/** gap and length in turn */
const Steps = Schema.Array(Schema.Tuple([upTo(40), upTo(40)])).check(Schema.isMaxLength(400))

const stepsToRuns = (steps: ReadonlyArray<readonly [number, number]>, scale: number): Array<number> => {
  const runs: Array<number> = []
  let at = 0
  steps.forEach(([gap, run], i) => {
    const from = at + (gap + (i === 0 ? 0 : 1)) * scale
    at = from + run * scale + 1
    runs.push(from, at)
  })
  return runs
}

/** As the Java library reads, offset by offset, 2,000 of them: what lies behind the body is nothing to it. */
const readAsJava = (metadata: string): { readonly length: number; readonly done: Uint8Array } => {
  const whole = Buffer.from(metadata, "base64")
  const payload = whole[0] === 0x58 ? whole.subarray(3 + whole.readUInt16BE(1)) : whole
  const magic = String.fromCharCode(payload[0]!)
  const body = "asJp".includes(magic) ? zstdDecompressSync(payload.subarray(1)) : payload.subarray(1)
  const form = { a: "l", s: "o", J: "n", p: "e" }[magic] ?? magic
  const done = new Uint8Array(2_000)
  let length = 0
  if (form === "e" || form === "n") {
    const width = form === "e" ? 4 : 2
    for (let i = 0, bit = 0; i + width <= body.length; i += width, bit = 1 - bit) {
      const run = body.readIntBE(i, width)
      done.fill(bit, length, length + run)
      length += run
    }
  } else {
    const start = form === "o" ? 4 : 2
    length = body.readIntBE(0, start)
    for (let i = 0; i < Math.min(length, done.length); i++) done[i] = ((body[start + (i >> 3)] ?? 0) >> (i & 7)) & 1
  }
  return { length, done: done.subarray(0, length) }
}

const unrolled = (runs: ReadonlyArray<number>, length: number): Uint8Array => {
  const done = new Uint8Array(Math.min(length, 2_000))
  for (let i = 0; i < runs.length && runs[i]! < 2_000; i += 2) done.fill(1, runs[i], runs[i + 1])
  return done
}

describe("properties", () => {
  it.prop(
    "what is written is read again, by us and by the Java library",
    [Steps, upTo(3), Schema.Boolean],
    ([steps, power, compressed]) => {
      const runs = stepsToRuns(steps, 10 ** power)
      const { cut, length, metadata } = OffsetMap.encode({
        ...place,
        runs,
        limit: 1_000_000,
        zstd: compressed ? zstd : undefined
      })
      assert.isFalse(cut)
      assert.strictEqual(length, runs.at(-1) ?? 0)
      if (runs.length === 0) return assert.strictEqual(metadata, "")
      const decoded = OffsetMap.decode(metadata, { ...own, zstd })
      assert.deepStrictEqual(decoded, { _tag: "Map", map: { base: 100n, length, runs }, own: true })
      if (!compressed) {
        assert.strictEqual(metadata.length, plainCharacters(length, runs.length / 2))
        const java = readAsJava(metadata)
        assert.strictEqual(java.length, length)
        assert.deepStrictEqual(java.done, unrolled(runs, length))
      }
    },
    { arbitrary: { runs: 300, size: 60 } }
  )

  it.prop(
    "a cut map says the same as the whole one up to where it was cut, fits, and could not be longer in any plain form",
    [Steps, upTo(300), upTo(3), Schema.Boolean],
    ([steps, limit, power, compressed]) => {
      const runs = stepsToRuns(steps, 10 ** power)
      const { cut, length, metadata } = OffsetMap.encode({ ...place, runs, limit, zstd: compressed ? zstd : undefined })
      assert.isAtMost(metadata.length, limit)
      if (!cut) return assert.strictEqual(length, runs.at(-1) ?? 0)
      assert.isBelow(length, runs.at(-1)!)
      const decoded = metadata === "" ? [] : mapOf(OffsetMap.decode(metadata, { ...own, zstd })).runs
      const expected = runs.flatMap((from, i) =>
        i % 2 === 0 && from < length ? [from, Math.min(runs[i + 1]!, length)] : []
      )
      assert.deepStrictEqual(decoded, expected)
      // one more done offset does not fit
      const run = runs.findIndex((to, i) => i % 2 === 1 && to > length)
      const last = Math.max(length, runs[run - 1]!)
      assert.isAbove(plainCharacters(last + 1, (run + 1) / 2), limit)
    },
    { arbitrary: { runs: 300, size: 60 } }
  )

  it("under every limit it fits, says nothing that is not done, and says no less than under a smaller one", () => {
    const shapes: ReadonlyArray<readonly [what: string, runs: ReadonlyArray<number>, step: number]> = [
      ["scattered", Array.from({ length: 600 }, (_, i) => [90 * i + 1, 90 * i + 40 + (i % 7)]).flat(), 1],
      ["dense", Array.from({ length: 12_000 }, (_, i) => [4 * i + 1, 4 * i + 2 + (i % 3)]).flat(), 7],
      ["one run", [1, 5_000_000_000], 1],
      ["mixed", Array.from({ length: 900 }, (_, i) => [(i + 2) ** 2, (i + 2) ** 2 + 1 + (i >> 1)]).flat(), 3]
    ]
    for (const [what, runs, step] of shapes) {
      for (const compressor of [undefined, zstd]) {
        let before = 0
        for (let limit = 0; limit <= 4_200; limit += compressor === undefined ? step : 131) {
          const { cut, length, metadata } = OffsetMap.encode({ ...place, runs, limit, zstd: compressor })
          assert.isAtMost(metadata.length, limit)
          assert.isAtLeast(length, before, `${what} at ${limit}`)
          before = length
          assert.strictEqual(cut, length < runs.at(-1)!)
          if (metadata === "") {
            assert.strictEqual(length, 0)
            continue
          }
          const decoded = mapOf(OffsetMap.decode(metadata, { ...own, zstd }))
          assert.strictEqual(decoded.length, length)
          const expected = runs.slice(0, decoded.runs.length)
          if (cut && expected.length > 0) expected[expected.length - 1] = Math.min(expected.at(-1)!, length)
          if (String(decoded.runs) !== String(expected)) assert.fail(`${what} at ${limit}`)
        }
        assert.isAbove(before, 0, what)
      }
    }
  })

  it("bytes become text and bytes again, whatever their number", () => {
    for (let length = 0; length < 300; length++) {
      const some = Uint8Array.from({ length }, (_, i) => (i * 89 + length) & 0xff)
      const text = toBase64(some)
      assert.strictEqual(text, Buffer.from(some).toString("base64"))
      assert.strictEqual(text.length, base64Length(length))
      assert.deepStrictEqual(fromBase64(text), some)
      assert.deepStrictEqual(fromBase64(text.replace(/=+$/, "")), some)
    }
  })

  it("the check is CRC-24", () => {
    assert.strictEqual(crc24(new TextEncoder().encode("123456789")), 0x21cf02)
  })
})

describe("hostile input", () => {
  it("a run of 2^31 - 1, sixteen thousand of them, and runs of no length take no memory", () => {
    const view = new DataView(new ArrayBuffer(48_001))
    view.setUint8(0, 0x65)
    for (let i = 1; i < 48_001; i += 4) view.setInt32(i, 0x7fffffff)
    const long = mapOf(OffsetMap.decode(toBase64(new Uint8Array(view.buffer)), all))
    assert.strictEqual(long.length, 12_000 * 0x7fffffff)
    assert.strictEqual(long.runs.length, 12_000)
    for (let i = 1; i < 48_001; i += 4) view.setInt32(i, (i >> 2) & 1)
    const merged = mapOf(OffsetMap.decode(toBase64(new Uint8Array(view.buffer)), all))
    assert.deepStrictEqual(merged.runs, [0, 6_000], "runs of no length between them are none")
    for (let i = 1; i < 48_001; i += 4) view.setInt32(i, 0)
    assert.strictEqual(OffsetMap.decode(toBase64(new Uint8Array(view.buffer)), all)._tag, "Empty")
    assert.deepStrictEqual(mapOf(OffsetMap.decode(bytes(0x65, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff), all)), {
      base: 100n,
      length: 0x80000000,
      runs: [1, 0x80000000]
    })
  })

  it("runs longer than 31 bits are written in pieces", () => {
    const runs = [5, 5_000_000_000, 5_000_000_001, 9_999_999_999]
    const { metadata } = OffsetMap.encode({ ...place, runs, limit: 4_096 })
    assert.deepStrictEqual(mapOf(OffsetMap.decode(metadata, own)).runs, runs)
    const cut = OffsetMap.encode({ ...place, runs, limit: 40 })
    assert.isTrue(cut.cut)
    assert.isAtMost(cut.metadata.length, 40)
    assert.deepStrictEqual(mapOf(OffsetMap.decode(cut.metadata, own)).runs, [5, 5_000_000_000])
  })

  it("the largest that is read takes no more time or memory than its bytes are worth, whatever they claim", () => {
    const most = 49_152
    const filled = (magic: number, byte: number): Uint8Array => {
      const payload = new Uint8Array(most).fill(byte)
      payload[0] = magic
      return payload
    }
    const bits = filled(0x6f, 0xaa)
    const length = (most - 6) * 8
    new DataView(bits.buffer).setInt32(1, length)
    bits[most - 1] = 0
    const packed = zstd.compress(new Uint8Array(65_536).fill(0xaa))
    const inputs = [
      bits,
      filled(0x6e, 1),
      filled(0x65, 1),
      Uint8Array.of(0x73, ...packed),
      Uint8Array.of(0x70, ...packed)
    ]
    let largest = 0
    for (const input of inputs) {
      for (const trust of ["own", "all"] as const) {
        const began = performance.now()
        const decoded = OffsetMap.decode(toBase64(input), { ...place, trust, zstd })
        assert.isBelow(performance.now() - began, 1_000)
        if (decoded._tag !== "Map") continue
        largest = Math.max(largest, decoded.map.runs.length)
        assert.isAtMost(decoded.map.runs.length, 8 * 65_536)
      }
    }
    assert.strictEqual(largest, length, "a bit set of which every other bit is set")
    // one character more is not even looked at
    assert.strictEqual(why(OffsetMap.decode(toBase64(new Uint8Array(most + 1)), all)), "tooLong")
  })

  it(`I12: a million inputs, random and mutated (seed ${firstSeed}): an answer each time, and no claim beyond what is written`, () => {
    let seed = firstSeed
    const next = (below: number): number => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((seed / 0x1_0000_0000) * below)
    }
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    const magics = [0x6c, 0x6f, 0x6e, 0x65, 0x61, 0x73, 0x4a, 0x70, 0x58, 0x64, 0x44, 0x4c, 0xee, 1, 2]
    const randomRuns = (i: number) =>
      stepsToRuns(
        Array.from({ length: 1 + next(12) }, () => [next(20), next(20)] as const),
        1 + (i % 4 === 0 ? next(500) : 0)
      )
    /** only the Java library writes it */
    const runs16 = (runs: ReadonlyArray<number>): Uint8Array => {
      const body = Buffer.alloc(1 + 2 * runs.length, 0x6e)
      runs.forEach((at, i) => body.writeInt16BE(Math.min(at - (runs[i - 1] ?? 0), 0x7fff), 1 + 2 * i))
      return body
    }
    const ours = Array.from({ length: 200 }, (_, i) => {
      const runs = randomRuns(i)
      return { runs, ...OffsetMap.encode({ ...place, runs, limit: 4_096 }) }
    })
    const theirs = Array.from({ length: 200 }, (_, i) => {
      // the long ones as run lengths: bit sets of them would be of kilobytes
      const runs = randomRuns(i)
      const form = (["runs32", "bits16", "bits32", "runs16"] as const)[i % 4]!
      const payload = form === "runs16" ? runs16(runs) : writeForm(form, runs, runs.at(-1)!, 0)
      if (next(10) > 0) return toBase64(payload)
      const magic = { bits16: 0x61, bits32: 0x73, runs16: 0x4a, runs32: 0x70 }[form]
      return bytes(magic, ...zstd.compress(payload.subarray(1)))
    })
    const packed = Array.from({ length: 50 }, () => {
      const runs = Array.from({ length: 180 }, (_, i) => [9 * i + 1 + next(3), 9 * i + 4 + next(3)]).flat()
      return { runs, ...OffsetMap.encode({ ...place, runs, limit: 4_096, zstd }) }
    })
    const mutate = (text: string): string => {
      const at = next(text.length)
      switch (next(4)) {
        case 0:
          return text.slice(0, at) + alphabet[next(64)]! + text.slice(at + 1)
        case 1:
          return text.slice(0, at)
        case 2:
          return text.slice(0, at) + alphabet[next(64)]! + text.slice(at)
        default:
          return text.slice(0, at) + text.slice(at + 1 + next(3))
      }
    }
    const twice = (text: string): string => mutate(mutate(text) || "A")
    const random = (): string => {
      const some = Uint8Array.from({ length: 1 + next(24) }, () => next(256))
      some[0] = magics[next(magics.length)]!
      return toBase64(some)
    }
    const enveloped = (): string => {
      const inner = Buffer.from(next(2) === 0 ? random() : ours[next(ours.length)]!.metadata, "base64")
      const rider = next(4)
      return bytes(
        0x58,
        next(50) === 0 ? 1 : 0,
        next(9) === 0 ? next(9) : rider,
        ...Array.from({ length: rider }, () => next(256)),
        ...inner
      )
    }
    const same = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean =>
      a.length === b.length && a.every((at, i) => at === b[i])
    const used = { own: 0, others: 0, packed: 0 }
    const seen = new Set<string>()
    for (let i = 0; i < 1_000_000; i++) {
      const kind = i % 8
      let text: string
      let runs: ReadonlyArray<number> | undefined
      // to decompress, and to fail at it, costs a hundred times as much as all the rest
      const compressed = i % 64 === 4
      const compressor = compressed || kind === 3 || i % 64 === 7 ? zstd : undefined
      if (kind < 3) {
        const one = ours[next(ours.length)]!
        runs = one.runs
        text = kind === 0 ? mutate(one.metadata) : twice(one.metadata)
      } else if (kind === 3) {
        const one = theirs[next(theirs.length)]!
        text = next(3) === 0 ? one : mutate(one)
      } else if (compressed) {
        const one = packed[next(packed.length)]!
        runs = one.runs
        text = next(8) === 0 ? one.metadata : mutate(one.metadata)
      } else if (kind < 7 || i % 64 === 7) text = next(9) === 0 ? enveloped() : random()
      else text = String.fromCharCode(...Array.from({ length: next(20) }, () => 32 + next(100)))
      const trusting = kind === 3 || (kind > 4 && next(2) === 0)
      const options = trusting ? { ...all, end: 100_000n } : own
      const decoded = OffsetMap.decode(text, { ...options, zstd: compressor })
      seen.add(why(decoded))
      if (decoded._tag !== "Map") continue
      const { base, length, runs: claimed } = decoded.map
      if (decoded.own && runs === undefined) {
        // in an envelope
        if (!ours.some((one) => same(one.runs, claimed))) assert.fail(text)
      } else if (decoded.own) {
        used[compressed ? "packed" : "own"]++
        // only what says the same as before (of the last character's bits some mean nothing)
        if (!same(runs!, claimed)) assert.fail(text)
      } else {
        used.others++
        const java = readAsJava(text)
        if (!trusting || length !== java.length || base + BigInt(length) > 100_000n) assert.fail(text)
        if (Buffer.compare(java.done, unrolled(claimed, length)) !== 0) assert.fail(text)
        if (claimed.some((at, k) => at <= (claimed[k - 1] ?? -1) || at > length)) assert.fail(text)
      }
    }
    for (const count of Object.values(used)) assert.isAbove(count, 1_000, JSON.stringify(used))
    for (const each of [
      ...["Map", "Empty", "checkWrong", "unchecked", "truncated", "negative", "trailing", "nested", "beyondEnd"],
      ...["zstdMissing", "zstdFailed", "notBase64", "unknownMagic", "kafkaStreams", "unsupported"]
    ])
      assert.isTrue(seen.has(each), each)
  }, 180_000)
})
