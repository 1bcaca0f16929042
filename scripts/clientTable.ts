/** What a run of vitest says of clients: how much of each suite was run on which of them, and why the rest was not. Pure. */

/** The part of vitest's JSON report that is read. */
export interface Report {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly status: string
      readonly meta?: { readonly skipped?: string }
    }>
  }>
}

export interface Skipped {
  readonly test: string
  readonly reason: string
}

export interface Cell {
  readonly suite: string
  readonly client: string
  readonly run: number
  readonly failed: number
  readonly skipped: ReadonlyArray<Skipped>
}

/** Suites of clients are named so. */
const named = /^([\w-]+): (.+)$/
const noReason = "left out of this run, by a pattern or for want of a Kafka"

/** Of which client, and which suite of it, a test is. */
const placeOf = (ancestorTitles: ReadonlyArray<string>) => {
  const [, client = "", suite = ""] = ancestorTitles.map((one) => named.exec(one)).find((one) => one !== null) ?? []
  return { client, suite }
}

/** One for each suite of each client, in the order in which they were found. */
export const cellsOf = (report: Report, clients: ReadonlyArray<string>): ReadonlyArray<Cell> => {
  const cells = new Map<string, Cell & { skipped: Array<Skipped>; run: number; failed: number }>()
  for (const { assertionResults } of report.testResults) {
    for (const { ancestorTitles, meta, status, title } of assertionResults) {
      const { client, suite } = placeOf(ancestorTitles)
      if (!clients.includes(client)) continue
      const key = `${client}: ${suite}`
      const cell = cells.get(key) ?? { suite, client, run: 0, failed: 0, skipped: [] }
      cells.set(key, cell)
      if (status === "passed") cell.run += 1
      else if (status === "failed") {
        cell.run += 1
        cell.failed += 1
      } else cell.skipped.push({ test: title, reason: meta?.skipped ?? noReason })
    }
  }
  return [...cells.values()].sort((a, b) => (a.suite < b.suite ? -1 : a.suite > b.suite ? 1 : 0))
}

/** What must have run on a client: a suite as it is called behind the client's name, and how the title of a test of it begins. */
export interface Wanted {
  readonly promise: string
  readonly named: string
  readonly title: string
}

/** The tests that were not run on a client of which anything was run. A test of the same name in another suite is another one. */
export const missingOf = (
  report: Report,
  wanted: ReadonlyMap<string, ReadonlyArray<Wanted>>
): ReadonlyArray<{ readonly client: string; readonly promise: string; readonly test: string }> => {
  const ran = new Map([...wanted.keys()].map((client) => [client, new Map<string, Array<string>>()]))
  for (const { assertionResults } of report.testResults) {
    for (const { ancestorTitles, status, title } of assertionResults) {
      if (status !== "passed" && status !== "failed") continue
      const { client, suite } = placeOf(ancestorTitles)
      const suites = ran.get(client)
      suites?.set(suite, [...(suites.get(suite) ?? []), title])
    }
  }
  return [...ran].flatMap(([client, suites]) =>
    suites.size === 0
      ? []
      : wanted
          .get(client)!
          .filter(({ named, title }) => !suites.get(named)?.some((one) => one.startsWith(title)))
          .map(({ named, promise, title }) => ({ client, promise, test: `${named}: ${title}` }))
  )
}

const says = (cell: Cell | undefined): string => {
  if (cell === undefined) return "-"
  const parts = [`${cell.run} run`]
  if (cell.failed > 0) parts.push(`${cell.failed} failed`)
  if (cell.skipped.length > 0) parts.push(`${cell.skipped.length} skipped`)
  return parts.join(", ")
}

/**
 * As lines of text: a row for each suite, a column for each client and for each of `beside`, of which less is expected; then what is only for
 * some clients, and why what was skipped was.
 */
export const linesOf = (
  cells: ReadonlyArray<Cell>,
  clients: ReadonlyArray<string>,
  beside: ReadonlyArray<string> = []
): ReadonlyArray<string> => {
  const columns = [...clients, ...beside]
  const suites = [...new Set(cells.map(({ suite }) => suite))]
  const rows = [
    ["suite", ...columns],
    ...suites.map((suite) => [
      suite,
      ...columns.map((client) => says(cells.find((cell) => cell.suite === suite && cell.client === client)))
    ])
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const reasons = new Map<string, Array<string>>()
  for (const { client, skipped, suite } of cells) {
    for (const [reason, tests] of Map.groupBy(skipped, ({ reason }) => reason)) {
      const key = `skipped on ${client}, ${reason}`
      reasons.set(key, [...(reasons.get(key) ?? []), `${tests.length} of "${suite}"`])
    }
  }
  const only = suites.flatMap((suite) => {
    const own = clients.filter((client) => cells.some((cell) => cell.suite === suite && cell.client === client))
    return own.length === clients.length ? [] : [`only for ${own.join(", ")}: ${suite}`]
  })
  return [
    ...rows.map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column]!))
        .join("  ")
        .trimEnd()
    ),
    ...only,
    ...[...reasons].map(([key, suites]) => `${key}: ${suites.join(", ")}`)
  ]
}
