/**
 * One consumer of several members: as many sessions of the group in this process, each with a committer, permits and limits of its own.
 *
 * - They share nothing but the service and its name, and the handler that runs: what is done to the service is done to each of them,
 *   or to the one that owns the partition.
 * - They end together: when one begins to fail all of them end, at once and side by side, so that `shutdownTimeout` bounds them all.
 *   The one that began is the first in the cause; what fails during its end is added.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { BatchCommitter } from "../BatchCommitter.ts"
import type { ConcurrentConsumerShape, GroupOptions, OnFailureArgs } from "../ConcurrentConsumer.ts"
import type { TopicPartition } from "../ConsumerRecord.ts"
import { ConsumerRegistry } from "../ConsumerRegistry.ts"
import { ConsumerSession } from "../ConsumerSession.ts"
import type { FailurePolicy } from "../FailurePolicy.ts"
import type { Handler } from "../Handler.ts"
import type { InvalidOptions } from "../InvalidOptions.ts"
import type { KafkaClient, KafkaClientError } from "../KafkaClient.ts"
import { alreadyRunning, makeMember, type Member, notOwned } from "./consumer.ts"
import { healthOfMembers, snapshotOfMembers } from "./memberViews.ts"
import { text, validated } from "./options.ts"
import type { RunFailure } from "./run.ts"
import { snapshotsOf } from "./snapshots.ts"
import { healthOf } from "./view.ts"

/** A group's options, and what the group reads. */
export type Subscribed = GroupOptions & { readonly topics: ReadonlyArray<string> }

/** Session and committer of one member, private. */
export const parts = (
  options: Subscribed
): Layer.Layer<ConsumerSession | BatchCommitter, InvalidOptions | KafkaClientError, KafkaClient> =>
  BatchCommitter.layer(options).pipe(Layer.provideMerge(ConsumerSession.layer(options)))

/** no two members have the same; the first keeps its name when others join it */
const instanceOf = ({ instanceId }: Subscribed, index: number): string | undefined =>
  instanceId === undefined || index === 0 ? instanceId : `${instanceId}-${index + 1}`

const side = { concurrency: "unbounded" } as const

/** The members, built and registered as one consumer. */
export const makeMembers = Effect.fnUntraced(function* (
  count: number,
  options: Subscribed,
  onEnd: "fail" | "report" | undefined,
  policy: FailurePolicy<never, unknown> | undefined
): Effect.fn.Return<ConcurrentConsumerShape, InvalidOptions | KafkaClientError, KafkaClient | Scope.Scope> {
  const clock = yield* Clock.Clock
  const registry = yield* ConsumerRegistry
  const wanted = yield* validated(() => (options.name === undefined ? undefined : text("name", options.name)))
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const connected = yield* Effect.forEach(
    Array.from({ length: count }, (_, index) => parts({ ...options, instanceId: instanceOf(options, index) })),
    Effect.fnUntraced(function* (layer) {
      const own = yield* Scope.fork(scope)
      return { own, context: yield* Layer.buildWithScope(layer, own) }
    }),
    side
  )
  // from here to the registration nothing waits: nobody else gets the name in between
  const name = wanted ?? registry.nameFor(options.groupId)
  const members = yield* Effect.forEach(connected, ({ context, own }, index) =>
    Effect.tap(makeMember({ ...options, name: `${name}/${index + 1}` }, registry.nameFor, policy), ({ close }) =>
      Scope.addFinalizer(own, close)
    ).pipe(Scope.provide(own), Effect.provideContext(context))
  )
  const shape = shapeOf(name, members, clock)
  yield* registry.register(shape, { onEnd })
  // before the registration ends: who reads the registry during a drain sees "shuttingDown", not ready
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  return shape
})

