/**
 * What the behaviour tests share: a Kafka in memory, members whose handlers the test ends one by one, and a monitor that looks at
 * every commit (I1, I2) and at every transition of the engine's state machines while a test runs.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  type ClientOptions,
  type Cluster,
  type ClusterOptions,
  MemoryKafka,
  type MemorySession
} from "../../testing/src/index.ts"
import { ConcurrentConsumer, type ConcurrentConsumerShape, type GroupOptions } from "../src/ConcurrentConsumer.ts"
import type { Delivery } from "../src/ConsumerRecord.ts"
import { ConsumerRegistry, makeRegistry, type Registry } from "../src/ConsumerRegistry.ts"
import { Diagnostics } from "../src/Diagnostics.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import type { HealthCode } from "../src/Health.ts"
import { KafkaClient } from "../src/KafkaClient.ts"
import { KafkaProducer, type Producer } from "../src/KafkaProducer.ts"
import { OffsetMap } from "../src/OffsetMap.ts"
import type { Outcome } from "../src/Snapshot.ts"

/**
 * The first sleep under a TestClock that was never moved starts a warning, in an interruptible region of its own: in a finalizer of an
 * interrupted fiber that cuts the sleep.
 */
export const wake: Effect.Effect<void> = Effect.clockWith((clock) =>
  "adjust" in clock ? TestClock.adjust(0) : Effect.void
)

/** Lets everything happen that needs no moving clock. */
export const turns: Effect.Effect<void> = Effect.gen(function* () {
  for (let i = 0; i < 150; i++) yield* Effect.yieldNow
})

/** Moves the clock, and lets everything happen before and after it. */
export const pass = (millis: number): Effect.Effect<void> =>
  Effect.andThen(turns, Effect.andThen(TestClock.adjust(millis), turns))

/** Moves the clock in steps until it is so; fails after `most` milliseconds. */
export const passUntil = (what: string, isSo: () => boolean, most = 120_000, step = 100): Effect.Effect<number> =>
  Effect.gen(function* () {
    yield* turns
    let passed = 0
    for (; !isSo() && passed < most; passed += step) yield* pass(step)
    assert.isTrue(isSo(), `${what}, within ${most} ms`)
    return passed
  })

/** Outcomes of a snapshot: these, and none of the others. */
export const ended = (some: Partial<Record<Outcome, number>>): Record<Outcome, number> => ({
  handled: 0,
  skipped: 0,
  deadLettered: 0,
  filtered: 0,
  alreadyDone: 0,
  ...some
})

export class Boom extends Error {
  readonly _tag = "Boom"
}

/** An attempt that the test ends as it likes. */
export class Attempt {
  readonly record: Delivery
  /** of the handler, not yet of its Scope */
  exit: Exit.Exit<void, Boom> | undefined
  readonly startedAt: number
  private readonly gate = Deferred.makeUnsafe<void, Boom>()

  constructor(record: Delivery, now: number) {
    this.record = record
    this.startedAt = now
  }
  get place(): string {
    return `${this.record.partition}:${this.record.offset}`
  }
  get running(): boolean {
    return this.exit === undefined
  }
  get interrupted(): boolean {
    return this.exit !== undefined && Exit.isFailure(this.exit) && Cause.hasInterruptsOnly(this.exit.cause)
  }
  get waits(): Effect.Effect<void, Boom> {
    return Deferred.await(this.gate)
  }
  end(exit: Exit.Exit<void, Boom>): void {
    Deferred.doneUnsafe(this.gate, exit)
  }
}

export interface DeskOptions {
  /** around the wait for the test */
  readonly around?: (attempt: Attempt, wait: Effect.Effect<void, Boom>) => Effect.Effect<void, Boom, Scope.Scope>
  /** ends at once */
  readonly auto?: boolean
}

