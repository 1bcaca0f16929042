/**
 * Backlog, lanes and rounds against plain queues: a model knows of each record where it is, and by the definitions of a lane and of a
 * turn says who may start. Epochs follow each other on the same lanes, as they do where a partition comes back, and zombies of earlier
 * ones hold on.
 */
import { it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import type { Backlog } from "../src/internal/backlog.ts"
import { byKey, type Lane, Lanes } from "../src/internal/lanes.ts"
import { Slot } from "../src/internal/slot.ts"
import { PartitionEpoch } from "../src/internal/epoch.ts"
import { between, holds, same } from "./model.ts"
import { at, recordAt } from "./script.ts"

const which = between(0, 9)
const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("add"), keys: Schema.Array(between(0, 2)).check(Schema.isMaxLength(6)) }),
  Schema.Struct({ do: Schema.Literal("take"), times: between(1, 6), below: between(1, 80) }),
  /** each that starts fails, and is to be tried again at once */
  Schema.Struct({ do: Schema.Literal("storm"), times: between(4, 16) }),
  /** its outcome is final */
  Schema.Struct({ do: Schema.Literal("end"), which }),
  /** it is to be tried again, and then it is */
  Schema.Struct({ do: Schema.Literal("fail"), which }),
  Schema.Struct({ do: Schema.Literal("due"), which }),
  Schema.Struct({ do: Schema.Literal("putBack"), which }),
  Schema.Struct({ do: Schema.Literal("park"), which }),
  /** the park limit is reached, and it is over, or tried again */
  Schema.Struct({ do: Schema.Literal("unpark"), which, over: Schema.Boolean }),
  /** its time is over and its fiber runs on: it goes on in another slot, both hold the lane */
  Schema.Struct({ do: Schema.Literal("outlive"), which }),
  Schema.Struct({ do: Schema.Literal("zombieEnds"), which }),
  /** what waits is given up; what runs, runs on */
  Schema.Struct({ do: Schema.Literal("drop"), really: between(0, 4) }),
  /** the epoch ends and another one begins: of what runs some ends at once, the others are left behind */
  Schema.Struct({
    do: Schema.Literal("epoch"),
    really: between(0, 2),
    stays: Schema.Array(Schema.Boolean).check(Schema.isMaxLength(6))
  })
])

/** key 0 is none */
const recordOf = (seq: number, key: number) => ({
  ...recordAt(0, seq),
  key: key === 0 ? null : new TextEncoder().encode(`k${key}`)
})

/** What holds a lane, or would, if its record had one. */
interface Holder {
  readonly seq: number
  readonly key: number
  readonly slot: Slot
}

const orders = {
  unordered: { lanes: () => undefined, laneOf: () => undefined },
  key: { lanes: () => new Lanes(byKey, false), laneOf: (key: number) => (key === 0 ? undefined : key) },
  partition: { lanes: () => new Lanes(() => "", true), laneOf: () => 0 }
} as const

class World {
  readonly order: keyof typeof orders
  readonly lanes: Lanes | undefined
  private epoch: PartitionEpoch
  /** of this epoch: keys by seq, who waits to be started (put back ones included), and where the others are */
  private keys: Array<number> = []
  private waiting = new Set<number>()
  /** of those that wait, who was put back, and keeps its lane */
  private readonly back = new Map<number, Lane | undefined>()
  private running: Array<Holder> = []
  private failed: Array<Holder> = []
  private due: Array<Holder> = []
  private parked: Array<Holder> = []
  /** of any epoch */
  private zombies: Array<Holder> = []
  /** how often another one had its turn while this one could have had it */
  private readonly passedOver = new Map<number, Map<number, number>>()
  /** whether the last turn was one of those that are next */
  private before: boolean | undefined = undefined
  private epochs = 1

  constructor(order: keyof typeof orders) {
    this.order = order
    this.lanes = orders[order].lanes()
    this.epoch = new PartitionEpoch(at(0, 1), this.lanes, 0)
  }

  private get backlog(): Backlog {
    return this.epoch.backlog
  }
  private laneOf(key: number): number | undefined {
    return orders[this.order].laneOf(key)
  }
  private get holders(): ReadonlyArray<Holder> {
    return [...this.running, ...this.failed, ...this.due, ...this.parked, ...this.zombies]
  }

  private pick(list: Array<Holder>, which: number): Array<Holder> {
    return list.length === 0 ? [] : list.splice(which % list.length, 1)
  }

  private letGo({ slot }: Holder): void {
    const { lane } = slot
    slot.lane = undefined
    if (lane !== undefined) this.free(lane)
  }

  /** as the engine does it: whoever is next belongs to the epoch of now */
  private free(lane: Lane): void {
    const next = this.lanes!.release(lane)
    if (next !== undefined) this.lanes!.owner!.proceed(next, lane)
  }