const shapeOf = (name: string, members: ReadonlyArray<Member>, clock: Clock.Clock): ConcurrentConsumerShape => {
  const failed = Deferred.makeUnsafe<never, RunFailure>()
  const now = (): number => clock.currentTimeMillisUnsafe()
  const views = () => members.map(({ view }) => view())
  const ownerOf = (p: TopicPartition): Member | undefined => members.find(({ owns }) => owns(p))
  let running = false

  /** all of the partitions, or none */
  const pausing = (paused: boolean) => (partitions?: ReadonlyArray<TopicPartition>) =>
    Effect.suspend(() => {
      const missing = partitions?.find((p) => ownerOf(p) === undefined)
      if (missing !== undefined) return notOwned(missing)
      for (const { setPaused } of members) setPaused(paused, partitions)
      return Effect.void
    })

  const snapshot = Effect.sync(() => snapshotOfMembers(name, views(), now()))

  return {
    name,
    run: <E, R, RP = never>(
      handler: Handler<E, R>,
      ...[options]: OnFailureArgs<E, RP>
    ): Effect.Effect<void, RunFailure, R | RP> =>
      Effect.andThen(
        Effect.forEach(members, ({ check }) => check(handler, options?.onFailure), { discard: true }),
        Effect.acquireUseRelease(
          Effect.suspend(() => {
            if (running) return alreadyRunning
            running = true
            return Effect.void
          }),
          () => runAll(members, ({ run }, failing) => run(handler, options?.onFailure, failing)),
          (_, exit) =>
            Effect.sync(() => {
              running = false
              if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
                Deferred.doneUnsafe(failed, Exit.failCause(exit.cause))
                return
              }
              // interrupted while the others ended with one that has failed: that one does not run again, and so does none
              for (const { failed: its } of views()) {
                if (its !== undefined) Deferred.doneUnsafe(failed, Exit.fail(its.error))
              }
            })
        )
      ),
    health: Effect.sync(() =>
      healthOfMembers(views().map((view) => ({ name: view.name, health: healthOf(view, now()) })))
    ),
    snapshot,
    snapshots: snapshotsOf(snapshot),
    failure: Deferred.await(failed),
    setConcurrency: (n) => Effect.forEach(members, ({ shape }) => shape.setConcurrency(n), { discard: true }),
    pause: pausing(true),
    resume: pausing(false),
    seek: (partition, to) => Effect.suspend(() => ownerOf(partition)?.shape.seek(partition, to) ?? notOwned(partition)),
    // each to its end: the failure of one does not keep the others from committing
    flush: Effect.flatMap(
      Effect.forEach(members, ({ shape }) => Effect.exit(shape.flush), side),
      (exits) => combined(exits) ?? Effect.succeed(exits.flatMap((exit) => (Exit.isSuccess(exit) ? exit.value : [])))
    )
  }
}

/** The failures of these together, the first one first; nothing where all succeeded. */
const combined = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>): Effect.Effect<never, E> | undefined => {
  const causes = exits.flatMap((exit) => (Exit.isFailure(exit) ? [exit.cause] : []))
  return causes.length === 0 ? undefined : Effect.failCause(causes.reduce((a, b) => Cause.combine(a, b)))
}

/**
 * Runs all until all have ended.
 *
 * The first that begins to fail ends the others with it. It says so when its own end begins: with a drain it has ended only
 * `shutdownTimeout` later, and theirs would come on top. They are told a turn later: who says so may stand in the middle of the pump.
 */
const runAll = <E, R>(
  members: ReadonlyArray<Member>,
  run: (member: Member, failing: () => void) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> =>
  Effect.suspend(() => {
    const failing = new Set<Member>()
    const oneFails = Deferred.makeUnsafe<void>()
    const fails = (member: Member) => (): void => {
      failing.add(member)
      Deferred.doneUnsafe(oneFails, Exit.void)
    }
    const exits = new Map<Member, Exit.Exit<void, E>>()
    const all = Effect.forEach(
      members,
      (member) =>
        Effect.map(Effect.exit(run(member, fails(member))), (exit) => {
          exits.set(member, exit)
          // refused before it began
          if (Exit.isFailure(exit)) fails(member)()
        }),
      { ...side, discard: true }
    )
    const endAll = Effect.andThen(
      Effect.andThen(Deferred.await(oneFails), Effect.yieldNow),
      Effect.forEach(members, ({ shutdown }) => shutdown, { ...side, discard: true })
    )
    return Effect.flatMap(
      Effect.raceFirst(all, Effect.andThen(endAll, Effect.never)),
      () => combined([...failing].flatMap((member) => exits.get(member) ?? [])) ?? Effect.void
    )
  })
