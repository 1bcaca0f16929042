/**
 * A consumer on one session: its service, over its runs.
 *
 * It is also one member of a consumer that has several: `Member` is what those need of each beside its service. Nobody has registered
 * it, and nothing ends it when the scope closes, before whoever makes it says so with `close`: between the two stands the registration.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { BatchCommitter } from "../BatchCommitter.ts"
import type { ConcurrentConsumerShape, ConsumerOptions, OnFailureArgs } from "../ConcurrentConsumer.ts"
import { ConsumerError } from "../ConsumerError.ts"
import type { TopicPartition } from "../ConsumerRecord.ts"
import { ConsumerSession, type Session } from "../ConsumerSession.ts"
import { Diagnostics } from "../Diagnostics.ts"
import type { FailurePolicy } from "../FailurePolicy.ts"
import type { Handler } from "../Handler.ts"
import { LoopDelay } from "../Health.ts"
import { InvalidOptions } from "../InvalidOptions.ts"
import { OffsetMap } from "../OffsetMap.ts"
import { Traces } from "../Traces.ts"
import { Pause, type PartitionEpoch } from "./epoch.ts"
import type { Lanes } from "./lanes.ts"
import { LateLooks } from "./lateLooks.ts"
import { limit, validateConsumer, validated, validatePolicy } from "./options.ts"
import { Permits } from "./permits.ts"
import { ConsumerRun, type RunFailure } from "./run.ts"
import type { Slot } from "./slot.ts"
import { snapshotsOf } from "./snapshots.ts"
import { Counters, keyOf } from "./state.ts"
import { Suspects } from "./suspects.ts"
import { healthOf, snapshotOf, type Viewed } from "./view.ts"

export interface Member {
  readonly shape: ConcurrentConsumerShape
  readonly view: () => Viewed
  readonly owns: (p: TopicPartition) => boolean
  /** Fails where `run` with these would, whether or not one runs already. */
  readonly check: <E, R, RP>(
    handler: Handler<E, R>,
    policy: FailurePolicy<E, RP> | undefined
  ) => Effect.Effect<void, ConsumerError>
  /** `run`; `failing` is called when it begins to end by failure, which may be long before it has ended. */
  readonly run: <E, R, RP>(
    handler: Handler<E, R>,
    policy: FailurePolicy<E, RP> | undefined,
    failing: () => void
  ) => Effect.Effect<void, RunFailure, R | RP>
  /** Those of the partitions that it owns; the whole of it without. */
  readonly setPaused: (paused: boolean, partitions: ReadonlyArray<TopicPartition> | undefined) => void
  /** Ends what runs, in order. */
  readonly shutdown: Effect.Effect<void>
  /** The same for good. */
  readonly close: Effect.Effect<void>
}

const refused = (reason: ConsumerError["reason"]): Effect.Effect<never, ConsumerError> =>
  Effect.fail(new ConsumerError({ reason }))

export const alreadyRunning = refused({ _tag: "AlreadyRunning" })

export const notOwned = ({ partition, topic }: TopicPartition): Effect.Effect<never, ConsumerError> =>
  refused({ _tag: "NotOwned", topic, partition })

const attached = new WeakSet<Session>()