  /** By the definition: the first of its lane, its lane free; records that wait for another try hold theirs. */
  private startable(below: number): ReadonlyArray<number> {
    const taken = new Set(this.holders.map(({ key }) => this.laneOf(key)))
    const first: Array<number> = []
    for (const seq of this.back.keys()) taken.add(this.laneOf(this.keys[seq]!))
    for (const seq of [...this.waiting].sort((a, b) => a - b)) {
      const lane = this.laneOf(this.keys[seq]!)
      if (lane !== undefined && !this.back.has(seq)) {
        if (taken.has(lane)) continue
        taken.add(lane)
      }
      first.push(seq)
    }
    return [...first, ...this.due.map(({ seq }) => seq)].filter((seq) => seq < below)
  }

  private slotOf(seq: number, lane: Lane | undefined): Slot {
    const record = recordOf(seq, this.keys[seq]!)
    const slot = new Slot(record, this.epoch, seq, undefined, "g", 1, 0, 0, () => undefined)
    slot.lane = lane
    return slot
  }

  private take(below: number): void {
    const may = this.startable(below)
    const next = may.filter((seq) => this.isNext(seq))
    const found = this.backlog.take(below)
    same(found === true, may.length > 0, `of ${may.join()} one is found`)
    if (found !== true) {
      this.before = undefined
      // there are some, but beyond: nothing of this epoch waits for a lane alone
      if (found === "beyond") holds(this.waiting.size + this.due.length > 0, "nothing lies beyond")
      return
    }
    const { before, lane, record, seq } = this.backlog.taken
    holds(may.includes(seq), `${seq} may not start, of ${may.join()}`)
    same(record.offset, BigInt(seq), "its record")
    const again = this.due.findIndex(({ slot }) => slot === before)
    same(again >= 0, before !== undefined, "an attempt before it")
    if (again < 0) holds(this.waiting.delete(seq), `${seq} is given twice`)
    else this.due.splice(again, 1)[0]!.slot.lane = undefined
    this.back.delete(seq)
    this.fair(
      seq,
      next,
      may.filter((other) => !next.includes(other))
    )
    this.running.push({ seq, key: this.keys[seq]!, slot: this.slotOf(seq, lane) })
    same(lane === undefined, this.laneOf(this.keys[seq]!) === undefined, "its lane")
  }

  /** Whether it is next: it has its lane, or needs none and was started before; else nobody has looked at it. */
  private isNext(seq: number): boolean {
    if (!this.waiting.has(seq) || this.back.has(seq)) return true
    const { lanes } = this
    const name = lanes?.of(recordOf(seq, this.keys[seq]!))
    return name !== undefined && lanes!.get(name) !== undefined
  }

  /**
   * Of those that are next and those that were never started each gets every other turn; of the latter the oldest; and of the former
   * nobody has a third turn while another one waits that could have had it. So none keeps another away, whatever fails at once.
   */
  private fair(seq: number, next: ReadonlyArray<number>, fresh: ReadonlyArray<number>): void {
    const ofNext = next.includes(seq)
    const others = ofNext ? fresh : next
    if (others.length > 0) same(this.before === ofNext, false, `${seq} has its turn, and not one of ${others.join()}`)
    this.before = ofNext
    if (!ofNext) same(seq, Math.min(...fresh), "the oldest of those that were never started")
    for (const other of this.passedOver.keys()) if (!next.includes(other)) this.passedOver.delete(other)
    this.passedOver.delete(seq)
    if (!ofNext) return
    for (const other of next) {
      if (other === seq) continue
      const times = this.passedOver.get(other) ?? new Map<number, number>()
      this.passedOver.set(other, times)
      times.set(seq, (times.get(seq) ?? 0) + 1)
      holds(times.get(seq)! <= 2, `${seq} has a third turn while ${other} waits for its first`)
    }
  }

  /** Everything that waits, in this epoch. */
  private drop(): void {
    const dropped: Array<number> = []
    this.backlog.drop(
      (record) => dropped.push(Number(record.offset)),
      (lane) => this.free(lane)
    )
    same(dropped.sort((a, b) => a - b).join(), [...this.waiting].sort((a, b) => a - b).join(), "dropped")
    this.waiting.clear()
    this.back.clear()
    for (const one of [...this.failed.splice(0), ...this.due.splice(0)]) this.letGo(one)
    for (const one of this.parked.splice(0)) {
      if (one.slot.lane !== undefined) this.backlog.unpark(one.slot.lane)
      this.letGo(one)
    }
  }

