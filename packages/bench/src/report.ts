/** What a bench gives back, and how it is shown. */

/** What is asked of a comparison, or of the value by itself. */
export interface Goal {
  readonly of: "ratio" | "difference" | "value"
  readonly is: ">=" | "<="
  readonly limit: number
}

/** One comparison. */
export interface Line {
  readonly bench: string
  /** the median of the rounds */
  readonly value: number
  readonly unit: string
  readonly comparedWith: string
  readonly comparedValue: number
  /** the medians of the rounds' own comparisons: the machine is not the same from one round to the next */
  readonly ratio: number
  readonly difference: number
  /** the least and the most of the rounds, of what the first goal is about */
  readonly spread: readonly [least: number, most: number]
  readonly rounds: number
  readonly goal: string
  readonly met: boolean
}

export interface BenchOptions {
  readonly brokers: ReadonlyArray<string>
  readonly rounds: number
  /** few records and loose floors */
  readonly smoke: boolean
}

export type Bench = (options: BenchOptions) => Promise<ReadonlyArray<Line>>

export const atLeast = (limit: number): Goal => ({ of: "ratio", is: ">=", limit })
export const atMost = (limit: number): Goal => ({ of: "ratio", is: "<=", limit })
export const moreAtMost = (limit: number): Goal => ({ of: "difference", is: "<=", limit })
export const valueAtMost = (limit: number): Goal => ({ of: "value", is: "<=", limit })

/** Round by round. One of the goals is enough. */
export const compare = (
  line: Pick<Line, "bench" | "unit" | "comparedWith">,
  values: ReadonlyArray<number>,
  compared: ReadonlyArray<number>,
  ...goals: readonly [Goal, ...ReadonlyArray<Goal>]
): Line => {
  const all = {
    value: values,
    ratio: values.map((value, i) => value / compared[i]!),
    difference: values.map((value, i) => value - compared[i]!)
  }
  const shown = all[goals[0].of]
  return {
    ...line,
    value: median(values),
    comparedValue: median(compared),
    ratio: median(all.ratio),
    difference: median(all.difference),
    spread: [Math.min(...shown), Math.max(...shown)],
    rounds: values.length,
    goal: goals.map(textOf).join(" or "),
    met: goals.some(({ is, limit, of }) => (is === ">=" ? median(all[of]) >= limit : median(all[of]) <= limit))
  }
}

/** It is enough that one of two lines meets its goal. */
export const either = (one: Line, other: Line): ReadonlyArray<Line> => {
  const met = one.met || other.met
  const or = (line: Line, than: Line): Line => ({
    ...line,
    met,
    goal: `${line.goal}, or ${than.goal} of ${than.comparedWith}`
  })
  return [or(one, other), or(other, one)]
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const textOf = ({ is, limit, of }: Goal): string =>
  `${of === "ratio" ? "" : of === "difference" ? "+ " : "value "}${is} ${limit}`

const short = (value: number): string => (Math.abs(value) >= 10_000 ? `${Math.round(value / 1000)}k` : value.toFixed(2))

export const print = (lines: ReadonlyArray<Line>, json: boolean): void => {
  if (json) {
    for (const line of lines) process.stdout.write(`${JSON.stringify(line)}\n`)
    return
  }
  const rows = lines.map((line) => [
    line.bench,
    `${short(line.value)} ${line.unit}`,
    `${line.comparedWith}: ${short(line.comparedValue)}`,
    `${line.ratio.toFixed(2)} times`,
    `${short(line.spread[0])} to ${short(line.spread[1])}`,
    line.goal,
    line.met ? "met" : "NOT MET"
  ])
  const table = [["bench", "value", "compared with", "ratio", "spread", "goal", ""], ...rows]
  const widths = table[0]!.map((_, i) => Math.max(...table.map((row) => row[i]!.length)))
  for (const row of table)
    process.stdout.write(
      `${row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd()}\n`
    )
}
