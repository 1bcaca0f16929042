/**
 * Records that may block the event loop for longer than a session lasts: the broker gives the partition away, the record is delivered
 * again, blocks again, and so on for ever. Kafka does not count deliveries, so what can be known is what this process has seen: the
 * session was lost, the event loop had stood still, and the record was running.
 *
 * All that ran are suspected alike, as nobody knows who it was. Those suspected twice run one at a time, so that the third time only
 * the one that ran is suspected; then its next attempt fails without running, and the policy decides.
 *
 * A session that is lost while the event loop turns (a broken network, a broker that is away) says nothing of any record.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { Slot } from "./slot.ts"

/** suspected so often, a record runs when no other such one does */
const alone = 2
/** and so often, no more */
const enough = 3
/** a broken process restarts before it has so many; the oldest are forgotten */
const mostSuspects = 10_000

/** Over the runs of a consumer. */
export class Suspects {
  private readonly times = new Map<string, number>()
  private readonly turn = Semaphore.makeUnsafe(1)
  /** suspects that have had to wait for their turn, and have it */
  private readonly running = new WeakSet<Slot>()

  get some(): boolean {
    return this.times.size > 0
  }

  /** The session was lost because the event loop stood still, while these ran. */
  add(slots: Iterable<Slot>): void {
    for (const slot of slots) {
      const place = placeOf(slot)
      const times = this.times.get(place) ?? 0
      if (times >= alone && !this.running.has(slot)) continue
      // newest last
      this.times.delete(place)
      this.times.set(place, times + 1)
      if (this.times.size <= mostSuspects) continue
      const [oldest] = this.times.keys()
      this.times.delete(oldest!)
    }
  }

  /** It has ended after all. */
  clear(record: ConsumerRecord): void {
    this.times.delete(placeOf(record))
  }

  /** The attempt of a record that may be one of them. */
  guard<E, R>(slot: Slot, attempt: Effect.Effect<unknown, E, R>): Effect.Effect<unknown, E, R> {
    const times = this.times.get(placeOf(slot)) ?? 0
    if (times < alone) return attempt
    if (times >= enough) {
      return Effect.die(
        new Error(
          `the session was lost ${times} times because the event loop stood still while this record ran; it is not run again`
        )
      )
    }
    return this.turn.withPermits(1)(
      Effect.suspend(() => {
        this.running.add(slot)
        return attempt
      })
    )
  }
}

const placeOf = (record: ConsumerRecord): string => `${record.topic}/${record.partition}/${record.offset}`
