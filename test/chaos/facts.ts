/** A gathered ledger, read once, in the forms that the checks ask for. */
import { OffsetMap } from "@concurrent-kafka/core"
import type { DatabaseSync } from "node:sqlite"
import * as zlib from "node:zlib"

/** A partition of a log: a topic that is deleted and created again has two of them. */
export type Place = string

export interface Handling {
  readonly id: number
  readonly pid: number
  readonly topic: string
  readonly log: string
  readonly partition: number
  readonly offset: number
  readonly record: number
  readonly key: string | null
  readonly epoch: number
  readonly attempt: number
  readonly started: number
  /** null: its process was killed */
  readonly finished: number | null
  readonly outcome: "finished" | "failed" | "interrupted" | null
}

export interface Commit {
  readonly offset: number
  readonly sent: number
  readonly answered: number
  /** the offset map: pairs of from and to, without to */
  readonly runs: ReadonlyArray<readonly [number, number]>
}

export interface Epoch {
  readonly pid: number
  readonly partition: number
  readonly epoch: number
  readonly begun: number
  readonly handlings: Array<Handling>
  /** the newest that the broker has confirmed */
  lastCommit: Commit | undefined
}

export interface Sample {
  readonly log: string
  readonly partition: number
  readonly offset: number
  readonly metadata: string
  readonly answered: number
}

export interface Event {
  readonly pid: number
  readonly at: number
  readonly kind: string
}

export interface Facts {
  readonly handlings: ReadonlyArray<Handling>
  /** of each partition, in the order in which they began */
  readonly epochs: ReadonlyMap<number, ReadonlyArray<Epoch>>
  readonly samples: ReadonlyMap<Place, ReadonlyArray<Sample>>
  readonly ends: ReadonlyMap<Place, number>
  /** when each record was done, whoever has done it; by offset, with holes where it never was */
  readonly doneAt: ReadonlyMap<Place, ReadonlyArray<number | undefined>>
  /** offsets that the broker deleted before anybody had finished them */
  readonly deleted: ReadonlyMap<Place, ReadonlySet<number>>
  readonly produced: ReadonlyArray<{
    readonly record: number
    readonly log: string
    readonly acknowledged: number | null
  }>
  readonly rebalances: ReadonlyArray<Event>
  readonly signals: ReadonlyArray<Event>
  readonly unexpected: number
  readonly exits: ReadonlyArray<{ readonly pid: number; readonly code: number | null; readonly asked: string | null }>
}

export const placeOf = (at: { readonly log: string; readonly partition: number }): Place => `${at.log}/${at.partition}`

const zstd: OffsetMap.Zstd = {
  compress: (bytes) => zlib.zstdCompressSync(bytes),
  decompress: (bytes, limit) => zlib.zstdDecompressSync(bytes, { maxOutputLength: limit })
}

/** What the metadata of a commit says; a sentence where it cannot be read. */
export const runsOf = (
  metadata: string,
  place: { readonly topic: string; readonly partition: number; readonly offset: number }
): ReadonlyArray<readonly [number, number]> | string => {
  const { offset, partition, topic } = place
  const decoded = OffsetMap.decode(metadata, { topic, partition, base: BigInt(offset), trust: "own", zstd })
  if (decoded._tag === "Unusable") return decoded.why
  if (decoded._tag === "Empty") return []
  return [...OffsetMap.done(decoded.map)].map(([from, to]) => [Number(from), Number(to)])
}

export const contains = (commit: Pick<Commit, "offset" | "runs">, offset: number): boolean =>
  offset < commit.offset || commit.runs.some(([from, to]) => from <= offset && offset < to)

export const groupBy = <A, K>(all: Iterable<A>, keyOf: (a: A) => K): Map<K, Array<A>> => {
  const found = new Map<K, Array<A>>()
  for (const a of all) {
    const group = found.get(keyOf(a))
    if (group === undefined) found.set(keyOf(a), [a])
    else group.push(a)
  }
  return found
}

export const readFacts = (db: DatabaseSync): Facts => {
  const all = <A>(query: string): ReadonlyArray<A> => db.prepare(query).all() as unknown as ReadonlyArray<A>
  const handlings = all<Handling>("SELECT * FROM handlings ORDER BY id")

  const epochKey = (e: { readonly pid: number; readonly partition: number; readonly epoch: number }) =>
    `${e.pid}/${e.partition}/${e.epoch}`
  const epochs = new Map<string, Epoch>()
  for (const row of all<Omit<Epoch, "handlings" | "lastCommit">>("SELECT * FROM epochs ORDER BY begun")) {
    epochs.set(epochKey(row), { ...row, handlings: [], lastCommit: undefined })
  }
  for (const handling of handlings) epochs.get(epochKey(handling))?.handlings.push(handling)
  interface Row extends Omit<Commit, "runs"> {
    readonly pid: number
    readonly topic: string
    readonly partition: number
    readonly epoch: number
    readonly metadata: string
  }
  for (const row of all<Row>("SELECT * FROM commits WHERE outcome = 'committed' ORDER BY id")) {
    const epoch = epochs.get(epochKey(row))
    const runs = runsOf(row.metadata, row)
    if (epoch !== undefined) {
      const { answered, offset, sent } = row
      epoch.lastCommit = { offset, sent, answered, runs: typeof runs === "string" ? [] : runs }
    }
  }

  const doneAt = new Map<Place, Array<number | undefined>>()
  const done = (place: Place, offset: number, at: number) => {
    const times = doneAt.get(place) ?? []
    doneAt.set(place, times)
    times[offset] = Math.min(times[offset] ?? Infinity, at)
  }
  for (const handling of handlings) {
    if (handling.outcome === "finished" && handling.finished !== null)
      done(placeOf(handling), handling.offset, handling.finished)
  }
  interface At {
    readonly log: string
    readonly partition: number
    readonly offset: number
    readonly at: number
  }
  for (const letter of all<At>("SELECT * FROM letters")) done(placeOf(letter), letter.offset, letter.at)
  const deleted = new Map<Place, Set<number>>()
  for (const cut of all<At>("SELECT * FROM cuts ORDER BY at")) {
    const place = placeOf(cut)
    const gone = deleted.get(place) ?? new Set()
    deleted.set(place, gone)
    for (let offset = 0; offset < cut.offset; offset++) {
      if (doneAt.get(place)?.[offset] !== undefined) continue
      gone.add(offset)
      done(place, offset, cut.at)
    }
  }

  return {
    handlings,
    epochs: groupBy(epochs.values(), ({ partition }) => partition),
    samples: groupBy(all<Sample>("SELECT * FROM samples ORDER BY answered"), placeOf),
    ends: new Map(all<At>("SELECT * FROM ends").map((end) => [placeOf(end), end.offset])),
    doneAt,
    deleted,
    produced: all("SELECT * FROM produced"),
    rebalances: all("SELECT * FROM rebalances ORDER BY at"),
    signals: all("SELECT pid, name AS kind, at FROM signals ORDER BY at"),
    exits: all("SELECT * FROM exits"),
    unexpected: all<{ readonly n: number | null }>("SELECT sum(unexpected) AS n FROM states")[0]?.n ?? 0
  }
}
