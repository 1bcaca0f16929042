/**
 * What both group protocols have in common when partitions go: they are held until the engine has answered, and before anything of them is
 * committed the coordinator is asked what their topics are now. Those that come are in `starts.ts`.
 */
import type { EpochPartition } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type { TopicMetadata } from "../Broker.ts"
import { Absence, absencePause } from "./absence.ts"
import { fromCode, isFatal } from "./classify.ts"
import { isAnotherTopic, isCut } from "./doubts.ts"
import { keyOf } from "./offsets.ts"
import { ask, backoff, type Owned, type SessionState } from "./state.ts"

/** Another member has our instance id. It ends us, and we do not take it back: two of them would throw each other out for ever. */
export const fenced = ({ settings: { groupId, instanceId } }: SessionState): KafkaClientError =>
  fromCode("FENCED_INSTANCE_ID", `another member of group ${groupId} has the instance id ${instanceId}`)

/** milliseconds in which a coordinator that is well answers: a question that the whole group waits for is given no longer */
export const atOnce = 500

/** How a hold has ended: by the engine's answer, by its time, or with the membership. */
export type HoldEnd = "answered" | "over" | "evicted"

/** Until the membership ends. */
const whileMember = <A>(state: SessionState, effect: Effect.Effect<A>): Effect.Effect<A | "evicted"> =>
  Effect.suspend(() => {
    const evicted = Deferred.makeUnsafe<void>()
    state.evicted = evicted
    return Effect.ensuring(
      Effect.raceFirst(effect, Effect.as(Deferred.await(evicted), "evicted" as const)),
      Effect.sync(() => {
        if (state.evicted === evicted) state.evicted = undefined
      })
    )
  })

/**
 * Waits until the engine has drained and flushed, at most `within` milliseconds. Heartbeats go on meanwhile, in a loop of their own; they
 * renew the session. When they find the membership gone, `Lost` is offered and the hold ends.
 */
export const hold = (
  state: SessionState,
  partitions: ReadonlyArray<EpochPartition>,
  exact: boolean,
  within = state.settings.revokeTimeout
): Effect.Effect<HoldEnd> =>
  Effect.suspend(() => {
    if (partitions.length === 0) return Effect.succeed("answered" as const)
    const acknowledged = Latch.makeUnsafe(false)
    state.offer({
      _tag: "Revoking",
      partitions,
      exact,
      hold: within,
      acknowledgeUnsafe: () => {
        acknowledged.openUnsafe()
      }
    })
    return whileMember(state, Effect.as(acknowledged.await, "answered" as const)).pipe(
      Effect.timeoutOption(within),
      Effect.map(Option.getOrElse((): HoldEnd => "over"))
    )
  })

/**
 * What is left of a hold before which something is asked from here on. The questions may take from what the group waits for longer than for
 * the hold, so that a quick answer takes nothing of that.
 */
const holdFrom = ({ settings: { rebalanceTimeout, revokeTimeout } }: SessionState): (() => number) => {
  const began = performance.now()
  const spare = (rebalanceTimeout - revokeTimeout) / 2
  return () => Math.max(0, Math.ceil(revokeTimeout + Math.min(0, spare + began - performance.now())))
}

/** What may be committed and then given up, and for how many milliseconds it can be held. */
export interface Leaving {
  readonly partitions: ReadonlyArray<Owned>
  readonly within: number
}

/**
 * Ends what is not there any more of what should be given up, before anything of it is committed.
 *
 * A topic that was deleted is taken back as one is that goes to another member. Of that one nothing may be committed any more: a commit
 * names the topic, and would be taken for the next one of that name. So the coordinator is asked first what has become of it: who takes
 * the commits knows best which topic they would be for, and when it hears that one is gone it deletes what it has taken for it.
 *
 * - Until it has said so nothing is committed of what goes: commits are deferred, from the moment on in which it is known that it goes
 *   (`SessionState.question`), which may be long before this is done. Nor is anything more of it fetched.
 * - That it does not know the topic is believed as the watcher believes it.
 * - Who gets no answer within the hold has lost the partitions: what is handled twice does less harm than what is never handled.
 */
