/** The tracker against lists and sets of offsets. */
import { it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { OffsetTracker } from "../src/internal/offsetTracker.ts"
import { between, chance, holds, same, shuffled } from "./model.ts"

/** offsets that are skipped before each record, and whether a header filter says no; then those behind the last */
const Chunk = Schema.Struct({
  do: Schema.Literal("chunk"),
  records: Schema.Array(Schema.Tuple([between(0, 3), Schema.Boolean])).check(Schema.isMaxLength(8)),
  tail: between(0, 3)
})
type Chunk = typeof Chunk.Type

const Step = Schema.Union([
  Chunk,
  /** gap and length in turn, from what was delivered on or before it */
  Schema.Struct({
    do: Schema.Literal("claim"),
    back: between(0, 5),
    runs: Schema.Array(Schema.Tuple([between(0, 4), between(1, 6)])).check(Schema.isMaxLength(5))
  }),
  /** so many records, from one of those that are not done */
  Schema.Struct({ do: Schema.Literal("settle"), which: between(0, 40), count: between(1, 3) }),
  Schema.Struct({ do: Schema.Literal("oldest"), count: between(1, 4) }),
  Schema.Struct({ do: Schema.Literal("twice"), which: between(0, 40) })
])
type Step = typeof Step.Type

/** The obvious way to know it. All offsets are relative to the start, as in a map. */
class Model {
  readonly offsets: Array<number> = []
  readonly done = new Set<number>()
  claimed = new Set<number>()
  /** where the newest chunk ends */
  end = 0

  get open(): ReadonlyArray<number> {
    return this.offsets.flatMap((offset, seq) => (this.done.has(offset) ? [] : [seq]))
  }
  get committable(): number {
    return this.offsets.find((offset) => !this.done.has(offset)) ?? this.end
  }
  get prefix(): number {
    const open = this.offsets.findIndex((offset) => !this.done.has(offset))
    return open === -1 ? this.offsets.length : open
  }
  /** records that are done behind a gap */
  get behind(): ReadonlyArray<number> {
    return this.offsets.slice(this.prefix).filter((offset) => this.done.has(offset))
  }
  /** as pairs, each up to the next record that is not done */
  get runs(): Array<number> {
    const runs: Array<number> = []
    this.offsets.forEach((offset, seq) => {
      if (seq < this.prefix || !this.done.has(offset)) return
      const to = this.offsets[seq + 1] ?? this.end
      if (runs.at(-1) === offset) runs[runs.length - 1] = to
      else runs.push(offset, to)
    })
    return runs
  }
  /** an offset of the map that is worth a commit: a record that is done behind a gap, or what a former owner says of one to come */
  get said(): ReadonlySet<number> {
    return new Set([...this.behind, ...this.claimed])
  }
  /** the map: these, and the holes behind a record that is done */
  get map(): Array<number> {
    const runs = this.runs
    for (const offset of [...this.claimed].sort((a, b) => a - b)) {
      if (runs.at(-1) === offset) runs[runs.length - 1] = offset + 1
      else runs.push(offset, offset + 1)
    }
    return runs.map((offset) => offset - this.committable)
  }
}

const agree = (start: bigint, tracker: OffsetTracker, model: Model): void => {
  const { behind, committable, prefix, runs } = model
  same(tracker.committable, start + BigInt(committable), "committable")
  same(tracker.committableRelative, committable, "committable, as a number")
  same(tracker.delivered, start + BigInt(model.end), "delivered")
  same(tracker.base, prefix, "base")
  same(tracker.next, model.offsets.length, "next")
  same(tracker.behindGap, behind.length, "behind the gap")
  same(tracker.runCount, runs.length / 2, "runs")
  same(tracker.span, behind.length === 0 ? 0 : behind.at(-1)! + 1 - committable, "span")
  same(tracker.claiming, model.claimed.size > 0, "claiming")
  same(String(tracker.mapRuns()), String(model.map), "map")
  model.offsets.forEach((offset, seq) => {
    same(tracker.isDone(seq), model.done.has(offset), `${seq} is done`)
    if (seq >= prefix) same(tracker.offsetOf(seq), start + BigInt(offset), `offset of ${seq}`)
  })
  same(
    tracker.runs(3).join(),
    runs
      .slice(0, 6)
      .map((offset) => start + BigInt(offset))
      .join(),
    "the first runs"
  )
  const newest = model.offsets.findLastIndex((offset) => model.done.has(offset))
  same(tracker.gaps, model.open.filter((seq) => seq < newest).length, "gaps")
  same(tracker.done, model.done.size, "done")
  same(tracker.doneUpTo, start + BigInt(model.offsets[newest + 1] ?? model.end), "done up to")
}

const starts = [0n, 5n, 2n ** 53n + 1n, 2n ** 62n]

class World {
  readonly start: bigint
  readonly tracker: OffsetTracker
  readonly model = new Model()
  /** in the order in which they were settled */
  readonly settled: Array<number> = []
  constructor(start: bigint, capacity: number) {
    this.start = start
    this.tracker = new OffsetTracker(start, capacity)
  }

  /** Around all that may change something: what has to move when the map or the prefix does, and what must not. */
  private watched(what: string, change: () => void): void {
    const { model, tracker } = this
    const before = { behind: model.behind, committable: model.committable, version: tracker.version, said: model.said }
    change()
    const { behind, committable, said } = model
    holds(committable >= before.committable, `I2: ${what} goes back`)
    const changed = tracker.version !== before.version
    // what is done in order is in no map, and changes nothing
    same(changed, String(behind) !== String(before.behind), `${what}: the version has changed`)
    if (changed || committable !== before.committable) return
    // where a former owner has spoken of what turns out to be a hole, the map is shorter by nothing
    const holes = [...before.said].filter((at) => at < model.end && !model.done.has(at))
    same(said.size, before.said.size - holes.length, `${what} changes the map, and neither version nor committable`)
    for (const at of said) holds(before.said.has(at), `${what} brings ${at} into the map, unseen`)
  }

  settle(seq: number): void {
    const { model, tracker } = this
    const offset = model.offsets[seq]!
    this.watched(`settling ${seq}`, () => {
      const before = model.prefix
      if (!model.done.has(offset)) this.settled.push(seq)
      model.done.add(offset)
      same(tracker.settle(seq), model.prefix - before, `settling ${seq} moves the prefix by`)
    })
    for (const open of model.open) holds(tracker.committable <= this.start + BigInt(model.offsets[open]!), "I1")
  }

  chunk({ records, tail }: Chunk): void {
    const { model, start, tracker } = this
    // as the engine does it: the records, the end of the chunk, and then what is done already
    const already: Array<number> = []
    let offset = model.end
    for (const [gap, filtered] of records) {
      offset += gap
      const claimed = tracker.isClaimed(start + BigInt(offset))
      same(claimed, model.claimed.has(offset), `${offset} is claimed`)
      if (claimed || filtered) already.push(model.offsets.length)
      same(tracker.deliver(start + BigInt(offset)), model.offsets.length, "seq")
      model.offsets.push(offset)
      offset++
    }
    offset += tail
    // the records of this chunk stand in front of its end
    same(tracker.chunkEnds(start + BigInt(offset)), offset > model.end && model.open.length === 0, "committable moved")
    model.end = offset
    for (const at of model.claimed) if (at < offset) model.claimed.delete(at)
    for (const seq of already) this.settle(seq)
    holds(!tracker.chunkEnds(start + BigInt(offset)), "an end twice")
    holds(!tracker.chunkEnds(start), "an end that goes back")
  }

  step(step: Step): void {
    const { model, tracker } = this
    switch (step.do) {
      case "chunk":
        return this.watched("a chunk", () => this.chunk(step))
      case "claim": {
        const flat: Array<number> = []
        let at = Math.max(0, model.end - step.back)
        for (const [gap, length] of step.runs) {
          const from = at + gap + (flat.length === 0 ? 0 : 1)
          at = from + length
          flat.push(from, at)
        }
        const { version } = tracker
        tracker.claim(flat)
        holds(tracker.version !== version, "a claim changes the version")
        model.claimed = new Set()
        for (let i = 0; i < flat.length; i += 2) {
          for (let o = flat[i]!; o < flat[i + 1]!; o++) if (o >= model.end) model.claimed.add(o)
        }
        return
      }
      case "settle": {
        const { open } = model
        for (let i = 0; i < step.count && open.length > 0; i++) this.settle(open[(step.which + i) % open.length]!)
        return
      }
      case "oldest": {
        for (const seq of model.open.slice(0, step.count)) this.settle(seq)
        return
      }
      case "twice": {
        const seq = this.settled[step.which]
        if (seq === undefined) return
        const { version } = tracker
        same(tracker.settle(seq), 0, "settling twice")
        same(tracker.version, version, "the version, settling twice")
      }
    }
  }
}

it.prop(
  "I1, I2: holes, markers, empty chunks, filtered and claimed records in any mixture: the prefix, the map and the version are those of lists and sets",
  [Schema.Array(Step), between(0, 3), between(0, 3), between(0, 1_000_000)],
  ([steps, where, power, seed]) => {
    const start = starts[where]!
    const world = new World(start, 2 ** power)
    agree(start, world.tracker, world.model)
    for (const step of steps) {
      world.step(step)
      agree(start, world.tracker, world.model)
    }
    // the same records, done in another order, all delivered before
    const { model, settled, tracker } = world
    const other = new OffsetTracker(start, 2)
    for (const offset of model.offsets) other.deliver(start + BigInt(offset))
    other.chunkEnds(start + BigInt(model.end))
    for (const seq of shuffled(settled, chance(seed))) other.settle(seq)
    const claims = [...model.claimed].sort((a, b) => a - b).flatMap((at) => [at, at + 1])
    other.claim(claims)
    agree(start, other, model)
    same(other.highestDone, tracker.highestDone, "the newest that is done")
  },
  { arbitrary: { runs: 250, size: 60 } }
)

it.prop(
  "a hundred thousand records through a ring that grows and turns: what lies in it is what a list of marks says",
  [between(0, 1_000_000)],
  ([seed]) => {
    const next = chance(seed)
    const count = 100_000
    const start = 2n ** 53n + 1n
    const tracker = new OffsetTracker(start, 4)
    const offsets = new Float64Array(count)
    const done = new Uint8Array(count)
    let end = 0
    let delivered = 0
    let prefix = 0
    const open: Array<number> = []
    // each of some thousand records one stays long, so that the ring grows, and the others are done within a window that it turns in
    const stuck: Array<number> = []
    const settle = (seq: number): void => {
      const before = prefix
      done[seq] = 1
      while (prefix < delivered && done[prefix] === 1) prefix++
      same(tracker.settle(seq), prefix - before, `settling ${seq}`)
    }
    const look = (): void => {
      same(tracker.base, prefix, "base")
      same(tracker.committableRelative, prefix < delivered ? offsets[prefix] : end, "committable")
      let behind = 0
      const runs: Array<number> = []
      for (let seq = prefix; seq < delivered; seq++) {
        if (done[seq] === 0) continue
        behind++
        const to = seq + 1 < delivered ? offsets[seq + 1]! : end
        if (runs.at(-1) === offsets[seq]) runs[runs.length - 1] = to
        else runs.push(offsets[seq]!, to)
      }
      same(tracker.behindGap, behind, "behind the gap")
      same(tracker.runCount, runs.length / 2, "runs")
      const zero = tracker.committableRelative
      same(tracker.mapRuns().join(), runs.map((at) => at - zero).join(), "map")
    }
    let looks = 0
    while (delivered < count) {
      const records = Math.min(count - delivered, next(200))
      for (let i = 0; i < records; i++) {
        end += next(10) === 0 ? 1 + next(3) : 0
        offsets[delivered] = end++
        tracker.deliver(start + BigInt(offsets[delivered]!))
        if (next(4_000) === 0) stuck.push(delivered)
        else open.push(delivered)
        delivered++
      }
      end += next(3)
      tracker.chunkEnds(start + BigInt(end))
      for (let i = next(400); i > 0 && open.length > 0; i--) {
        // among the oldest, and now and then any
        const at = next(50) === 0 ? next(open.length) : Math.min(next(20), open.length - 1)
        const [seq] = open.splice(at, 1)
        settle(seq!)
      }
      if (stuck.length > 3 || (stuck.length > 0 && next(60) === 0)) settle(stuck.shift()!)
      if (++looks % 20 === 0) look()
    }
    look()
    for (const seq of [...stuck, ...shuffled(open, next)]) settle(seq)
    look()
    same(prefix, count, "all are done")
    same(tracker.committable, tracker.delivered, "committable")
    same(tracker.highestDone, count - 1, "the newest")
  },
  { arbitrary: { runs: 4 } }
)
