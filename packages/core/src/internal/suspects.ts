/**
 * Records that may block the event loop for longer than a session lasts: the broker gives the partition away, the record is delivered
 * again, blocks again, and so on for ever. Kafka does not count deliveries, so what can be known is what this process has seen: the
 * session was lost, the event loop had stood still, and the record was running.
 *
 * All that ran are suspected alike, as nobody knows who it was. Those suspected twice run one at a time, so that the third time only
 * the one that ran is suspected; then its next attempt fails without running, and the policy decides.
 *
 * Who ends after all is suspected no more, unless it ended in the standstill: then only once it is committed, because a commit of a
 * session that is lost is refused.
 *
 * A session that is lost while the event loop turns (a broken network, a broker that is away) says nothing of any record.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import type { ConsumerRecord, TopicPartition } from "../ConsumerRecord.ts"
import type { Slot } from "./slot.ts"

/** suspected so often, a record runs when no other such one does */
const alone = 2
/** and so often, no more */
const enough = 3
/** What becomes of a record whose turn has come, by its epoch: it is open, it may come back, it has ended. */
export type Begins = "now" | "later" | "never"

/** a broken process restarts before it has so many; the oldest are forgotten */
const mostSuspects = 10_000

interface Suspect extends TopicPartition {
  readonly offset: bigint
  readonly times: number
}

/** In place of an attempt; its span and dead letters have the message, too. */
export class SessionsLost extends Error {
  override readonly name = "SessionsLost"

  constructor(times: number) {
    super(
      `the session was lost ${times} times because the event loop stood still while this record ran; it is not run again. Work that computes for long belongs on a worker thread`
    )
  }
}

/** Over the runs of a consumer. */
export class Suspects {
  private readonly suspects = new Map<string, Suspect>()
  private readonly turn = Semaphore.makeUnsafe(1)
  /** attempts that have had to wait for their turn, and got it */
  private readonly alone = new WeakSet<Slot>()
  private holder: Slot | undefined = undefined
  /** opens when a partition that was going away has come back */
  private back = Latch.makeUnsafe(false)

  get some(): boolean {
    return this.suspects.size > 0
  }

  /** The session was lost because the event loop stood still, while these ran. */
  add(slots: Iterable<Slot>): void {
    for (const slot of slots) {
      const { offset, partition, topic } = slot
      const place = placeOf(slot)
      const times = this.timesOf(place)
      if (times >= alone && !this.alone.has(slot)) continue
      // newest last
      this.suspects.delete(place)
      this.suspects.set(place, { topic, partition, offset, times: times + 1 })
      if (this.suspects.size <= mostSuspects) continue
      const [oldest] = this.suspects.keys()
      this.suspects.delete(oldest!)
    }
  }

  /** It has ended after all. */
  clear(record: ConsumerRecord): void {
    this.suspects.delete(placeOf(record))
  }

  /** What lies in front of this does not come again. */
  committed(p: TopicPartition, offset: bigint): void {
    for (const [place, suspect] of this.suspects) {
      if (suspect.partition === p.partition && suspect.topic === p.topic && suspect.offset < offset) {
        this.suspects.delete(place)
      }
    }
  }

  /** A partition that was going away has come back. */
  cameBack(): void {
    const { back } = this
    this.back = Latch.makeUnsafe(false)
    back.openUnsafe()
  }

  /**
   * The attempt of a record that may be one of them. `turnComes`: when it would begin; whether it may. `spent`: what it is in place of an
   * attempt, once it is not run any more.
   */
  guard<E, R>(
    slot: Slot,
    attempt: Effect.Effect<unknown, E, R>,
    turnComes: (slot: Slot) => Begins,
    spent: (defect: Error) => Effect.Effect<unknown, E, R> = Effect.die
  ): Effect.Effect<unknown, E, R> {
    const times = this.timesOf(placeOf(slot))
    if (times < alone) return attempt
    if (times >= enough) return spent(new SessionsLost(times))
    slot.waitsForTurn = true
    return Effect.uninterruptibleMask((restore) => {
      const taken: Effect.Effect<unknown, E, R> = Effect.andThen(
        restore(this.turn.take(1)),
        Effect.suspend(() => {
          const turn = turnComes(slot)
          if (turn === "later") {
            // its partition is going away: it is not begun, and keeps nobody else from it
            const { back } = this
            return Effect.andThen(Effect.andThen(this.turn.release(1), restore(back.await)), taken)
          }
          slot.waitsForTurn = false
          this.holder = slot
          if (turn === "now") this.alone.add(slot)
          return Effect.ensuring(
            // never: its epoch has ended with the attempt before it, whose interruption has handed the turn on; its own is on its way
            restore(turn === "now" ? attempt : Effect.never),
            this.giveBack(slot)
          )
        })
      )
      return taken
    })
  }

  /**
   * Its attempt has ended, or is left behind: who ignores his interruption would else keep the others waiting for good. Run by a fiber of
   * the consumer, in whose turn the next one begins: run here and now, a thousand that do not begin would each begin the next.
   */
  giveBack(slot: Slot): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.holder !== slot) return Effect.void
      this.holder = undefined
      return Effect.asVoid(this.turn.release(1))
    })
  }

  private timesOf(place: string): number {
    return this.suspects.get(place)?.times ?? 0
  }
}

/** With its timestamp: where a log was cut, or its topic created again, another record has the offset of one that blocked. */
const placeOf = ({ offset, partition, timestamp, topic }: ConsumerRecord): string =>
  `${topic}/${partition}/${offset}/${timestamp}`
