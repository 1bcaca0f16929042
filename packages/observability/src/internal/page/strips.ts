/**
 * Partitions as the page shows them: the worst ones with a strip each, and all of them with a character.
 *
 * Which are the worst is told by their level, then by the magnitude of their lag, then by their name: levels and magnitudes change seldom, so
 * that rows do not change places all the time.
 */
import type { OldestRecord, PartitionSnapshot } from "@concurrent-kafka/core/Snapshot"
import {
  type Cells,
  cellsShown,
  type Level,
  type Oldest,
  oldestShown,
  partsShown,
  type Row,
  rowsShown,
  shown,
  topicsShown,
  type Waited
} from "./frame.ts"

const slowMillis = 10_000
const longMillis = 60_000

/** Offsets from what is committed to the end that a reader can see. */
export const lagOf = ({ committable, committed, end }: PartitionSnapshot): number | undefined =>
  end === undefined ? undefined : Math.max(0, Number(end - (committed ?? committable)))

/** also while the retry runs, of the record that all others wait for */
const retries = ({ oldest, waiting }: PartitionSnapshot): boolean =>
  waiting > 0 || (oldest?.state === "running" && oldest.firstFailedAt !== undefined)

export const levelOf = (p: PartitionSnapshot, now: number): Level => {
  const { oldest } = p
  // one that fails each time is not well again with each attempt
  const age = oldest === undefined ? 0 : now - (oldest.firstFailedAt ?? oldest.since)
  if (p.zombies > 0 || p.parked > 0) return 3
  // what only waits for its turn is not stuck itself
  if (age >= longMillis && oldest?.state !== "buffered") return 3
  if (p.sending > 0 && oldest !== undefined && now - oldest.since >= slowMillis) return 3
  const heldUp = p.paused.some((reason) => reason !== "full")
  if (p.state !== "open" || heldUp || retries(p) || age >= slowMillis) return 2
  return p.heldRecords > 0 || (lagOf(p) ?? 0) > 0 ? 1 : 0
}

/** 0 without lag, 15 from eight millions on. */
const magnitude = (lag: number): number => Math.min(15, Math.ceil(Math.log2(1 + lag) * 0.65))

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

interface Ranked {
  readonly p: PartitionSnapshot
  readonly level: Level
  readonly magnitude: number
}

const byPlace = (a: PartitionSnapshot, b: PartitionSnapshot): number =>
  a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1

const worstFirst = (a: Ranked, b: Ranked): number => b.level - a.level || b.magnitude - a.magnitude || byPlace(a.p, b.p)

/** where all have a row nobody is left out by this, and rows that stay where they are read better */
const calmly = (a: Ranked, b: Ranked): number => b.level - a.level || byPlace(a.p, b.p)

/** What a partition is found by: its name, and words for what is to be seen of it. */
const wordsOf = ({ level, p }: Ranked): string =>
  [
    `${p.topic}/${p.partition}`,
    p.state,
    ...p.paused,
    p.paused.length > 0 ? "paused" : "",
    p.gaps > 0 ? "gap" : "",
    retries(p) ? "retry" : "",
    p.sending > 0 ? "letter" : "",
    p.parked > 0 ? "parked" : "",
    p.zombies > 0 ? "zombie" : "",
    level === 3 ? "trouble" : level === 2 ? "slow" : ""
  ]
    .join(" ")
    .toLowerCase()

/**
 * What is done behind a gap, in as many parts as a strip has room for: a part has a hole when one of its records is not done, so that a single
 * one among thousands is seen. Not all of the runs may be told: behind the last one it is only known how many are done.
 */
const holesOf = (
  { committable, doneBehindGap, doneUpTo }: PartitionSnapshot,
  from: bigint
): Pick<Row, "behind" | "known" | "holes" | "parts"> => {
  const last = doneBehindGap.at(-1)
  if (last === undefined) return {}
  const span = Number(last[1] - committable)
  const parts = Math.min(partsShown, span)
  const holes = new Uint8Array(Math.ceil(parts / 4) * 4)
  const partOf = (offset: number): number => Math.floor((offset * parts) / span)
  let at = 0
  for (const run of doneBehindGap) {
    const start = Number(run[0] - committable)
    if (start > at) holes.fill(1, partOf(at), partOf(start - 1) + 1)
    at = Number(run[1] - committable)
  }
  let text = ""
  for (let i = 0; i < holes.length; i += 4) {
    text += ((holes[i]! << 3) | (holes[i + 1]! << 2) | (holes[i + 2]! << 1) | holes[i + 3]!).toString(16)
  }
  const known = last[1] < doneUpTo ? { known: Number(last[1] - from) } : {}
  return { behind: Number(doneUpTo - from), ...known, holes: text, parts }
}

