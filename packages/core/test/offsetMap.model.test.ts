/** The text of an offset map against sets of offsets. */
import { assert, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import { OffsetMap } from "../src/OffsetMap.ts"
import { OffsetTracker } from "../src/internal/offsetTracker.ts"
import { between, holds, same } from "./model.ts"

const zstd: OffsetMap.Zstd = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
}

/** offsets in turn that are not done and that are, many or few of them */
const Steps = Schema.Array(Schema.Tuple([between(1, 12), between(1, 12)]))
const Place = Schema.Struct({
  topic: Schema.Literals(["orders", "order", "orders.eu", "o", "\u00fcber"]),
  partition: between(0, 70_000),
  base: Schema.Union([between(0, 300), between(0, 2 ** 53 - 1)])
})
interface Where {
  readonly topic: string
  readonly partition: number
  readonly base: number
}
const placeOf = ({ base, partition, topic }: Where): OffsetMap.DecodeOptions => ({
  topic,
  partition,
  base: BigInt(base),
  trust: "own",
  zstd
})

const setOf = (runs: ReadonlyArray<number>): ReadonlySet<number> => {
  const set = new Set<number>()
  for (let i = 0; i < runs.length; i += 2) for (let o = runs[i]!; o < runs[i + 1]!; o++) set.add(o)
  return set
}

it.prop(
  "what is written is read again as the same set, under a limit as a part of it from its beginning, and nowhere else as our own",
  [Steps, between(1, 12), between(0, 400), Schema.Array(Place), Schema.Boolean],
  ([steps, times, limit, [at, ...others], compressed]) => {
    if (at === undefined) return
    const place = placeOf(at)
    const runs: Array<number> = []
    for (let i = 0; i < times; i++) {
      for (const [open, done] of steps) runs.push((runs.at(-1) ?? 0) + open, (runs.at(-1) ?? 0) + open + done)
    }
    const whole = setOf(runs)
    const encode = (limit: number) => OffsetMap.encode({ ...place, runs, limit, zstd: compressed ? zstd : undefined })

    const { cut, length, metadata } = encode(1_000_000)
    same(cut, false, "cut")
    same(length, runs.at(-1) ?? 0, "length")
    const decoded = OffsetMap.decode(metadata, place)
    if (whole.size === 0) same(decoded._tag, "Empty", "nothing is done")
    else {
      if (decoded._tag !== "Map") return assert.fail(JSON.stringify(decoded))
      same(String(decoded.map.runs), String(runs), "runs")
      same(decoded.map.base, place.base, "base")
      same(decoded.own, true, "own")
      // who goes on from there knows exactly these
      const tracker = new OffsetTracker(decoded.map.base, 4)
      tracker.claim(decoded.map.runs)
      for (let o = 0; o < length + 3; o++) same(tracker.isClaimed(place.base + BigInt(o)), whole.has(o), `${o}`)
    }

    const short = encode(limit)
    holds(short.metadata.length <= limit, `${short.metadata.length} characters of ${limit}`)
    const part = OffsetMap.decode(short.metadata, place)
    holds(part._tag === "Map" || short.length === 0, `${part._tag} of a length of ${short.length}`)
    if (part._tag === "Map") {
      const said = setOf(part.map.runs)
      for (const o of said) holds(whole.has(o), `${o} is not done`)
      for (const o of whole) same(said.has(o), o < short.length, `${o}, cut at ${short.length}`)
      same(part.map.length, short.length, "the length that is said")
    }
    same(short.cut, short.length < length, "is told to be cut")

    // also its neighbours, one by one: beside the next offset is where a careless commit would write it
    const neighbours = [{ topic: `${at.topic}s` }, { partition: at.partition + 1 }, { base: at.base + 1 }]
    for (const other of [...others, ...neighbours.map((one) => ({ ...at, ...one }))]) {
      if (other.topic === at.topic && other.partition === at.partition && other.base === at.base) continue
      for (const text of [metadata, short.metadata]) {
        for (const trust of ["own", "all"] as const) {
          const elsewhere = OffsetMap.decode(text, { ...placeOf(other), trust })
          same(
            elsewhere._tag,
            text === "" ? "Empty" : "Unusable",
            `of ${JSON.stringify(at)} at ${JSON.stringify(other)}`
          )
        }
      }
    }
  },
  { arbitrary: { runs: 250, size: 30 } }
)