/** The attempts of one member, or of several. */
export class Desk {
  readonly attempts: Array<Attempt> = []
  readonly options: DeskOptions
  constructor(options: DeskOptions = {}) {
    this.options = options
  }
  readonly handle = (record: Delivery): Effect.Effect<void, Boom, Scope.Scope> =>
    Effect.gen({ self: this }, function* () {
      const attempt = new Attempt(record, yield* Effect.clockWith((clock) => clock.currentTimeMillis))
      this.attempts.push(attempt)
      if (this.options.auto === true) attempt.end(Exit.void)
      const { around } = this.options
      yield* (around === undefined ? attempt.waits : around(attempt, attempt.waits)).pipe(
        Effect.onExit((exit) => Effect.sync(() => void (attempt.exit = exit)))
      )
    })
  get running(): ReadonlyArray<string> {
    return this.attempts.filter((a) => a.running).map((a) => a.place)
  }
  get started(): ReadonlyArray<string> {
    return this.attempts.map((a) => a.place)
  }
  get interrupted(): ReadonlyArray<string> {
    return this.attempts.filter((a) => a.interrupted).map((a) => a.place)
  }
  /** the newest attempt of a record */
  at(partition: number, offset: number): Attempt {
    const found = this.attempts.findLast((a) => a.record.partition === partition && a.record.offset === BigInt(offset))
    if (found === undefined) assert.fail(`no attempt of ${partition}:${offset}; there are ${this.started.join(" ")}`)
    return found!
  }
  finish(partition: number, ...offsets: ReadonlyArray<number>): Effect.Effect<void> {
    return Effect.andThen(
      Effect.sync(() => {
        for (const offset of offsets) this.at(partition, offset).end(Exit.void)
      }),
      turns
    )
  }
  end(partition: number, offset: number, exit: Exit.Exit<void, Boom>): Effect.Effect<void> {
    return Effect.andThen(
      Effect.sync(() => this.at(partition, offset).end(exit)),
      turns
    )
  }
  /** everything that runs now */
  finishAll(): Effect.Effect<void> {
    return Effect.andThen(
      Effect.sync(() => {
        for (const attempt of this.attempts) if (attempt.running) attempt.end(Exit.void)
      }),
      turns
    )
  }
}

/** Level and message of each line, into the list; nothing is printed. */
export const logged = (lines: Array<string>): ReadonlySet<Logger.Logger<unknown, void>> =>
  new Set([
    Logger.make<unknown, void>((log) => {
      lines.push(`${log.logLevel} ${String(Array.isArray(log.message) ? log.message.join(" ") : log.message)}`)
    })
  ])

/** What a consumer does, written down: rows of the state machines as `machine:row`, events that they do not have, lines of the log. */
export const watched = (...loggers: ReadonlyArray<Logger.Logger<unknown, void>>) => {
  const rows: Array<string> = []
  const unexpected: Array<string> = []
  const logs: Array<string> = []
  const services = Context.make(Diagnostics, {
    transition: (machine, row) => void rows.push(`${machine}:${row}`),
    unexpected: (machine, state, event) => void unexpected.push(`${machine} ${state} ${event}`)
  }).pipe(Context.add(Logger.CurrentLoggers, new Set([...logged(logs), ...loggers])))
  return { rows, unexpected, logs, services }
}

/** `run` of a consumer, once or again, in a fiber of its own; without a policy where that is `"none"`, else stop is the default. */
export const runner = (
  consumer: ConcurrentConsumerShape,
  handler: Handler<Boom, KafkaProducer>,
  policy: FailurePolicy<Boom, KafkaProducer> | "none" | undefined,
  services: Context.Context<KafkaProducer>
) => {
  let fiber: Fiber.Fiber<void, unknown> | undefined
  const run = Effect.suspend(() => {
    const effect =
      policy === "none"
        ? consumer.run(handler as Handler<never, never>)
        : consumer.run(handler, { onFailure: policy ?? FailurePolicy.stop })
    // its failure is the test's to look at
    return Effect.map(
      Effect.forkDetach(Effect.provideContext(effect, services), { startImmediately: true }),
      (forked) => {
        fiber = forked
      }
    )
  })
  return {
    run: Effect.andThen(run, turns),
    fiber: () => fiber!,
    interrupt: Effect.suspend(() => Fiber.interrupt(fiber!))
  }
}