const counted = <K extends string>(counts: Readonly<Record<K, number>>): { readonly [N in K]?: number } => {
  const some: { [N in K]?: number } = {}
  for (const name in counts) if (counts[name] > 0) some[name] = counts[name]
  return some
}

const waitedOf = ({ attempt, firstFailedAt, receivedAt, since, state }: OldestRecord): Waited => ({
  state,
  attempt,
  since,
  receivedAt,
  ...(firstFailedAt === undefined ? {} : { firstFailedAt })
})

const rowOf = ({ level, p }: Ranked): Row => {
  const from = p.committed === undefined || p.committed > p.committable ? p.committable : p.committed
  const lag = lagOf(p)
  const { oldest } = p
  return {
    topic: p.topic,
    partition: p.partition,
    level,
    from: String(from),
    delivered: Math.max(0, Number(p.delivered - from)),
    ...(lag === undefined ? {} : { lag }),
    ...counted({
      prefix: Number(p.committable - from),
      done: Number(p.committable - from) + p.behindGap,
      gaps: p.gaps,
      running: p.running,
      buffered: p.buffered,
      waiting: p.waiting,
      sending: p.sending,
      parked: p.parked,
      zombies: p.zombies,
      held: p.heldRecords,
      bytes: p.heldBytes
    }),
    ...holesOf(p, from),
    ...(p.state === "open" ? {} : { state: p.state }),
    ...(p.paused.length === 0 ? {} : { paused: p.paused }),
    ...(oldest === undefined ? {} : { oldest: { ...waitedOf(oldest), offset: Number(oldest.offset - from) } })
  }
}

const cellsOf = (inOrder: ReadonlyArray<Ranked>): ReadonlyArray<Cells> => {
  const topics: Array<{ readonly topic: string; readonly partitions: Array<number>; levels: string; last: number }> = []
  let cells = 0
  for (const { level, magnitude, p } of inOrder) {
    let of = topics.at(-1)
    if (of?.topic !== p.topic) {
      if (topics.length === topicsShown) break
      of = { topic: p.topic, partitions: [], levels: "", last: 0 }
      topics.push(of)
    }
    if (cells++ === cellsShown) break
    of.partitions.push(p.partition - of.last)
    of.last = p.partition
    of.levels += alphabet[level * 16 + magnitude]
  }
  return topics.map(({ levels, partitions, topic }) => ({ topic, partitions, levels }))
}

export interface Strips {
  readonly cells: ReadonlyArray<Cells>
  readonly withoutCell: number
  readonly rows: ReadonlyArray<Row>
  readonly found: number
  readonly oldest: ReadonlyArray<Oldest>
}

/** `find`: only rows of which each of these words is true. */
export const stripsOf = (partitions: ReadonlyArray<PartitionSnapshot>, now: number, find: string): Strips => {
  const ranked = partitions.map((p): Ranked => ({ p, level: levelOf(p, now), magnitude: magnitude(lagOf(p) ?? 0) }))
  const wanted = find
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "")
  const found =
    wanted.length === 0
      ? ranked
      : ranked.filter((one) => {
          const words = wordsOf(one)
          return wanted.every((word) => words.includes(word))
        })
  const cells = cellsOf(ranked.toSorted((a, b) => byPlace(a.p, b.p)))
  return {
    cells,
    withoutCell: ranked.length - cells.reduce((n, { levels }) => n + levels.length, 0),
    rows: found
      .toSorted(found.length > rowsShown ? worstFirst : calmly)
      .slice(0, rowsShown)
      .map(rowOf),
    found: found.length,
    oldest: partitions
      .flatMap(({ oldest, partition, topic }) => (oldest === undefined ? [] : [{ topic, partition, oldest }]))
      .toSorted((a, b) => a.oldest.receivedAt - b.oldest.receivedAt)
      .slice(0, oldestShown)
      .map(({ oldest, partition, topic }) => ({
        topic: shown(topic),
        partition,
        offset: String(oldest.offset),
        ...waitedOf(oldest)
      }))
  }
}
