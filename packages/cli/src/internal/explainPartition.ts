/**
 * What can be said of one partition from its log's ends and what the group has committed. It decides as the engine does at an
 * assignment: where the next owner begins, and whether it believes the map ("a member that comes does what was said").
 */
import type { Committed, LogOffsets } from "@concurrent-kafka/core/ConsumerSession"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import type { ExplainedMap, ExplainedPartition } from "../Explain.ts"

type Trust = OffsetMap.DecodeOptions["trust"]

/** As far as the form says it, where the map itself cannot be used. */
const writerOf: Readonly<Record<Exclude<OffsetMap.Unusable, "beyondEnd">, ExplainedMap.Writer>> = {
  notBase64: "unknown",
  tooLong: "unknown",
  unknownMagic: "unknown",
  kafkaStreams: "kafkaStreams",
  unsupported: "parallelConsumer",
  nested: "parallelConsumer",
  // the forms are the same, and what would tell them apart was not read
  truncated: "unknown",
  negative: "unknown",
  trailing: "unknown",
  zstdMissing: "unknown",
  zstdFailed: "unknown",
  unchecked: "parallelConsumer",
  checkWrong: "own"
}

const none: ExplainedMap = { _tag: "None" }
const writer = (own: boolean) => (own ? "own" : "parallelConsumer")

const readMap = (metadata: string, options: OffsetMap.DecodeOptions) => {
  const decoded = OffsetMap.decode(metadata, options)
  if (decoded._tag === "Empty") return { map: none, runs: [] }
  if (decoded._tag === "Map") {
    const until = decoded.map.base + BigInt(decoded.map.length)
    const map: ExplainedMap = { _tag: "Used", writer: writer(decoded.own), until }
    return { map, runs: [...OffsetMap.done(decoded.map)] }
  }
  const { why } = decoded
  if (why !== "beyondEnd") return { map: { _tag: "NotUsed", writer: writerOf[why], why } as const, runs: [] }
  const whole = OffsetMap.decode(metadata, { ...options, end: undefined })
  const map: ExplainedMap = { _tag: "NotUsed", writer: writer(whole._tag === "Map" && whole.own), why }
  return { map, runs: [] }
}

const beginning = ({ end, start }: LogOffsets, offset: bigint | undefined): ExplainedPartition["why"] => {
  if (offset === undefined) return "notCommitted"
  if (offset > end) return "beyondEnd"
  return offset < start ? "belowStart" : "committed"
}

type Range = readonly [from: bigint, to: bigint]

const max = (a: bigint, b: bigint) => (a > b ? a : b)
const size = (ranges: ReadonlyArray<Range>): number => Number(ranges.reduce((sum, [from, to]) => sum + (to - from), 0n))

/** What of the runs lies at `from` or behind it. */
const above = (runs: ReadonlyArray<Range>, from: bigint): ReadonlyArray<Range> =>
  runs.filter(([, to]) => to > from).map(([start, to]) => [max(start, from), to])

/** What lies in front of the runs, from `from` on, and between them. */
const between = (runs: ReadonlyArray<Range>, from: bigint): ReadonlyArray<Range> =>
  runs.map(([start], i): Range => [i === 0 ? from : runs[i - 1]![1], start]).filter(([begin, end]) => begin < end)

export const explainPartition = (
  log: LogOffsets,
  committed: Committed | undefined,
  trust: Trust,
  zstd: OffsetMap.Zstd | undefined
): ExplainedPartition => {
  const { end, partition, start, topic } = log
  const offset = committed?.offset
  const why = beginning(log, offset)
  const begins = why === "committed" ? offset! : start
  const { map, runs } =
    committed === undefined
      ? { map: none, runs: [] }
      : readMap(committed.metadata, { topic, partition, base: committed.offset, trust, end, zstd })
  const done = above(runs, begins)
  const gapRanges = between(done, begins)
  const lag = Number(end - begins)
  const behind = lag - size(done)
  return {
    partition,
    start,
    end,
    committed: offset,
    begins,
    why,
    lag,
    lost: why === "belowStart" ? Number(start - offset!) - (size(runs) - size(done)) : 0,
    map,
    done: size(done),
    gaps: size(gapRanges),
    gapRanges,
    oldest: behind === 0 ? undefined : (gapRanges[0]?.[0] ?? done.at(-1)?.[1] ?? begins),
    wouldRun: behind
  }
}