export interface MemberOptions extends Partial<GroupOptions> {
  readonly client?: ClientOptions
  readonly desk?: Desk
  readonly topics?: readonly [string, ...Array<string>]
  readonly policy?: FailurePolicy<Boom, KafkaProducer> | "none"
  /** default: one of its own on the same Kafka */
  readonly producer?: Producer
  readonly handler?: Handler<Boom, KafkaProducer>
  /** do not call `run` */
  readonly idle?: boolean
}

export interface Member {
  readonly name: string
  readonly consumer: ConcurrentConsumerShape
  readonly desk: Desk
  readonly registry: Registry
  /** rows of the state machines in the order in which they were taken, as `machine:row` */
  readonly rows: Array<string>
  readonly unexpected: Array<string>
  readonly logs: Array<string>
  /** its session in the cluster */
  readonly session: () => MemorySession
  /** `run` once more (or for the first time) */
  readonly run: Effect.Effect<void>
  readonly fiber: () => Fiber.Fiber<void, unknown>
  /** closes the layer */
  readonly close: Effect.Effect<void>
  /** interrupts `run`, waits for its end */
  readonly interrupt: Effect.Effect<void>
  readonly codes: Effect.Effect<ReadonlyArray<HealthCode>>
  /** committed and committable of a partition, from its snapshot */
  readonly health: ConcurrentConsumerShape["health"]
}

export interface World {
  readonly kafka: Cluster
  readonly member: (name: string, options?: MemberOptions) => Effect.Effect<Member>
  readonly produce: (count: number, partition?: number, topic?: string) => Effect.Effect<void>
  readonly committed: (partition?: number, topic?: string) => number | undefined
  /** stored entries, oldest first, as `partition=offset` */
  readonly commits: () => ReadonlyArray<string>
  /** what the monitor found; empty at the end, or the test fails */
  readonly violations: Array<string>
  /** a desk that is no member's */
  readonly watch: (desk: Desk, groupId: string) => Desk
  /** the test expects offsets to go back (seek, reset) or records to be passed over (skip, filter, retention) */
  readonly expect: (what: "backwards" | "passedOver" | "unexpected") => void
}

