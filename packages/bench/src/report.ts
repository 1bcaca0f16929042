/** One comparison. */
export interface Line {
  readonly bench: string
  /** the median of the rounds */
  readonly value: number
  readonly unit: string
  readonly comparedWith: string
  readonly comparedValue: number
  /** how the two are compared: `value / comparedValue`, or `value - comparedValue` */
  readonly by: "ratio" | "difference"
  /** the median of the rounds' own comparisons */
  readonly result: number
  /** the rounds' smallest and largest */
  readonly spread: readonly [least: number, most: number]
  /** a ratio is to be at least this, a difference at most */
  readonly goal: number
  readonly met: boolean
}

/** Compares round by round: the machine is not the same from one to the next. */
export const compare = (
  line: Pick<Line, "bench" | "unit" | "comparedWith" | "by" | "goal">,
  values: ReadonlyArray<number>,
  compared: ReadonlyArray<number>
): Line => {
  const results = values.map((value, i) => (line.by === "ratio" ? value / compared[i]! : value - compared[i]!))
  const result = median(results)
  return {
    ...line,
    value: median(values),
    comparedValue: median(compared),
    result,
    spread: [Math.min(...results), Math.max(...results)],
    met: line.by === "ratio" ? result >= line.goal : result <= line.goal
  }
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const short = (value: number): string => (value >= 1000 ? `${Math.round(value / 1000)}k` : value.toFixed(2))

export const print = (lines: ReadonlyArray<Line>, json: boolean): void => {
  if (json) {
    for (const line of lines) process.stdout.write(`${JSON.stringify(line)}\n`)
    return
  }
  const rows = lines.map((line) => [
    line.bench,
    `${short(line.value)} ${line.unit}`,
    `${line.comparedWith}: ${short(line.comparedValue)}`,
    `${line.by} ${line.result.toFixed(2)} (${line.spread[0].toFixed(2)} to ${line.spread[1].toFixed(2)})`,
    `${line.by === "ratio" ? ">=" : "<="} ${line.goal}`,
    line.met ? "met" : "NOT MET"
  ])
  const table = [["bench", "value", "compared with", "result (spread)", "goal", ""], ...rows]
  const widths = table[0]!.map((_, i) => Math.max(...table.map((row) => row[i]!.length)))
  for (const row of table)
    process.stdout.write(
      `${row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd()}\n`
    )
}
