/**
 * All consumers in one picture: what has room, and in which order it is left out where there is none.
 */
import type { Size, Theme } from "../Top.ts"
import { fit, grouped, lasting, more, neutral, widthOf, wrapped } from "./topText.ts"
import { byTrouble, figuresOf, type Looks, oldestLines, reasonLine, type Row, rowsOf, tableOf } from "./topTable.ts"

const indent = "  "
const mostOldest = 3
const mostReasons = 4
/** where there is no end of lines */
const mostRows = 20

interface Part {
  /** name, figures, reasons */
  readonly top: ReadonlyArray<string>
  readonly oldest: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
}

type Paint = (text: string) => string
const asItIs: Paint = (text) => text

/** One line of pieces, cut where the width ends: colours take no room. */
const line = (width: number, ...pieces: ReadonlyArray<readonly [text: string, paint?: Paint | undefined]>): string => {
  let left = width
  let text = ""
  for (const [piece, paint = asItIs] of pieces) {
    const cut = fit(piece, left)
    if (cut !== "") text += paint(cut)
    left -= widthOf(cut)
  }
  return text
}

const heading = ({ now }: Looks, width: number, theme: Theme): string => {
  const { health } = now
  const verdict = `${health.status}${health.live ? "" : ", not live"}${health.ready ? "" : ", not ready"}`
  const rest = `  group ${now.groupId}, generation ${now.generation}, for ${lasting(now.at - now.startedAt)}`
  return line(
    width,
    [fit(neutral(now.name), Math.max(1, width - verdict.length - 2)), theme.title],
    ["  "],
    [verdict, theme[health.status]],
    [neutral(rest), theme.quiet]
  )
}

const partOf = (looks: Looks, width: number, theme: Theme): Part => {
  const rows = rowsOf(looks)
  const { at, health } = looks.now
  const reasons = health.reasons.slice(0, mostReasons)
  const left = health.reasons.length - reasons.length
  const below = (text: string, paint?: Paint): string => line(width, [indent], [text, paint])
  return {
    top: [
      heading(looks, width, theme),
      ...wrapped(figuresOf(looks, rows), width - indent.length).map((text) => below(text)),
      ...reasons.map((reason) => below(reasonLine(reason, at), theme[health.status])),
      ...(left > 0 ? [below(more(left, " reasons"))] : [])
    ],
    oldest: oldestLines(looks.now, rows, mostOldest).map((text) => below(`oldest ${text}`)),
    rows
  }
}

/** A partition table in so many lines, its title and what is left out among them. */
const table = (rows: ReadonlyArray<Row>, lines: number, width: number, theme: Theme): ReadonlyArray<string> => {
  if (rows.length === 0 || lines < 2) return []
  const all = rows.length + 1 <= lines
  const shown = all ? rows : rows.toSorted(byTrouble).slice(0, lines - 2)
  const drawn = tableOf(shown, Math.max(1, width - indent.length))
  const rest = rows.length - shown.length
  const below = (text: string, paint?: Paint): string => line(width, [indent], [text, paint])
  return [
    ...(shown.length === 0 ? [] : [below(drawn.head, theme.head)]),
    ...drawn.lines.map((text) => below(text)),
    ...(rest === 0 ? [] : [below(more(rest, " partitions"), theme.quiet)])
  ]
}

/** Lines that each table gets: as evenly as may be, and what one does not need is for the others. */
const shared = (needed: ReadonlyArray<number>, lines: number): ReadonlyArray<number> => {
  const given = needed.map(() => 0)
  let left = Math.max(0, lines)
  let open = needed.flatMap((need, i) => (need > 0 ? [i] : []))
  while (open.length > 0 && left > 0) {
    const share = Math.max(1, Math.floor(left / open.length))
    for (const i of open) {
      const more = Math.min(share, needed[i]! - given[i]!, left)
      given[i]! += more
      left -= more
    }
    open = open.filter((i) => given[i]! < needed[i]!)
  }
  return given
}

export const linesOf = (consumers: ReadonlyArray<Looks>, size: Size, theme: Theme): ReadonlyArray<string> => {
  const width = Math.max(1, Math.floor(size.columns))
  const most = size.rows === undefined ? undefined : Math.max(1, Math.floor(size.rows))
  const parts = consumers.map((looks) => partOf(looks, width, theme))
  const partitions = parts.reduce((n, { rows }) => n + rows.length, 0)
  const title = `${count(consumers.length, "consumer")}, ${count(partitions, "partition")}`
  const at = consumers.reduce((latest, { now }) => Math.max(latest, now.at), 0)
  const time = at === 0 ? "" : `  ${new Date(at).toISOString().slice(0, 19)}Z`
  const first = line(width, [title + time, theme.quiet])
  const needed = parts.map(({ rows }) => (rows.length === 0 ? 0 : rows.length + 1))
  const fixed = (withOldest: boolean): number =>
    1 + parts.reduce((n, { oldest, top }) => n + 1 + top.length + (withOldest ? oldest.length : 0), 0)
  // a table that cannot show a row with its title and what is left out is of less use than the oldest records are
  const withOldest = most === undefined || most - fixed(true) >= needed.reduce((n, need) => n + Math.min(need, 3), 0)
  const given =
    most === undefined ? needed.map((need) => Math.min(need, mostRows + 2)) : shared(needed, most - fixed(withOldest))
  const lines = [
    first,
    ...parts.flatMap(({ oldest, rows, top }, i) => [
      "",
      ...top,
      ...(withOldest ? oldest : []),
      ...table(rows, given[i] ?? 0, width, theme)
    ])
  ]
  if (most === undefined || lines.length <= most) return lines
  return [...lines.slice(0, most - 1), line(width, [more(lines.length - most + 1, " lines"), theme.quiet])]
}

const count = (n: number, what: string): string =>
  n === 0 ? `no ${what}` : `${grouped(n)} ${what}${n === 1 ? "" : "s"}`
