/**
 * What is shown of one consumer: its figures, its reasons, its oldest records, and a row for each partition.
 */
import type { HealthReason } from "@concurrent-kafka/core/Health"
import type { Outcome, PartitionSnapshot, Snapshot } from "@concurrent-kafka/core/Snapshot"
import { once } from "./series.ts"
import { fit, fitMiddle, grouped, lasting, mebibytes, neutral, padEnd, padStart, rated, widthOf } from "./topText.ts"

/** A consumer as it is, and as it was some seconds before. */
export interface Looks {
  readonly now: Snapshot
  readonly before: Snapshot | undefined
}

/** Something a second, where both looks are of the same counter. */
const rateOf = ({ before, now }: Looks, of: (snapshot: Snapshot) => number): number | undefined => {
  if (before === undefined || before.startedAt !== now.startedAt || before.at >= now.at) return undefined
  return Math.max(0, ((of(now) - of(before)) * 1_000) / (now.at - before.at))
}

export const doneOf = ({ outcomes }: Snapshot): number =>
  Object.keys(outcomes).reduce((n, outcome) => n + outcomes[outcome as Outcome], 0)

export const doneRate = (looks: Looks): number | undefined => rateOf(looks, doneOf)

const distance = (from: bigint, to: bigint): number => (to > from ? Number(to - from) : 0)

/** A partition's row: plain values, so that they can be compared. */
export interface Row {
  readonly name: string
  readonly committed: bigint | undefined
  readonly beyond: number
  readonly gaps: number
  readonly inFlight: number
  readonly held: number
  readonly lag: number | undefined
  readonly rate: number | undefined
  readonly state: string
  readonly oldest: PartitionSnapshot["oldest"]
}

export const rowsOf = ({ before, now }: Looks): ReadonlyArray<Row> => {
  const earlier = new Map(before?.partitions.map((p) => [`${p.topic}/${p.partition}/${p.epoch}`, p]))
  const millis = before === undefined ? 0 : now.at - before.at
  return once(now.partitions).map((p): Row => {
    const old = earlier.get(`${p.topic}/${p.partition}/${p.epoch}`)
    return {
      name: neutral(`${p.topic}/${p.partition}`),
      committed: p.committed,
      beyond: p.behindGap,
      gaps: p.gaps,
      inFlight: p.running + p.sending,
      held: p.heldRecords,
      lag: p.end === undefined ? undefined : distance(p.committed ?? p.committable, p.end),
      rate: old === undefined || millis <= 0 ? undefined : Math.max(0, ((p.done - old.done) * 1_000) / millis),
      state: [
        p.zombies === 0 ? "" : `${grouped(p.zombies)} zombie${p.zombies === 1 ? "" : "s"}`,
        p.state === "open" ? "" : p.state,
        ...p.paused.map((reason) => `paused: ${reason}`)
      ]
        .filter((text) => text !== "")
        .join(", "),
      oldest: p.oldest
    }
  })
}

/** The one to look at first comes first. */
export const byTrouble = (a: Row, b: Row): number =>
  (b.lag ?? 0) - (a.lag ?? 0) ||
  b.gaps - a.gaps ||
  (a.oldest?.receivedAt ?? Number.POSITIVE_INFINITY) - (b.oldest?.receivedAt ?? Number.POSITIVE_INFINITY) ||
  b.held - a.held ||
  0

interface Column {
  readonly title: string
  readonly cell: (row: Row) => string
  /** which are left out first where there is no room: the greatest */
  readonly spare: number
  readonly left?: true
}

const columns: ReadonlyArray<Column> = [
  { title: "committed", cell: ({ committed }) => (committed === undefined ? "-" : grouped(committed)), spare: 2 },
  { title: "beyond", cell: ({ beyond }) => grouped(beyond), spare: 3 },
  { title: "gaps", cell: ({ gaps }) => grouped(gaps), spare: 4 },
  { title: "in flight", cell: ({ inFlight }) => grouped(inFlight), spare: 1 },
  { title: "held", cell: ({ held }) => grouped(held), spare: 5 },
  { title: "lag", cell: ({ lag }) => (lag === undefined ? "?" : grouped(lag)), spare: 0 },
  { title: "rate/s", cell: ({ rate }) => rated(rate), spare: 6 },
  { title: "state", cell: ({ state }) => state, spare: 7, left: true }
]

/** a name is shown with so many columns, if it has them, before a figure is left out for it */
const leastName = 8
const title = "partition"
const shortTitle = "part"
/** blanks between two columns, and in a narrow window */
const between = 2
const betweenNarrow = 1
const narrow = 80