export const makeMember = Effect.fnUntraced(function* (
  options: ConsumerOptions,
  nameFor: (groupId: string) => string,
  /** what its handler's failures will be decided by, where that is known already */
  policy?: FailurePolicy<never, unknown>
): Effect.fn.Return<Member, InvalidOptions, ConsumerSession | BatchCommitter | Scope.Scope> {
  const session = yield* ConsumerSession
  const committer = yield* BatchCommitter
  const clock = yield* Clock.Clock
  const settings = yield* validateConsumer(options, session.settings, session.capabilities.commitMetadata)
  yield* validatePolicy(policy, settings, session)
  yield* Effect.acquireRelease(
    Effect.suspend(() => {
      if (attached.has(session)) {
        return Effect.fail(
          new InvalidOptions({
            option: "ConsumerSession",
            value: session.settings.groupId,
            accepted: "a session that no other consumer runs on: give each consumer its own"
          })
        )
      }
      attached.add(session)
      return Effect.void
    }),
    () => Effect.sync(() => attached.delete(session))
  )
  const now = (): number => clock.currentTimeMillisUnsafe()
  const counters = new Counters()
  const permits = new Permits(settings.concurrency)
  const lanes = new Map<string, Lanes>()
  const zombies = new Set<Slot>()
  const suspects = new Suspects()
  const warned = new Set<string>()
  const name = settings.name ?? nameFor(session.settings.groupId)
  const failed = Deferred.makeUnsafe<never, RunFailure>()
  const startedAt = now()
  const zstd = yield* OffsetMap.Zstd
  const loopDelay = yield* LoopDelay
  const lateLooks = loopDelay === undefined ? undefined : new LateLooks()
  if (loopDelay?.sessionUnsafe !== undefined) {
    const { sessionUnsafe } = loopDelay
    const { groupProtocol, sessionTimeout } = session.settings
    yield* Effect.acquireRelease(
      Effect.sync(() => sessionUnsafe(name, sessionTimeout, groupProtocol !== "consumer")),
      (over) => Effect.sync(over)
    )
  }
  const traces = yield* Traces
  let run: ConsumerRun | undefined
  let idleSince: number | undefined
  let ended: Viewed["failed"]
  let userPausedSince: number | undefined
  let closed = false

  const view = (): Viewed => ({
    name,
    session,
    settings,
    counters,
    permits,
    zombies,
    loopDelay,
    lateLooks,
    startedAt,
    run,
    idleSince,
    failed: ended,
    userPausedSince
  })

  const owned = (p: TopicPartition): PartitionEpoch | undefined => {
    const epoch = run?.state.epochs.get(keyOf(p))
    return epoch === undefined || epoch.closing ? undefined : epoch
  }

  const fibers = yield* FiberSet.make<unknown, unknown>()

  const check: Member["check"] = (handler, policy) =>
    Effect.suspend(() => {
      if (ended !== undefined || closed) return refused({ _tag: "Ended" })
      const { topics } = session.settings
      if ([...handler.topics].sort().join() !== [...topics].sort().join()) {
        return refused({ _tag: "TopicsDiffer", handler: handler.topics, session: topics })
      }
      return Effect.catch(validatePolicy(policy, settings, session), (error) => refused({ _tag: "Options", error }))
    })

  const runMember = <E, R, RP>(
    handler: Handler<E, R>,
    policy: FailurePolicy<E, RP> | undefined,
    failing: () => void
  ): Effect.Effect<void, RunFailure, R | RP> =>
    Effect.gen(function* () {
      yield* check(handler, policy)
      const context = yield* Effect.context<R | RP>()
      const fork = yield* FiberSet.runtime(fibers)<never>()
      const diagnostics = yield* Diagnostics
      return yield* Effect.acquireUseRelease(
        Effect.suspend(() => {
          // in one step with the beginning: nobody else can come in between
          if (run !== undefined) return alreadyRunning
          idleSince = undefined
          run = new ConsumerRun({
            session,
            committer,
            settings,
            counters,
            permits,
            lanes,
            zombies,
            suspects,
            lateLooks,
            warned,
            diagnostics,
            zstd,
            clock,
            userPaused: () => userPausedSince !== undefined,
            freed: (p) => run?.pump.freed(p),
            failing,
            handler: handler as Handler<unknown, never>,
            policy: policy as FailurePolicy<unknown, never> | undefined,
            traces,
            // what a handler sends is traced where its consumer is, whoever runs it
            context: (traces === undefined ? context : Context.add(context, Traces, traces)) as Context.Context<never>,
            fork
          })
          return Effect.succeed(run)
        }),
        (started) => started.live,
        (started, exit) =>
          Effect.andThen(
            started.shutdown,
            Effect.sync(() => {
              run = undefined
              const cause = Exit.isFailure(exit) ? exit.cause : undefined
              if (cause === undefined || Cause.hasInterruptsOnly(cause)) {
                idleSince = now()
                return
              }
              const reason = cause.reasons.find((r) => r._tag === "Fail")
              if (reason === undefined) return
              ended = { at: now(), error: reason.error }
              Deferred.doneUnsafe(failed, Exit.failCause(cause))
            })
          )
      )
    })

  const setPaused: Member["setPaused"] = (paused, partitions) => {
    if (partitions === undefined) {
      userPausedSince = paused ? (userPausedSince ?? now()) : undefined
      run?.pauseAll(paused)
      return
    }
    for (const p of partitions) {
      const epoch = owned(p)
      if (run === undefined || epoch === undefined) continue
      if (paused) run.held.pause(epoch, Pause.user)
      else if (userPausedSince === undefined) {
        run.held.resume(epoch, Pause.user)
        run.pump.offer(epoch)
      }
    }
    run?.pump.pump()
  }

  /** of some partitions, all or none of them */
  const pausing = (paused: boolean) => (partitions?: ReadonlyArray<TopicPartition>) =>
    Effect.suspend(() => {
      const missing = partitions?.find((p) => owned(p) === undefined)
      if (missing !== undefined) return notOwned(missing)
      setPaused(paused, partitions)
      return Effect.void
    })

  const shutdown: Effect.Effect<void> = Effect.suspend(() => run?.shutdown ?? Effect.void)

  const snapshot = Effect.sync(() => snapshotOf(view(), now()))

  const shape: ConcurrentConsumerShape = {
    name,
    run: <E, R, RP = never>(
      handler: Handler<E, R>,
      ...[options]: OnFailureArgs<E, RP>
    ): Effect.Effect<void, RunFailure, R | RP> => runMember(handler, options?.onFailure, () => undefined),
    health: Effect.sync(() => healthOf(view(), now())),
    snapshot,
    snapshots: snapshotsOf(snapshot),
    failure: Deferred.await(failed),
    setConcurrency: (n) =>
      Effect.map(
        validated(() => limit("concurrency", n, 10)),
        (checked) => {
          permits.resize(checked)
          run?.pump.pump()
        }
      ),
    pause: pausing(true),
    resume: pausing(false),
    seek: (partition, to) =>
      Effect.suspend(() => {
        const epoch = owned(partition)
        const next = epoch === undefined ? undefined : run!.intake.seek(epoch, to)
        if (next === undefined) return notOwned(partition)
        return Effect.flatMap(next.started, (opened) => (opened ? Effect.void : notOwned(partition)))
      }),
    flush: committer.flush()
  }

  return {
    shape,
    view,
    owns: (p) => owned(p) !== undefined,
    check,
    run: runMember,
    setPaused,
    shutdown,
    close: Effect.suspend(() => {
      closed = true
      return shutdown
    })
  }
})
