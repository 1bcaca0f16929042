/** A result as a line of text, and all of them as a table in a text. */
import type { Result } from "./run.ts"

const columns = ["seconds", "produced", "handled", "twice", "bound", "interrupted", "rebalances"] as const

const cell = (result: Result, name: (typeof columns)[number]): string =>
  name === "seconds" ? result.seconds.toFixed(1) : String(result[name])

const width = 16

export const heading = `${"scenario".padEnd(width)} ${columns.map((name) => name.padStart(11)).join(" ")}`

export const line = (result: Result): string =>
  `${result.name.padEnd(width)} ${columns.map((name) => cell(result, name).padStart(11)).join(" ")}  ${result.ok ? "ok" : "FAILED"}`

const begin = "<!-- table -->"
const end = "<!-- /table -->"

/** The text with this table in the place of the one that it has. */
export const withTable = (text: string, results: ReadonlyArray<Result>): string => {
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  if (from < 0 || to < from) throw new Error(`no place for a table: ${begin} ... ${end}`)
  const rows = [
    `| scenario | ${columns.join(" | ")} | |`,
    `| --- |${columns.map(() => " ---: |").join("")} --- |`,
    ...results.map(
      (result) =>
        `| \`${result.name}\` | ${columns.map((name) => cell(result, name)).join(" | ")} | ${result.ok ? "ok" : "FAILED"} |`
    )
  ]
  return `${text.slice(0, from + begin.length)}\n${rows.join("\n")}\n${text.slice(to)}`
}
