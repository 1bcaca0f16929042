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

/** As the Java library reads: what lies behind the body is nothing to it. */
const readAsJava = (metadata: string): { readonly length: number; readonly done: (i: number) => boolean } => {
  const payload = fromBase64(metadata)!
  const view = new DataView(payload.buffer)
  if (payload[0] === 0x65) {
    const ends: Array<number> = []
    for (let i = 1; i + 4 <= payload.length; i += 4) ends.push((ends.at(-1) ?? 0) + view.getInt32(i))
    return { length: ends.at(-1) ?? 0, done: (i) => ends.findIndex((end) => i < end) % 2 === 1 }
  }
  const wide = payload[0] === 0x6f
  const start = wide ? 5 : 3
  const length = wide ? view.getInt32(1) : view.getInt16(1)
  return { length, done: (i) => i < length && ((payload[start + (i >> 3)] ?? 0) & (1 << (i & 7))) !== 0 }
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
        for (let i = 0; i < Math.min(length, 2_000); i++) {
          assert.strictEqual(
            java.done(i),
            runs.some((from, k) => k % 2 === 0 && from <= i && i < runs[k + 1]!)
          )
        }
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

  it("I12: a million inputs, random and mutated: an answer each time, and no map that was damaged is used", () => {
    let seed = 20_261_121
    const next = (below: number): number => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((seed / 0x1_0000_0000) * below)
    }
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    const magics = [0x6c, 0x6f, 0x6e, 0x65, 0x61, 0x73, 0x4a, 0x70, 0x58, 0x64, 0x44, 0x4c, 0xee, 1, 2]
    const ours = Array.from({ length: 200 }, (_, i) => {
      const runs = stepsToRuns(
        Array.from({ length: 1 + next(12) }, () => [next(20), next(20)] as const),
        1 + (i % 4 === 0 ? next(500) : 0)
      )
      return { runs, ...OffsetMap.encode({ ...place, runs, limit: 4_096 }) }
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
    let used = 0
    const seen = new Set<string>()
    for (let i = 0; i < 1_000_000; i++) {
      const kind = i % 4
      let text: string
      let map: (typeof ours)[number] | undefined
      if (kind < 2) {
        map = ours[next(ours.length)]!
        text = mutate(map.metadata)
        if (kind === 1) text = mutate(text === "" ? "A" : text)
      } else if (kind === 2) {
        const some = Uint8Array.from({ length: 1 + next(24) }, () => next(256))
        some[0] = magics[next(magics.length)]!
        text = toBase64(some)
      } else text = String.fromCharCode(...Array.from({ length: next(20) }, () => 32 + next(100)))
      const decoded = OffsetMap.decode(text, kind === 2 && next(2) === 0 ? { ...all, end: 100_000n } : own)
      seen.add(why(decoded))
      if (decoded._tag !== "Map") continue
      if (decoded.own) {
        used++
        // only what says the same as before (of the last character's bits some mean nothing)
        assert.deepStrictEqual(decoded.map.runs, map?.runs, text)
      } else assert.isTrue(decoded.map.base + BigInt(decoded.map.length) <= 100_000n)
      assert.isAtMost(decoded.map.runs.length, 8 * text.length)
    }
    assert.isAbove(used, 0)
    for (const each of ["Map", "Empty", "checkWrong", "unchecked", "truncated", "negative", "trailing", "zstdMissing"])
      assert.isTrue(seen.has(each), each)
  }, 30_000)
})