/** Title line and lines of these rows. Titles and figures stand under each other, whatever the widths. */
export const tableOf = (
  rows: ReadonlyArray<Row>,
  width: number
): { readonly head: string; readonly lines: ReadonlyArray<string> } => {
  const cells = new Map(columns.map((column) => [column, rows.map((row) => column.cell(row))]))
  const widths = new Map(
    columns.map((column) => [
      column,
      (cells.get(column) ?? []).reduce((most, cell) => Math.max(most, widthOf(cell)), widthOf(column.title))
    ])
  )
  const longest = rows.reduce((most, { name }) => Math.max(most, widthOf(name)), title.length)
  const blanks = width < narrow ? betweenNarrow : between
  const taken = (of: ReadonlyArray<Column>) => of.reduce((n, column) => n + blanks + widths.get(column)!, 0)
  // a column that says nothing takes no room
  let shown = columns.filter((column) => column.left !== true || rows.some((row) => column.cell(row) !== ""))
  while (shown.length > 1 && width - taken(shown) < Math.min(longest, leastName)) {
    const spared = shown.reduce((a, b) => (b.spare > a.spare ? b : a))
    shown = shown.filter((column) => column !== spared)
  }
  const nameWidth = Math.max(1, Math.min(longest, width - taken(shown)))
  const line = (name: string, cell: (column: Column) => string): string => {
    const rest = shown.map((column) => {
      const pad = column.left === true ? padEnd : padStart
      return " ".repeat(blanks) + pad(cell(column), widths.get(column)!)
    })
    return fit(`${padEnd(fitMiddle(name, nameWidth), nameWidth)}${rest.join("")}`.trimEnd(), width)
  }
  return {
    head: line(nameWidth < title.length ? shortTitle : title, ({ title }) => title),
    lines: rows.map(({ name }, i) => line(name, (column) => cells.get(column)?.[i] ?? ""))
  }
}

/** Of all partitions: at least so much where the end of some is not known, and a question where it is of none. */
const lagOf = (rows: ReadonlyArray<Row>): string => {
  const known = rows.flatMap(({ lag }) => (lag === undefined ? [] : [lag]))
  if (known.length === 0 && rows.length > 0) return "?"
  return `${grouped(known.reduce((n, lag) => n + lag, 0))}${known.length < rows.length ? "+" : ""}`
}

/** Of the whole consumer, as items that may stand in any number of lines. */
export const figuresOf = (looks: Looks, rows: ReadonlyArray<Row>): ReadonlyArray<string> => {
  const { commits, handlerTime, held, outcomes, permits, retries } = looks.now
  const partitions = once(looks.now.partitions)
  const sum = (of: (p: PartitionSnapshot) => number): number => partitions.reduce((n, p) => n + of(p), 0)
  const several = (count: number, what: string): string => (count === 0 ? "" : `, ${grouped(count)} ${what}`)
  return [
    `done ${grouped(doneOf(looks.now))}, ${rated(doneRate(looks))}/s`,
    `lag ${lagOf(rows)}`,
    `permits ${grouped(permits.used)} of ${permits.limit === "unbounded" ? "unbounded" : grouped(permits.limit)}${several(permits.byZombies, "by zombies")}`,
    `in flight ${grouped(sum(({ running, sending }) => running + sending))}`,
    `held ${grouped(held.records)} of ${grouped(held.maxRecords)}, ${mebibytes(held.bytes)} of ${mebibytes(held.maxBytes)} MiB`,
    `retries ${grouped(retries)}${several(
      sum(({ waiting }) => waiting),
      "waiting"
    )}`,
    `dead letters ${grouped(outcomes.deadLettered)}${several(
      sum(({ sending }) => sending),
      "being sent"
    )}`,
    `skipped ${grouped(outcomes.skipped)}`,
    `parked ${grouped(sum(({ parked }) => parked))}`,
    `commits ${grouped(commits.ok)}${several(commits.failed, "failed")}`,
    `handlers p50 ${lasting(handlerTime.p50)}, p99 ${lasting(handlerTime.p99)}`
  ]
}

export const reasonLine = ({ at, code, count, message, since }: HealthReason, now: number): string => {
  const where =
    at === undefined ? "" : `, ${at.topic}/${at.partition}${at.offset === undefined ? "" : ` @ ${at.offset}`}`
  return neutral(`${code} (${grouped(count)}, for ${lasting(now - since)}${where}): ${message}`)
}

/** The oldest records of all partitions, so many of them. */
export const oldestLines = ({ at }: Snapshot, rows: ReadonlyArray<Row>, most: number): ReadonlyArray<string> =>
  rows
    .flatMap(({ name, oldest }) => (oldest === undefined ? [] : [{ name, oldest }]))
    .toSorted((a, b) => a.oldest.receivedAt - b.oldest.receivedAt)
    .slice(0, most)
    .map(
      ({ name, oldest }) =>
        `${name} @ ${oldest.offset}: came ${lasting(at - oldest.receivedAt)} ago, ${oldest.state} for ${lasting(at - oldest.since)}${oldest.attempt > 1 ? `, attempt ${oldest.attempt}` : ""}`
    )
