/**
 * A session whose partitions end where they ended at the start: what comes after is not delivered, and not fetched any more.
 *
 * The consumer could not leave such records undone by itself: they would hold permits, and with lanes one of them starts while
 * records before the end still wait for others of their key ("leaves what comes after its start to the next one").
 */
import type { Chunk, EpochPartition, Session, Signal } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

const keyOf = ({ epoch, partition }: EpochPartition) => `${partition}/${epoch}`

export const ending = (
  session: Session,
  endOf: (partition: EpochPartition) => bigint
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function* () {
    const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    /** Partitions in their epochs that have not ended yet. */
    const open = new Set<string>()
    const isOpen = (p: EpochPartition) => open.has(keyOf(p))

    /** A fetch that was under way may bring more of a partition that has ended. */
    const cut = (chunk: Chunk): Chunk | undefined => {
      if (!isOpen(chunk)) return undefined
      const last = endOf(chunk)
      if (chunk.nextOffset < last) return chunk
      open.delete(keyOf(chunk))
      session.pauseUnsafe([chunk])
      // holes in front of the end: there may be nothing left to deliver, and it is passed all the same
      return { ...chunk, records: chunk.records.filter(({ offset }) => offset < last), nextOffset: last }
    }

    const pass = Effect.map(Queue.take(session.inbox), (signal) => {
      const passed = signal._tag === "Chunk" ? cut(signal) : signal
      if (passed !== undefined) Queue.offerUnsafe(inbox, passed)
    })
    yield* Effect.forkScoped(
      Effect.catchCause(Effect.forever(pass), (cause) => Effect.sync(() => Queue.failCauseUnsafe(inbox, cause)))
    )

    return {
      ...session,
      inbox,
      beginUnsafe: (starts) => {
        for (const start of starts) if (start.offset < endOf(start)) open.add(keyOf(start))
        session.beginUnsafe(starts)
        session.pauseUnsafe(starts.filter((p) => !isOpen(p)))
      },
      resumeUnsafe: (partitions) => session.resumeUnsafe(partitions.filter(isOpen))
    }
  })