  step(step: typeof Step.Type): void {
    switch (step.do) {
      case "add": {
        const first = this.keys.length
        for (const key of step.keys) this.waiting.add(this.keys.push(key) - 1)
        const records = step.keys.map((key, i) => recordOf(first + i, key))
        if (records.length > 0) this.backlog.add(records, first, 0)
        return
      }
      case "take": {
        for (let i = 0; i < step.times; i++) this.take(step.below)
        return
      }
      case "storm": {
        for (let i = 0; i < step.times; i++) {
          const before = this.running.length
          this.take(Number.POSITIVE_INFINITY)
          for (const one of this.running.splice(before)) {
            this.due.push(one)
            this.backlog.due(one.slot)
          }
        }
        return
      }
      case "end": {
        for (const one of this.pick(this.running, step.which)) this.letGo(one)
        return
      }
      case "fail": {
        this.failed.push(...this.pick(this.running, step.which))
        return
      }
      case "due": {
        for (const one of this.pick(this.failed, step.which)) {
          this.due.push(one)
          this.backlog.due(one.slot)
        }
        return
      }
      case "putBack": {
        for (const one of this.pick(this.running, step.which)) {
          this.waiting.add(one.seq)
          this.back.set(one.seq, one.slot.lane)
          this.backlog.putBack(one.slot)
          same(one.slot.lane, undefined, "its lane goes with it")
        }
        return
      }
      case "park": {
        for (const one of this.pick(this.running, step.which)) {
          this.parked.push(one)
          if (one.slot.lane !== undefined) this.backlog.park(one.slot.lane)
        }
        return
      }
      case "unpark": {
        for (const one of this.pick(this.parked, step.which)) {
          if (one.slot.lane !== undefined) this.backlog.unpark(one.slot.lane)
          if (step.over) this.letGo(one)
          else this.failed.push(one)
        }
        return
      }
      case "outlive": {
        const one = this.running[step.which % this.running.length]
        if (one === undefined) return
        const { lane } = one.slot
        this.zombies.push({ ...one, slot: this.slotOf(one.seq, lane) })
        if (lane !== undefined) lane.holders++
        return
      }
      case "zombieEnds": {
        for (const one of this.pick(this.zombies, step.which)) this.letGo(one)
        return
      }
      case "drop":
        return step.really > 0 ? undefined : this.drop()
      case "epoch": {
        if (step.really > 0) return
        this.drop()
        this.running.splice(0).forEach((one, i) => {
          if (step.stays[i] === true) this.zombies.push(one)
          else this.letGo(one)
        })
        this.keys = []
        this.passedOver.clear()
        this.before = undefined
        this.epoch = new PartitionEpoch(at(0, ++this.epochs), this.lanes, 0)
      }
    }
  }

  look(): void {
    const { backlog, lanes, waiting } = this
    same(backlog.size, waiting.size, "size")
    same(backlog.oldest?.seq, waiting.size === 0 ? undefined : Math.min(...waiting), "the oldest")
    // each lane that somebody holds is there, and no other; those that are next hold theirs
    const { holders } = this
    for (const lane of lanes?.all ?? []) holds(lane.holders > 0, `nobody holds ${lane.name}`)
    const held = new Set(holders.flatMap(({ slot }) => (slot.lane === undefined ? [] : [slot.lane])))
    for (const lane of held) holds(lanes!.get(lane.name) === lane, `${lane.name} is held and not there`)
    for (const lane of lanes?.all ?? []) {
      const back = [...this.back.values()].filter((its) => its === lane).length
      const those = back + holders.filter(({ slot }) => slot.lane === lane).length
      // a record that is next is the one holder
      same(lane.holders, Math.max(those, 1), `holders of ${lane.name}`)
      const parkedHere = this.parked.filter(({ slot }) => slot.lane === lane).length
      same(lane.parked, parkedHere > 0, `${lane.name} is parked`)
    }
    // of those that were looked at, who waits in the lane of a parked record; where there is one lane nobody is looked at
    const behind = this.parked.reduce((n, { slot }) => n + (slot.lane?.waiting ?? 0), 0)
    const all = this.order === "partition" && this.parked.length > 0
    same(backlog.behindParked, all ? waiting.size : behind, "behind parked ones")
  }

  /** everything is let go of: nothing is left */
  end(): void {
    this.step({ do: "epoch", really: 0, stays: [] })
    for (const one of this.zombies.splice(0)) this.letGo(one)
    same(this.lanes?.size ?? 0, 0, "lanes")
    same(this.lanes?.waiting ?? 0, 0, "records in lanes")
  }

  /** all that are due or next may start, and whoever starts ends: what is behind them in their lanes comes too, in its order */
  playOut(): void {
    const everything = Number.POSITIVE_INFINITY
    for (const one of this.zombies.splice(0)) this.letGo(one)
    while (this.parked.length > 0) this.step({ do: "unpark", which: 0, over: true })
    while (this.failed.length > 0) this.step({ do: "due", which: 0 })
    while (this.running.length > 0) this.step({ do: "end", which: 0 })
    const newest = new Map<number, number>()
    while (this.startable(everything).length > 0) {
      this.take(everything)
      const [one] = this.running
      const lane = this.laneOf(one!.key)
      if (lane !== undefined) {
        holds(one!.seq > (newest.get(lane) ?? -1), `I4: ${one!.seq} after ${newest.get(lane)}`)
        newest.set(lane, one!.seq)
      }
      this.step({ do: "end", which: 0 })
    }
    same(this.waiting.size + this.due.length, 0, "are left")
  }
}

for (const order of ["unordered", "key", "partition"] as const) {
  it.prop(
    `${order}: I4: over retries, parking, zombies and epochs one record of a lane at a time, each found when it may start, in a fair order`,
    [Schema.Array(Step), Schema.Boolean],
    ([steps, plays]) => {
      const world = new World(order)
      for (const step of steps) {
        world.step(step)
        world.look()
      }
      if (plays) world.playOut()
      world.look()
      world.end()
    },
    { arbitrary: { runs: 600, size: 100 } }
  )
}