export const world = (
  options: ClusterOptions & {
    readonly partitions?: number
    readonly topics?: ReadonlyArray<string>
    readonly protocol?: "eager" | "incremental"
  } = {}
): Effect.Effect<World, never, Scope.Scope> =>
  Effect.gen(function* () {
    yield* wake
    const { partitions = 1, protocol = "eager", topics = ["t"], ...cluster } = options
    const scope = yield* Effect.scope
    const context = yield* Effect.context<never>()
    const kafka = yield* MemoryKafka.make(cluster)
    for (const topic of topics) yield* kafka.createTopic(topic, { partitions })
    const violations: Array<string> = []
    const expected = new Set<string>()
    const desks = new Map<Desk, string>()
    const members: Array<Member> = []
    const before = new Map<string, bigint>()
    const finished = (groupId: string, topic: string, partition: number, offset: bigint): boolean =>
      [...desks].some(
        ([desk, itsGroup]) =>
          itsGroup === groupId &&
          desk.attempts.some(
            (a) =>
              a.record.topic === topic &&
              a.record.partition === partition &&
              a.record.offset === offset &&
              a.exit !== undefined &&
              Exit.isSuccess(a.exit)
          )
      )
    /** a commit passes only what a handler has finished, and its map speaks only of that */
    kafka.onCommitUnsafe((commit) => {
      for (const { code, metadata, offset, partition, topic } of commit.entries) {
        if (code !== undefined) continue
        const key = `${commit.groupId} ${topic}/${partition}`
        const map = OffsetMap.decode(metadata, { topic, partition, base: offset, trust: "own" })
        if (map._tag === "Map" && !expected.has("passedOver")) {
          const runs = [...OffsetMap.done(map.map)]
          for (const record of kafka.recordsUnsafe(topic, partition)) {
            if (!runs.some(([from, to]) => from <= record.offset && record.offset < to)) continue
            if (!finished(commit.groupId, topic, partition, record.offset)) {
              violations.push(`the map of ${key} at ${offset} speaks of ${record.offset}, which is not done`)
            }
          }
        }
        const from = before.get(key)
        before.set(key, offset)
        if (from === undefined) continue
        if (offset < from && !expected.has("backwards")) violations.push(`${key} goes back from ${from} to ${offset}`)
        if (expected.has("passedOver")) continue
        for (const record of kafka.recordsUnsafe(topic, partition)) {
          if (record.offset < from || record.offset >= offset) continue
          if (!finished(commit.groupId, topic, partition, record.offset))
            violations.push(`${key} passes ${record.offset}, which is not done, with ${offset}`)
        }
      }
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        assert.deepStrictEqual(violations, [])
        if (!expected.has("unexpected"))
          for (const member of members) assert.deepStrictEqual(member.unexpected, [], member.name)
      })
    )

    const member = (name: string, memberOptions: MemberOptions = {}): Effect.Effect<Member> =>
      Effect.gen(function* () {
        const {
          client,
          desk = new Desk(),
          handler,
          idle = false,
          policy,
          producer,
          topics: subscribed = [topics[0]!] as const,
          ...group
        } = memberOptions
        desks.set(desk, group.groupId ?? "g")
        const { logs, rows, services: watching, unexpected } = watched()
        const registry = makeRegistry()
        const kafkaClient = kafka.client({ clientId: name, protocol, ...client })
        const services = Context.merge(
          context,
          Context.make(KafkaClient, kafkaClient).pipe(
            Context.add(
              KafkaProducer,
              producer === undefined
                ? yield* KafkaProducer.make.pipe(
                    Effect.provideService(KafkaClient, kafkaClient),
                    // of its own: it opens with the first send, and is to be closed after the member
                    Scope.provide(yield* Scope.fork(scope))
                  )
                : KafkaProducer.fromProducer(producer)
            ),
            Context.add(ConsumerRegistry, registry),
            Context.merge(watching)
          )
        )
        const own = yield* Scope.fork(scope)
        const built = yield* Layer.buildWithScope(
          ConcurrentConsumer.layer({ groupId: "g", ...group, topics: subscribed }),
          own
        ).pipe(Effect.provideContext(services), Effect.orDie)
        const consumer = Context.get(built, ConcurrentConsumer)
        const { fiber, interrupt, run } = runner(
          consumer,
          handler ?? Handler.make(subscribed, desk.handle),
          policy,
          services
        )
        const one: Member = {
          name,
          consumer,
          desk,
          registry,
          rows,
          unexpected,
          logs,
          session: () => kafka.sessionUnsafe(name),
          run,
          fiber,
          close: Scope.close(own, Exit.void),
          interrupt,
          health: consumer.health,
          codes: Effect.map(consumer.health, (health) => health.reasons.map((reason) => reason.code))
        }
        members.push(one)
        // a shutdown may wait for the clock
        yield* Scope.addFinalizer(scope, Effect.asVoid(whileTimePasses(one.close)))
        if (!idle) yield* one.run
        return one
      })

    return {
      kafka,
      member,
      produce: (count, partition = 0, topic = topics[0]!) =>
        Effect.andThen(
          kafka.produce(
            topic,
            Array.from({ length: count }, (_, i) => ({ value: `v${i}`, partition }))
          ),
          turns
        ),
      committed: (partition = 0, topic = topics[0]!) => {
        const found = kafka.committedUnsafe("g", topic, partition)
        return found === undefined ? undefined : Number(found.offset)
      },
      commits: () =>
        kafka
          .commitsUnsafe()
          .flatMap((commit) => commit.entries)
          .filter((entry) => entry.code === undefined)
          .map((entry) => `${entry.partition}=${entry.offset}`),
      violations,
      watch: (desk, groupId) => {
        desks.set(desk, groupId)
        return desk
      },
      expect: (what) => void expected.add(what)
    }
  })

/** Runs it while the clock moves by steps, as time goes on under a program that waits. */
export const whileTimePasses = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  most = 60_000,
  step = 50
): Effect.Effect<{ readonly value: Exit.Exit<A, E>; readonly millis: number }, never, R> =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
    let millis = 0
    yield* turns
    while (fiber.pollUnsafe() === undefined && millis < most) {
      yield* pass(step)
      millis += step
    }
    const exit = fiber.pollUnsafe()
    if (exit === undefined) assert.fail(`still running after ${most} ms`)
    return { value: exit!, millis }
  })
