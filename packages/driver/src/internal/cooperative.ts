/**
 * The membership under the classic protocol with cooperative rebalances (KIP-429): a member keeps what it has while the group rebalances,
 * and gives up only what goes to others.
 *
 * A generation, in order:
 * 1. JoinGroup says what is owned. Records keep flowing; until SyncGroup is answered nothing is committed.
 * 2. What was owned and is given again stays as it is; commits go out in the new generation.
 * 3. Of what has come the committed offsets are read, then it is announced (`Assigned`): before what goes is drained, which it does not
 *    have to wait for. Nor does what goes wait for it for more than a moment: what a transaction is about to replace is read again in the
 *    next generation.
 * 4. What was owned and is not given any more was withheld by the leader: nobody else has it. It is held (`Revoking`, exact) until the
 *    engine has answered. Then the member joins again without it, and the next generation gives it to others.
 * 5. Otherwise until the group rebalances.
 *
 * Invariants:
 * - What is claimed is given to nobody else, and what is not claimed any more is not worked on ("only what moves is revoked, exactly, and
 *   nothing comes twice").
 * - What goes stands still only as long as that takes ("what goes does not wait for a transaction that what comes waits for").
 * - Nothing is called retained, or committed, over a generation that this member has not seen the end of ("a missed generation retains
 *   nothing").
 * - A generation that withheld something is followed by another one, whoever has died meanwhile ("what a static member should have given
 *   up before it went is given out"); but seldom where that changes nothing ("rounds that change nothing follow each other ever more slowly").
 *
 * What is held without a break needs no look at its committed offset when others come: nobody else could commit for it.
 */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { cooperativeProtocols } from "./assigner.ts"
import { atOnce, endGone, hold } from "./handover.ts"
import { claimOf, joining, type Leadership, type Way } from "./membership.ts"
import { keyOf } from "./offsets.ts"
import { rebalances } from "./rebalances.ts"
import { acquire, acquireRest, announceAll } from "./starts.ts"
import { epochOf, makeOwned, type Owned, type SessionState } from "./state.ts"

export const cooperative = (state: SessionState, leadership: Leadership): Effect.Effect<never, KafkaClientError> =>
  Effect.gen(function* () {
    /** topics of which the group has committed something */
    const known = new Set<string>()
    const untilRebalance = rebalances(state)
    while (true) {
      const { another, leaving } = yield* joining(state, leadership, way)
      // a new rebalance meanwhile: what has come is claimed by the next join, and read behind that
      if (leaving.length > 0) {
        const { generation } = state
        const acquiring = Effect.timeoutOption(acquire(state, known, false), atOnce)
        const acquired = yield* Effect.raceFirst(acquiring, Effect.asSome(state.rejoin.await))
        if (Option.isNone(acquired) && state.generation === generation) announceAll(state, known, new Set())
        yield* release(state, leaving, known)
      } else {
        const acquiring = Effect.andThen(acquire(state, known, false), acquireRest(state, known))
        yield* Effect.raceFirst(Effect.andThen(acquiring, Effect.never), untilRebalance(another))
      }
    }
  })

const way: Way = {
  // The generation that was heard of last, also of who owns nothing: a coordinator takes a follower that says what it has said before for
  // one that has not heard the answer, and begins no generation.
  protocols: (state) =>
    cooperativeProtocols(state.settings.topics, { ...claimOf(state), generation: state.announcedGeneration }),

  /**
   * A generation that was missed in between may have given a partition to somebody else, and that one may have committed: then it goes
   * without a word, and what comes back is another epoch. Otherwise what is not given any more is ours until we say so.
   */
  take: (state, assignment) => {
    const { cluster, generation, owned } = state
    const isUnbroken = ({ heldIn }: Owned) => generation === heldIn || generation === heldIn + 1
    const given = new Set<string>()
    for (const topic of state.settings.topics) {
      for (const partition of assignment[topic] ?? []) {
        const key = keyOf(topic, partition)
        given.add(key)
        const had = owned.get(key)
        if (had !== undefined && isUnbroken(had)) had.heldIn = generation
        else owned.set(key, makeOwned(topic, partition, generation, cluster.metadata.topics.get(topic)?.id))
      }
    }
    const leaving: Array<Owned> = []
    for (const [key, one] of owned) {
      if (given.has(key)) continue
      leaving.push(one)
      if (one.announced && isUnbroken(one)) one.heldIn = generation
      else owned.delete(key)
    }
    // Commits go out again from here on, and `release` comes behind what `acquire` reads: for what goes they wait until it has asked.
    state.question(leaving.filter((one) => state.isCurrent(one)))
    state.phase = "member"
    state.announcedGeneration = generation
    return leaving
  }
}

/** Gives up what is not ours any more; the next join says so. */
const release = (state: SessionState, leaving: ReadonlyArray<Owned>, known: ReadonlySet<string>): Effect.Effect<void> =>
  Effect.gen(function* () {
    const keys = leaving.map(({ partition, topic }) => keyOf(topic, partition))
    // in the epoch of now: the engine may have opened one anew
    const current = () => keys.flatMap((key) => state.owned.get(key) ?? [])
    const { partitions: told, within } = yield* endGone(state, current)
    const end = yield* hold(state, told.map(epochOf), true, within)
    if (end === "evicted") return
    let untold = end === "over"
    for (const one of current()) {
      untold ||= !told.includes(one)
      state.owned.delete(keyOf(one.topic, one.partition))
    }
    if (untold) announceAll(state, known, new Set())
  })
