/**
 * How many values fell into which bucket, and their sum, since the start: for readers that make their own percentiles, over any time.
 *
 * **Cost**: a comparison for each bound below the value, an addition.
 */
import type { Distribution } from "../Snapshot.ts"

/** milliseconds: the bounds that OpenTelemetry asks for, and some on both sides of them */
export const timeBounds: ReadonlyArray<number> = [
  1, 2.5, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000, 30_000, 60_000, 300_000
]

/** bytes: a request holds at most 256 KiB */
export const sizeBounds: ReadonlyArray<number> = [64, 256, 1_024, 4_096, 16_384, 65_536, 131_072, 262_144]

export class Tally {
  private readonly bounds: ReadonlyArray<number>
  /** floats: 32 bits are full after some hours at full speed */
  private readonly counts: Float64Array
  private sum = 0

  constructor(bounds: ReadonlyArray<number>) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  /** A time below 0 is one over which the time of day was set back: it counts as 0, so that the sum never falls. */
  add(value: number): void {
    const { bounds } = this
    let i = 0
    while (i < bounds.length && value > bounds[i]!) i++
    this.counts[i]!++
    if (value > 0) this.sum += value
  }

  get distribution(): Distribution {
    return { bounds: this.bounds, counts: [...this.counts], sum: this.sum }
  }
}

/** Of several with the same bounds, together. */
export const distributionOf = (all: ReadonlyArray<Distribution>): Distribution => {
  const [first] = all
  return {
    bounds: first!.bounds,
    counts: first!.counts.map((_, i) => all.reduce((n, { counts }) => n + counts[i]!, 0)),
    sum: all.reduce((n, { sum }) => n + sum, 0)
  }
}
