/**
 * Lanes: records of one topic-partition that must run one after another, in offset order. Pure.
 *
 * A lane is there while somebody holds it: a record whose handler runs, that waits for its retry, whose dead letter is being sent,
 * that is parked, or that is next; or a zombie, which keeps it over epochs and runs (I4). Records that find their lane taken wait in
 * it. When its last holder lets go, the hold passes to the next of them; when there is none, the lane is gone.
 *
 * Invariants (tests in `test/lanes.test.ts`, and `test/ordering.test.ts` for the whole engine):
 * - at most one record of a lane is handed out, zombies aside, and the next only when nobody holds it;
 * - records leave a lane in the order in which they came;
 * - a lane without holder and without record is not kept.
 */
import type { ConsumerRecord } from "../ConsumerRecord.ts"

/** A record that waits in its lane. */
export interface Laned {
  readonly record: ConsumerRecord
  readonly seq: number
  readonly at: number
}

export class Lane {
  readonly name: string
  /** how many hold it: more than one only where a zombie has outlived its record's time */
  holders = 1
  /** the record that holds it is parked */
  parked = false
  /** made when somebody waits: in most lanes nobody ever does */
  private queue: Array<Laned | undefined> | undefined = undefined
  private head = 0

  constructor(name: string) {
    this.name = name
  }

  get waiting(): number {
    return this.queue === undefined ? 0 : this.queue.length - this.head
  }
  /** Places in its queue, those of records that have just left included. */
  get places(): number {
    return this.queue?.length ?? 0
  }

  push(laned: Laned): void {
    if (this.queue === undefined) this.queue = [laned]
    else this.queue.push(laned)
  }

  shift(): Laned | undefined {
    const { queue } = this
    const first = queue?.[this.head]
    if (queue === undefined || first === undefined) return undefined
    // in a long lane it would be kept in memory behind those that wait
    queue[this.head] = undefined
    if (++this.head === queue.length) {
      this.queue = undefined
      this.head = 0
    } else if (this.head > 256 && this.head > queue.length >> 1) {
      this.queue = queue.slice(this.head)
      this.head = 0
    }
    return first
  }

  get first(): Laned | undefined {
    return this.queue?.[this.head]
  }
}

/** Which lane a record is in; `undefined`: in none. It may throw. */
export type LaneOf = (record: ConsumerRecord) => string | undefined

const latin1 = new TextDecoder("latin1")
/** what is given to a function as arguments must fit onto the stack */
const fewBytes = 1024

/** One lane for each key, by its bytes; null keys have none. **Cost**: 0.1 us for keys of some ten bytes. */
export const byKey: LaneOf = ({ key }) =>
  key === null
    ? undefined
    : key.byteLength <= fewBytes
      ? // `apply` takes whatever is like an array, its type names arrays only; a spread would take six times as long
        String.fromCharCode.apply(null, key as unknown as Array<number>)
      : latin1.decode(key)

/** The lanes of one topic-partition. */
export class Lanes {
  readonly of: LaneOf
  /** there is but one lane: nobody needs to look behind a record that waits */
  readonly single: boolean
  /** records that wait in a lane */
  waiting = 0
  /** of the newest epoch, maybe in a later run than that of a zombie that lets go: whoever waits is its */
  owner: { proceed(laned: Laned, lane: Lane): void } | undefined = undefined
  private readonly lanes = new Map<string, Lane>()

  constructor(of: LaneOf, single: boolean) {
    this.of = of
    this.single = single
  }

  get size(): number {
    return this.lanes.size
  }
  get all(): Iterable<Lane> {
    return this.lanes.values()
  }

  get(name: string): Lane | undefined {
    return this.lanes.get(name)
  }

  /** The first to hold a lane that is not there. */
  take(name: string): Lane {
    const lane = new Lane(name)
    this.lanes.set(name, lane)
    return lane
  }

  /** It waits until the lane is free. */
  wait(lane: Lane, laned: Laned): void {
    lane.push(laned)
    this.waiting++
  }

  /** One holder less. The record that holds the lane from now on, if this was the last one and there is one. */
  release(lane: Lane): Laned | undefined {
    if (--lane.holders > 0) return undefined
    const next = lane.shift()
    if (next === undefined) {
      this.lanes.delete(lane.name)
      return undefined
    }
    this.waiting--
    lane.holders = 1
    return next
  }

  /** Gives up everything that waits; who holds a lane keeps it. */
  drop(each: (laned: Laned) => void): void {
    for (const lane of this.lanes.values()) {
      for (let laned = lane.shift(); laned !== undefined; laned = lane.shift()) {
        this.waiting--
        each(laned)
      }
    }
  }
}
