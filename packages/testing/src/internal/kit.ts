/**
 * The kit of a program: its processes, the clock, and what is seen of it from the broker's side.
 */
import type { EncodeError } from "@concurrent-kafka/core/Codec"
import { Topic } from "@concurrent-kafka/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type * as TestClock from "effect/testing/TestClock"
import type { ExpectationFailed } from "../ExpectationFailed.ts"
import { MemoryKafka, type Cluster, type NewRecord, type Written } from "../MemoryKafka.ts"
import type { KitMember, KitOptions, ProgramKit } from "../TestKit.ts"
import { expectValues, failed } from "./expect.ts"
import { nameOf, valueOf } from "./letters.ts"
import { begin, kill, type Life, type Provided } from "./lives.ts"
import { Turns } from "./turns.ts"
import { Views } from "./views.ts"

/** Steps of the clock, in milliseconds: small enough for promises between two timers, large enough for an hour. */
const leastStep = 50
const greatestStep = 1_000
/** While a group comes to rest. */
const restStep = 250
/** The group must be at rest within this time: more than all its timeouts together. */
const restLimit = 300_000
/** Nothing that ends takes so many turns without time. */
const maxTurns = 100_000
/** Turns without anything to do after which there is nothing to do: a promise may need some. */
const quietTurns = 3

const isTestClock = (clock: Clock.Clock): clock is TestClock.TestClock => "adjust" in clock

/** What a kit that sees its handler's runs adds. */
export interface Sight {
  /** lines about what became of the records, of one topic or of all */
  readonly lines: (topic: string | undefined) => ReadonlyArray<string>
  /** nothing of this process goes on */
  readonly gone: (process: string) => void
  /** what the group reads, where that is known before it reads */
  readonly reads: { readonly groupId: string; readonly topics: ReadonlyArray<string> } | undefined
}

export interface OpenKit<E> extends ProgramKit<E> {
  readonly state: (topic: string | undefined) => ReadonlyArray<string>
}

const blind: Sight = { lines: () => [], gone: () => {}, reads: undefined }

