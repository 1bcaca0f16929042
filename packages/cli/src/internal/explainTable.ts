/** An explanation as people read it: a line for each partition, and a sentence for what a number does not say. */
import type { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import type { ExplainedMap, ExplainedPartition, Explanation } from "../Explain.ts"

/** of one partition */
const rangesShown = 8

const writers: Readonly<Record<ExplainedMap.Writer, string>> = {
  own: "ours",
  parallelConsumer: "Parallel Consumer",
  kafkaStreams: "Kafka Streams",
  unknown: "unknown"
}

const notUsed: Readonly<Record<OffsetMap.Unusable, string>> = {
  notBase64: "is no offset map but a text of something else",
  tooLong: "is no offset map but a text of something else",
  unknownMagic: "is no offset map but a text of something else",
  kafkaStreams: "was written by Kafka Streams",
  unsupported: "has a form that only forks of the Java Parallel Consumer read",
  nested: "has a form that only forks of the Java Parallel Consumer read",
  truncated: "is damaged",
  negative: "is damaged",
  trailing: "is damaged",
  zstdMissing: "is compressed, and this Node cannot decompress it (22.15 can)",
  zstdFailed: "is compressed, and damaged or too long",
  unchecked:
    'has no check of ours, as those of the Java Parallel Consumer; only offsetMap "all" believes it (--offset-map all)',
  checkWrong: "has our form and was written for another partition, offset or cluster, or is damaged",
  beyondEnd: "speaks of offsets that the log does not have"
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

const said = (map: ExplainedMap): string =>
  map._tag === "None"
    ? "-"
    : map._tag === "Used"
      ? `${writers[map.writer]}, to ${map.until - 1n}`
      : `not used: ${map.why}`

const columns: ReadonlyArray<readonly [name: string, of: (p: ExplainedPartition) => unknown]> = [
  ["partition", (p) => p.partition],
  ["start", (p) => p.start],
  ["end", (p) => p.end],
  ["committed", (p) => p.committed ?? "-"],
  ["lag", (p) => p.lag],
  ["done", (p) => p.done],
  ["gaps", (p) => p.gaps],
  ["ranges", (p) => p.gapRanges.length],
  ["oldest", (p) => p.oldest ?? "-"],
  ["would run", (p) => p.wouldRun]
]

const notes = (p: ExplainedPartition, topic: string): ReadonlyArray<string> => {
  const { begins, committed, end, gapRanges, lost, map, partition, start, why } = p
  const found: Array<string> = []
  if (gapRanges.length > 0) {
    const shown = gapRanges
      .slice(0, rangesShown)
      .map(([from, to]) => (to - from === 1n ? `${from}` : `${from}-${to - 1n}`))
    const rest = gapRanges.length > rangesShown ? `, and ${count(gapRanges.length - rangesShown, "more range")}` : ""
    found.push(`gaps: ${shown.join(", ")}${rest}`)
  }
  if (map._tag === "NotUsed") {
    const what = `the metadata beside ${committed} ${notUsed[map.why]}`
    found.push(why === "committed" ? `${what}; everything from there on would run` : what)
  }
  if (why === "notCommitted") found.push(`nothing is committed yet; it would begin at the start of the log, ${begins}`)
  if (why === "belowStart")
    found.push(
      `retention has deleted records in front of ${start}, and ${count(lost, "offset")} of them ${lost === 1 ? "was" : "were"} not done; it would go on at ${begins}`
    )
  if (why === "beyondEnd")
    found.push(
      `the log ends at ${end}, before what is committed: it was truncated or made anew, and would be read from its start unless ` +
        "onOutOfRange says otherwise (or the group reads uncommitted records, and is ahead of an open transaction)"
    )
  return found.map((note) => `${topic}/${partition}: ${note}`)
}

/** The lines for stdout. */
export const explainTable = ({ groupId, partitions, topic, total }: Explanation): ReadonlyArray<string> => {
  const header = [...columns.map(([name]) => name), "offset map"]
  const rows = partitions.map((p) => [...columns.map(([, of]) => String(of(p))), said(p.map)])
  const sums = [
    "total",
    "",
    "",
    "",
    ...[total.lag, total.done, total.gaps, total.gapRanges].map(String),
    "",
    `${total.wouldRun}`,
    ""
  ]
  const cells = [header, ...rows, ...(rows.length > 1 ? [sums] : [])]
  const widths = header.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  const table = cells.map((row) =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd()
  )
  const summary =
    total.lag === 0
      ? `${groupId} has done all of ${topic}`
      : `${groupId} is ${count(total.lag, "record")} behind the end of ${topic}: ${total.done} of them done, ${total.wouldRun} would run if all members ended now`
  const noted = partitions.flatMap((p) => notes(p, topic))
  return [summary, "", ...table, ...(noted.length === 0 ? [] : ["", ...noted])]
}

/** One line. Offsets as texts, since they may be larger than what most readers of JSON take for a number. */
export const explainJson = (explanation: Explanation): string =>
  JSON.stringify(explanation, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))