export const endGone = (state: SessionState, leaving: () => ReadonlyArray<Owned>): Effect.Effect<Leaving> =>
  Effect.suspend(() => {
    const { revokeTimeout } = state.settings
    const within = holdFrom(state)
    const there = new Set<string>()
    const absences = new Map<string, Absence>()
    /** of what the engine does not know it can commit nothing */
    const isKnown = ({ announced, topic }: Owned) => !announced || there.has(topic)
    let doubtful: ReadonlyArray<Owned> = []
    const doubt = () => {
      doubtful = leaving().filter((owned) => !isKnown(owned))
      state.question(doubtful)
      return new Set(doubtful.map(({ topic }) => topic))
    }
    const ended = (why: "deleted" | "recreated", is: (owned: Owned) => boolean) => {
      const gone = new Set(leaving().filter(is))
      if (gone.size === 0) return
      state.gone(why, (owned) => gone.has(owned))
      state.look.openUnsafe()
    }
    /** Returns the milliseconds before the next question. */
    const judge = (topic: string, found: TopicMetadata | undefined): number => {
      const isThere = found?.code === "NONE"
      if (isThere && !leaving().some((owned) => owned.topic === topic && isCut(owned, found))) {
        ended("recreated", (owned) => owned.topic === topic && isAnotherTopic(owned, found.id))
        there.add(topic)
        return 0
      }
      if (found !== undefined && !isThere && found.code !== "UNKNOWN_TOPIC_OR_PARTITION") return backoff(1)
      const absence = absences.get(topic) ?? new Absence()
      absences.set(topic, absence)
      absence.again()
      if (absence.believed) ended(isThere ? "recreated" : "deleted", (owned) => owned.topic === topic)
      return absencePause
    }
    const questions = Effect.gen(function* () {
      let failures = 0
      for (let topics = doubt(); topics.size > 0; topics = doubt()) {
        const asked = [...topics]
        const read = yield* Effect.result(ask(async () => state.cluster.refresh(asked, await state.findCoordinator())))
        let pause = 0
        if (read._tag === "Success") {
          failures = 0
          pause = Math.max(...asked.map((topic) => judge(topic, read.success.get(topic))))
        } else {
          // the session ends here: the heartbeat that would meet it as well may have to wait for its answer
          if (isFatal(read.failure)) {
            state.fatal(Cause.fail(read.failure))
            return yield* Effect.never
          }
          state.look.openUnsafe()
          pause = backoff(++failures)
        }
        if (doubt().size > 0 && pause > 0) yield* Effect.sleep(pause)
      }
    })
    return whileMember(state, questions).pipe(
      Effect.timeoutOption(revokeTimeout),
      Effect.map(() => {
        // by name: the engine may have opened one anew
        const unanswered = new Set(doubtful.map(({ partition, topic }) => keyOf(topic, partition)))
        state.lose(leaving().filter((owned) => !isKnown(owned) && unanswered.has(keyOf(owned.topic, owned.partition))))
        // what goes only since the last answer, of another topic, is asked about next
        doubt()
        return { partitions: leaving().filter(isKnown), within: within() }
      })
    )
  })

/**
 * The same where all is given up at once and the group waits for it, before the hold in which it is committed: ends what the coordinator
 * knows to be another topic now. It is asked once, and not for long: who gets no answer, or hears that there is no such topic, goes on as if
 * he had not asked, and what is given to him again is compared by then.
 *
 * Returns the milliseconds that are left for the hold.
 */
export const endRecreated = (state: SessionState): Effect.Effect<number> =>
  Effect.suspend(() => {
    const { revokeTimeout } = state.settings
    const within = holdFrom(state)
    const held = [...state.owned.values()].filter(({ announced }) => announced)
    if (held.length === 0) return Effect.succeed(revokeTimeout)
    const topics = [...new Set(held.map(({ topic }) => topic))]
    state.question(held)
    return whileMember(
      state,
      Effect.ignore(
        Effect.map(
          ask(async () => state.cluster.refresh(topics, await state.findCoordinator())),
          (read) => {
            state.gone("recreated", (owned) => {
              const found = read.get(owned.topic)
              return found?.code === "NONE" && isAnotherTopic(owned, found.id)
            })
            // the assignment that is waited for brings it again: no other has to follow
            for (const topic of topics) if (read.get(topic)?.code === "NONE") state.orphaned.delete(topic)
          }
        )
      )
    ).pipe(
      Effect.timeoutOption(Math.min(atOnce, revokeTimeout / 2)),
      Effect.map(() => {
        state.question([])
        return within()
      })
    )
  })