export const openKit = <E, R>(
  programOf: (member: string) => Layer.Layer<never, E, R>,
  options: KitOptions,
  sightOf: (views: Views) => Sight = () => blind
): Effect.Effect<OpenKit<E>, E | ExpectationFailed, Scope.Scope | Exclude<R, Provided>> =>
  Effect.gen(function* () {
    const outside = yield* Effect.context<Exclude<R, Provided>>()
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    // its warning that nobody moves the clock would be a fiber of the first process that sleeps: when that is killed, whoever moves
    // the clock then interrupts the warning and waits for it for ever
    if (isTestClock(clock)) yield* clock.adjust(0)
    const turns = new Turns(yield* Scheduler.Scheduler)
    const closing = Scope.makeUnsafe()
    // not waited for: it would wait for the sessions of processes that were killed, whose fibers never end
    yield* Effect.addFinalizer(() =>
      Effect.andThen(Effect.forkDetach(Scope.close(closing, Exit.void)), Effect.yieldNow)
    )
    const made = yield* MemoryKafka.make(options.kafka).pipe(
      Scope.provide(closing),
      Effect.provideContext(turns.contextOf({ isDead: false }))
    )
    const cluster: Cluster = {
      ...made,
      createTopic: (topic, settings) =>
        Effect.tap(made.createTopic(topic, settings), () => Effect.sync(() => views.topics.add(topic)))
    }
    const lives: Array<Life<E>> = []
    const living = () => lives.filter((life) => !life.isDead && life.exit === undefined)
    const snapshotsUnsafe = () =>
      living().flatMap((life) => {
        const consumers = Effect.runSync(life.registry.consumers)
        return consumers.map((consumer) => Effect.runSync(Effect.provideContext(consumer.snapshot, timeOnly)))
      })
    const timeOnly = Context.make(Clock.Clock, clock)
    const views = new Views(cluster, snapshotsUnsafe)
    for (const [topic, partitions] of Object.entries(options.topics ?? {})) {
      yield* cluster.createTopic(topic, { partitions })
    }

    // -------------------------------------------------------------------------------------------- the clock

    const settled: Effect.Effect<void, ExpectationFailed> = Effect.gen(function* () {
      for (let quiet = 0, turn = 0; quiet < quietTurns; turn++) {
        if (turn > maxTurns) {
          return yield* failed(
            "nothing is left to do but to wait for the clock",
            "quiet",
            `still busy after ${maxTurns} turns`,
            state(undefined)
          )
        }
        yield* Effect.yieldNow
        quiet = turns.pending === 0 ? quiet + 1 : 0
      }
    })
    const advance = (duration: Duration.Input): Effect.Effect<void, ExpectationFailed> =>
      Effect.gen(function* () {
        yield* settled
        const total = Duration.toMillis(duration)
        const step = Math.min(greatestStep, Math.max(leastStep, total / 100))
        for (let left = total; left > 0; left -= step) {
          const ms = Math.min(left, step)
          yield* isTestClock(clock) ? clock.adjust(ms) : clock.sleep(Duration.millis(ms))
          yield* settled
        }
      })
    /** Moves the clock until there is no reason left to wait, or the time is up. */
    const until = (
      expectation: string,
      limit: number,
      reason: () => string | undefined
    ): Effect.Effect<void, ExpectationFailed> =>
      Effect.gen(function* () {
        const end = now() + limit
        for (;;) {
          yield* settled
          const why = reason()
          if (why === undefined) return
          if (now() >= end) return yield* failed(expectation, `within ${limit / 1000} s`, why, state(undefined))
          yield* advance(Math.min(restStep, Math.max(1, end - now())))
        }
      })

    const state = (topic: string | undefined) => [...sight.lines(topic), ...views.state(topic)]
    const sight = sightOf(views)
    if (sight.reads !== undefined) views.willRead(sight.reads.groupId, sight.reads.topics)

    // -------------------------------------------------------------------------------------------- processes

    const unrest = (): string | undefined => {
      const unborn = living().find((life) => !life.isBuilt)
      return unborn === undefined
        ? views.unrest(new Set(living().map((life) => life.name)))
        : `${unborn.name} is being built`
    }
    const rest = until("the group is at rest", restLimit, unrest)

    const start = (name: string): Effect.Effect<Life<E>> =>
      Effect.sync(() => {
        const life = begin({
          name,
          program: programOf(name),
          outside,
          cluster,
          client: options.kafka ?? {},
          inside: (self) => turns.contextOf(self)
        })
        lives.push(life)
        return life
      })
    const killed = (life: Life<E>) =>
      Effect.sync(() => {
        kill(life, cluster)
        sight.gone(life.name)
      })
    const closed = (life: Life<E>): Effect.Effect<void, ExpectationFailed> =>
      Effect.suspend(() => {
        if (life.isDead) return Effect.void
        life.fiber.interruptUnsafe()
        return Effect.andThen(
          until(`${life.name} closes`, restLimit, () => (life.exit === undefined ? "it is still open" : undefined)),
          Effect.sync(() => sight.gone(life.name))
        )
      })

    let own: Life<E>
    let ownLives = 0
    const startOwn = Effect.gen(function* () {
      own = yield* start(ownLives++ === 0 ? "m1" : `m1.${ownLives}`)
      yield* rest
    })
    yield* Effect.addFinalizer(() =>
      Effect.forEach(living(), (life) => Effect.catch(closed(life), () => killed(life)), {
        discard: true,
        concurrency: "unbounded"
      })
    )
    let joined = 1
    const join: ProgramKit<E>["join"] = Effect.gen(function* () {
      const life = yield* start(`m${++joined}`)
      yield* rest
      const member: KitMember = {
        name: life.name,
        held: Effect.sync(() =>
          cluster
            .sessionsUnsafe()
            .filter((session) => session.clientId === life.name && session.isOpenUnsafe())
            .flatMap((session) => session.heldUnsafe().map(({ partition, topic }) => ({ topic, partition })))
        ),
        leave: Effect.andThen(closed(life), rest),
        kill: Effect.andThen(killed(life), rest)
      }
      return member
    })

    const deadLetters: ProgramKit["deadLetters"] = (topic) =>
      Effect.suspend(() =>
        Effect.forEach(views.lettersOf(nameOf(topic)), ({ letter, record, topic: lies }) =>
          Effect.map(valueOf(topic, record), (value) => ({ topic: lies, record, letter, value }))
        )
      )
    const expectDeadLetters: ProgramKit["expectDeadLetters"] = (topic, values) =>
      Effect.flatMap(deadLetters(topic), (letters) =>
        expectValues(
          `the records of ${nameOf(topic)} that have dead letters`,
          values,
          letters.map(({ value }) => value),
          () => state(nameOf(topic))
        )
      )
    function produce<K, V, H, RD, RE>(
      topic: Topic<K, V, H, RD, RE>,
      value: V,
      settings?: {
        readonly key?: K | undefined
        readonly headers?: H | undefined
        readonly partition?: number | undefined
      }
    ): Effect.Effect<Written, EncodeError, RE>
    function produce(topic: string, records: NewRecord | Iterable<NewRecord>): Effect.Effect<ReadonlyArray<Written>>
    function produce<K, V, H, RD, RE>(
      topic: Topic<K, V, H, RD, RE> | string,
      value: V | NewRecord | Iterable<NewRecord>,
      settings?: {
        readonly key?: K | undefined
        readonly headers?: H | undefined
        readonly partition?: number | undefined
      }
    ) {
      if (typeof topic === "string") {
        const records = value as NewRecord | Iterable<NewRecord>
        return cluster.produce(topic, Symbol.iterator in records ? records : [records])
      }
      return Effect.flatMap(Topic.encode(topic, value as V, settings), ({ headers, key, value: bytes }) =>
        Effect.map(
          cluster.produce(topic.name, [{ key, value: bytes, headers, partition: settings?.partition }]),
          ([written]) => written!
        )
      )
    }

    const kit: OpenKit<E> = {
      cluster,
      state,
      produce,
      settled,
      advance,
      caughtUp: (settings) =>
        until(
          "everything that was produced is committed",
          settings?.within === undefined ? (isTestClock(clock) ? 600_000 : 10_000) : Duration.toMillis(settings.within),
          () => views.lag()
        ),
      committed: Effect.sync(() => views.committed()),
      expectCommitted: (topic, offsets) =>
        Effect.suspend(() => {
          const found = views.committed().filter((view) => topic === undefined || view.topic === topic)
          if (offsets === undefined) {
            return found.some((view) => views.isBehind(view))
              ? Effect.fail(
                  failed(
                    `everything that was produced${topic === undefined ? "" : ` to ${topic}`} is committed`,
                    found.map((view) => view.end),
                    found.map((view) => view.committed),
                    state(topic)
                  )
                )
              : Effect.void
          }
          const committed = found.map((view) => view.committed)
          return committed.length === offsets.length && committed.every((offset, i) => offset === offsets[i])
            ? Effect.void
            : Effect.fail(failed(`what is committed of ${topic}, by partition`, offsets, committed, state(topic)))
        }),
      deadLetters,
      expectDeadLetters,
      health: Effect.sync(() => views.health()),
      expectHealth: (...codes) =>
        Effect.suspend(() =>
          expectValues("what health says", [...new Set(codes)], views.health(), () => state(undefined))
        ),
      snapshots: Effect.sync(snapshotsUnsafe),
      failure: Effect.suspend(() => {
        const { exit } = own
        if (exit === undefined || Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return Effect.undefined
        const fail = exit.cause.reasons.find(Cause.isFailReason)
        return fail === undefined ? Effect.die(Cause.squash(exit.cause)) : Effect.succeed(fail.error)
      }),
      rebalance: Effect.gen(function* () {
        for (const groupId of views.groups) yield* cluster.rebalance(groupId)
        yield* rest
      }),
      join,
      crash: Effect.suspend(() => Effect.andThen(killed(own), startOwn)),
      restart: Effect.suspend(() => Effect.andThen(closed(own), startOwn)),
      loseMembership: Effect.suspend(() =>
        Effect.andThen(
          Effect.forEach(
            cluster.sessionsUnsafe().filter((session) => session.clientId === own.name && session.isOpenUnsafe()),
            (session) => session.evict,
            { discard: true }
          ),
          rest
        )
      ),
      failCommits: (times = 1, code = "COORDINATOR_LOAD_IN_PROGRESS") =>
        Effect.sync(() => cluster.faults.next("commit", { kind: "code", code }, { times })),
      failDeadLetters: (times = 1, code = "NOT_LEADER_OR_FOLLOWER") =>
        Effect.sync(() => cluster.faults.next("produce", { kind: "code", code }, { times }))
    }

    yield* startOwn
    const { exit } = own!
    // what a layer cannot be built with is the error of whoever asked for the kit
    if (exit !== undefined && Exit.isFailure(exit) && !own!.isBuilt)
      return yield* Effect.failCause(exit.cause as Cause.Cause<E>)
    return kit
  })
