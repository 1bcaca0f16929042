/** What is done of a topic, as records say it that were handled, and as a group's commits say it. */
import { OffsetMap } from "@concurrent-kafka/core"
import { zstdCompressSync, zstdDecompressSync } from "node:zlib"
import type { Commits } from "../integration/outside.ts"

export const zstd: OffsetMap.Zstd = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, limit) => zstdDecompressSync(bytes, { maxOutputLength: limit })
}

/** Of a partition: offsets `[from, to)`, ascending, apart from each other. */
export type Done = ReadonlyArray<readonly [from: bigint, to: bigint]>

export const runsOf = (length: number, done: (offset: number) => boolean): Done => {
  const runs: Array<[bigint, bigint]> = []
  for (let i = 0; i < length; i++) {
    if (!done(i)) continue
    const last = runs.at(-1)
    if (last?.[1] === BigInt(i)) last[1]++
    else runs.push([BigInt(i), BigInt(i) + 1n])
  }
  return runs
}

/** By partition. A partition of which nothing is done may be left out. */
export type DoneByPartition = ReadonlyMap<number, Done>

export const count = (all: DoneByPartition): number => {
  let sum = 0n
  for (const done of all.values()) for (const [from, to] of done) sum += to - from
  return Number(sum)
}

/** What is done by the first and not by the second. */
export const without = (all: DoneByPartition, other: DoneByPartition): DoneByPartition =>
  new Map(
    [...all].map(([partition, done]) => {
      const not = other.get(partition) ?? []
      const rest: Array<readonly [bigint, bigint]> = []
      let next = 0
      for (const [from, to] of done) {
        let at = from
        for (; next < not.length && not[next]![0] < to; next++) {
          const [notFrom, notTo] = not[next]!
          if (notFrom > at) rest.push([at, notFrom])
          if (notTo > at) at = notTo
          // it may reach into the next run
          if (notTo > to) break
        }
        if (at < to) rest.push([at, to])
      }
      return [partition, rest]
    })
  )

/** A few lines, for an assertion: all of it may be ten thousands of runs. */
export const describe = (all: DoneByPartition): ReadonlyArray<string> =>
  [...all]
    .filter(([, done]) => done.length > 0)
    .toSorted(([a], [b]) => a - b)
    .map(([partition, done]) => {
      const some = done.slice(0, 5).map(([from, to]) => (to === from + 1n ? `${from}` : `${from} to ${to - 1n}`))
      return `${partition}: ${some.join(", ")}${done.length > 5 ? ` and ${done.length - 5} more runs` : ""}`
    })

/** By partition; throws where a record is there twice. */
export const once = (
  handled: ReadonlyArray<{ readonly partition: number; readonly offset: string }>
): DoneByPartition => {
  const all = new Map<number, Array<boolean>>()
  for (const { offset, partition } of handled) {
    let done = all.get(partition)
    if (done === undefined) all.set(partition, (done = []))
    if (done[Number(offset)] === true) throw new Error(`${partition}/${offset} was handled twice`)
    done[Number(offset)] = true
  }
  return new Map([...all].map(([partition, done]) => [partition, runsOf(done.length, (i) => done[i] === true)]))
}

/** By partition; throws where a map cannot be used. */
export const committed = (commits: Commits, topic: string): DoneByPartition =>
  new Map(
    [...commits].map(([partition, { metadata, offset }]) => {
      const decoded = OffsetMap.decode(metadata, { topic, partition, base: offset, trust: "all", zstd })
      if (decoded._tag === "Unusable") throw new Error(`${decoded.why}: the map of ${partition}, ${metadata}`)
      const prefix: Done = offset === 0n ? [] : [[0n, offset]]
      return [partition, decoded._tag === "Map" ? [...prefix, ...OffsetMap.done(decoded.map)] : prefix]
    })
  )

/** The first byte of a map, which says its form, as a letter. */
export const formOf = (metadata: string): string => atob(metadata).slice(0, 1)
