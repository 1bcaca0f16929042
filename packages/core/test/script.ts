/**
 * A session that the test plays by hand, signal by signal, and a consumer on it: for orders of events that a real group makes only
 * now and then.
 */
import { assert } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { BatchCommitter, type BatchCommitterOptions } from "../src/BatchCommitter.ts"
import { ConcurrentConsumer, type ConcurrentConsumerShape, type ConsumerOptions } from "../src/ConcurrentConsumer.ts"
import type { ConsumerRecord } from "../src/ConsumerRecord.ts"
import { ConsumerRegistry, makeRegistry } from "../src/ConsumerRegistry.ts"
import {
  type CommitEntry,
  type CommitOutcome,
  ConsumerSession,
  type EpochPartition,
  type LogOffsets,
  type Session,
  type SessionSettings,
  type Signal
} from "../src/ConsumerSession.ts"
import type { FailurePolicy } from "../src/FailurePolicy.ts"
import { Handler } from "../src/Handler.ts"
import type { Capabilities, KafkaClientError } from "../src/KafkaClient.ts"
import { KafkaProducer, type Producer } from "../src/KafkaProducer.ts"
import { type Boom, Desk, runner, turns, wake, watched, whileTimePasses } from "./harness.ts"
import { sessionSettings } from "./sessionSettings.ts"

const capabilities: Capabilities = {
  awaitedRevoke: true,
  incremental: false,
  commitMetadata: true,
  perPartitionCommitResult: true,
  staticMembership: false,
  groupProtocols: ["classic"],
  assignors: ["sticky"],
  requestTimeout: 30_000
}

export const recordAt = (partition: number, offset: number, value: string | null = `v${offset}`): ConsumerRecord => ({
  topic: "t",
  partition,
  offset: BigInt(offset),
  timestamp: 0n,
  key: null,
  value: value === null ? null : new TextEncoder().encode(value),
  headers: []
})

/** One whose headers cannot be read, because whoever sent it has written them wrong. */
export const unreadableAt = (partition: number, offset: number): ConsumerRecord =>
  Object.defineProperty(recordAt(partition, offset), "headers", {
    get: () => {
      throw new RangeError("a header has no name")
    }
  })

export const at = (partition: number, epoch: number): EpochPartition => ({ topic: "t", partition, epoch })

type Answer = (
  entries: ReadonlyArray<CommitEntry>
) => ReadonlyArray<CommitOutcome> | Effect.Effect<ReadonlyArray<CommitOutcome>>

export const outcomes =
  (outcome: CommitOutcome["outcome"], code?: string): Answer =>
  (entries) =>
    entries.map(
      ({ epoch, partition, topic }) =>
        ({ topic, partition, epoch, outcome, ...(code === undefined ? {} : { code }) }) as CommitOutcome
    )

export interface Sent {
  readonly at: number
  readonly entries: ReadonlyArray<CommitEntry>
}

export class Played {
  readonly inbox: Queue.Queue<Signal, KafkaClientError | Cause.Done>
  readonly sent: Array<Sent> = []
  /** used one by one, then all are committed */
  readonly answers: Array<Answer> = []
  /** when `answers` are used up; default: all are committed */
  always: Answer = outcomes("committed")
  onBegin: (start: EpochPartition & { readonly offset: bigint }) => void = () => {}
  onReopen: (before: EpochPartition, next: EpochPartition) => EpochPartition | undefined = (_, next) => next
  readonly paused = new Set<number>()
  readonly begun: Array<string> = []
  joins = 0
  leaves = 0
  generation = 1
  /** of all partitions */
  log: { readonly start: bigint; readonly end: bigint } | Effect.Effect<ReadonlyArray<LogOffsets>, KafkaClientError> = {
    start: 0n,
    end: 100n
  }
  nextEpoch = 1000
  epochs: () => number = () => ++this.nextEpoch
  reopens = true
  onJoin: Effect.Effect<void, KafkaClientError> = Effect.void
  onLeave: Effect.Effect<void> = Effect.void
  readonly session: Session
  readonly now: () => number

  constructor(
    inbox: Queue.Queue<Signal, KafkaClientError | Cause.Done>,
    now: () => number,
    settings: Partial<SessionSettings>,
    enabled: boolean,
    able: Partial<Capabilities>
  ) {
    this.inbox = inbox
    this.now = now
    this.session = {
      settings: { ...sessionSettings, ...settings },
      capabilities: { ...capabilities, ...able },
      enabled,
      join: Effect.suspend(() => {
        this.joins++
        return this.onJoin
      }),
      inbox,
      generationUnsafe: () => this.generation,
      beginUnsafe: (starts) => {
        this.begun.push(...starts.map((s) => `${s.partition}#${s.epoch}@${s.offset}`))
        for (const start of starts) this.onBegin(start)
      },
      pauseUnsafe: (partitions) => {
        for (const p of partitions) this.paused.add(p.partition)
      },
      resumeUnsafe: (partitions) => {
        for (const p of partitions) this.paused.delete(p.partition)
      },
      reopenUnsafe: (p) => (this.reopens ? this.onReopen(p, at(p.partition, this.epochs())) : undefined),
      commit: (entries) =>
        Effect.suspend(() => {
          this.sent.push({ at: this.now(), entries })
          const answer = (this.answers.shift() ?? this.always)(entries)
          return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
        }),
      logOffsets: (partitions) =>
        Effect.suspend(() => {
          const { log } = this
          return Effect.isEffect(log)
            ? log
            : Effect.succeed(partitions.map((p) => ({ topic: p.topic, partition: p.partition, ...log })))
        }),
      leave: Effect.suspend(() => {
        this.leaves++
        return this.onLeave
      })
    }
  }

  /** every entry that was sent, as `partition=offset` */
  get commits(): ReadonlyArray<string> {
    return this.sent.flatMap((one) => one.entries.map((e) => `${e.partition}=${e.offset}`))
  }

  signal(signal: Signal): Effect.Effect<void> {
    return Effect.andThen(Queue.offer(this.inbox, signal), turns)
  }

  assign(
    all: ReadonlyArray<{
      readonly partition: number
      readonly epoch: number
      readonly retained?: boolean
      readonly committed?: number | undefined
      readonly topicCommitted?: boolean
      readonly metadata?: string
    }>
  ): Effect.Effect<void> {
    return this.signal({
      _tag: "Assigned",
      all: all.map(({ committed, epoch, metadata = "", partition, retained = false, topicCommitted = false }) => ({
        ...at(partition, epoch),
        retained,
        committed: committed === undefined ? undefined : { offset: BigInt(committed), metadata },
        topicCommitted
      }))
    })
  }

  chunk(partition: number, epoch: number, from: number, to: number, nextOffset = to): Effect.Effect<void> {
    return this.signal({
      _tag: "Chunk",
      ...at(partition, epoch),
      records: Array.from({ length: to - from }, (_, i) => recordAt(partition, from + i)),
      nextOffset: BigInt(nextOffset),
      end: BigInt(nextOffset)
    })
  }

  /** one record for each key, `null` for none */
  keyed(partition: number, epoch: number, from: number, keys: ReadonlyArray<string | null>): Effect.Effect<void> {
    const nextOffset = BigInt(from + keys.length)
    return this.signal({
      _tag: "Chunk",
      ...at(partition, epoch),
      records: keys.map((key, i) => ({
        ...recordAt(partition, from + i),
        key: key === null ? null : new TextEncoder().encode(key)
      })),
      nextOffset,
      end: nextOffset
    })
  }

  revoking(
    partitions: ReadonlyArray<EpochPartition>,
    options: { readonly exact: boolean; readonly hold?: number }
  ): Effect.Effect<{ readonly answered: () => boolean; readonly at: () => number | undefined }> {
    let at: number | undefined
    return Effect.as(
      this.signal({
        _tag: "Revoking",
        partitions,
        exact: options.exact,
        hold: options.hold ?? 10_000,
        acknowledgeUnsafe: () => {
          at ??= this.now()
        }
      }),
      { answered: () => at !== undefined, at: () => at }
    )
  }

  lost(...partitions: ReadonlyArray<EpochPartition>): Effect.Effect<void> {
    return this.signal({ _tag: "Lost", partitions })
  }

  outOfRange(partition: EpochPartition, position: number, start: number, end: number): Effect.Effect<void> {
    return this.signal({
      _tag: "OutOfRange",
      ...partition,
      position: BigInt(position),
      start: BigInt(start),
      end: BigInt(end)
    })
  }

  gone(partition: EpochPartition, why: "deleted" | "recreated" = "deleted"): Effect.Effect<void> {
    return this.signal({ _tag: "Gone", ...partition, why })
  }

  connection(state: "up" | "down", cause?: KafkaClientError): Effect.Effect<void> {
    return this.signal({ _tag: "Connection", state, cause: Option.fromUndefinedOr(cause) })
  }
}

export const played = (
  settings: Partial<SessionSettings> = {},
  enabled = true,
  able: Partial<Capabilities> = {}
): Effect.Effect<Played> =>
  Effect.gen(function* () {
    yield* wake
    const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
    const clock = yield* Effect.clockWith(Effect.succeed)
    return new Played(inbox, () => clock.currentTimeMillisUnsafe(), settings, enabled, able)
  })

export interface Scripted {
  readonly session: Played
  readonly consumer: ConcurrentConsumerShape
  readonly desk: Desk
  readonly rows: Array<string>
  readonly unexpected: Array<string>
  readonly logs: ReadonlyArray<string>
  readonly run: Effect.Effect<void>
  readonly fiber: () => Fiber.Fiber<void, unknown>
  readonly close: Effect.Effect<void>
  readonly interrupt: Effect.Effect<void>
}

export interface ScriptOptions extends ConsumerOptions, BatchCommitterOptions {
  readonly desk?: Desk
  readonly handler?: Handler<Boom, KafkaProducer>
  readonly policy?: FailurePolicy<Boom, KafkaProducer> | "none"
  /** default: one that sends nothing */
  readonly producer?: Producer
  readonly capabilities?: Partial<Capabilities>
  /** of every line, whole */
  readonly logger?: Logger.Logger<unknown, void>
  readonly settings?: Partial<SessionSettings>
  readonly enabled?: boolean
  /** do not look at what was unexpected */
  readonly careless?: boolean
  readonly idle?: boolean
}

/** A consumer that runs on a played session. */
export const scripted = (options: ScriptOptions = {}): Effect.Effect<Scripted, never, Scope.Scope> =>
  Effect.gen(function* () {
    const {
      capabilities: able,
      careless = false,
      desk = new Desk(),
      enabled = true,
      handler,
      idle = false,
      logger,
      policy,
      producer = { send: () => Effect.succeed(true) },
      settings,
      ...rest
    } = options
    const scope = yield* Effect.scope
    const context = yield* Effect.context<never>()
    const session = yield* played(settings, enabled, able)
    const { logs, rows, services: watching, unexpected } = watched(...(logger === undefined ? [] : [logger]))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (!careless) assert.deepStrictEqual(unexpected, [])
      })
    )
    const services = Context.merge(
      context,
      Context.make(ConsumerRegistry, makeRegistry()).pipe(
        Context.add(KafkaProducer, KafkaProducer.fromProducer(producer)),
        Context.merge(watching)
      )
    )
    const own = yield* Scope.fork(scope)
    const layer = ConcurrentConsumer.layerNoDeps(rest).pipe(
      Layer.provide(BatchCommitter.layer(rest)),
      Layer.provide(Layer.succeed(ConsumerSession, session.session))
    )
    const built = yield* Layer.buildWithScope(layer, own).pipe(Effect.provideContext(services), Effect.orDie)
    const consumer = Context.get(built, ConcurrentConsumer)
    const { fiber, interrupt, run } = runner(consumer, handler ?? Handler.make("t", desk.handle), policy, services)
    const one: Scripted = {
      session,
      consumer,
      desk,
      rows,
      unexpected,
      logs,
      run,
      fiber,
      close: Scope.close(own, Exit.void),
      interrupt
    }
    // a shutdown may wait for the clock
    yield* Effect.addFinalizer(() => Effect.asVoid(whileTimePasses(one.close)))
    if (!idle) yield* one.run
    return one
  })

/**
 * A consumer that runs and has been given so many records of each partition, from the committed offset 0 on: partition 0 has epoch 1,
 * partition 1 epoch 2, and so on.
 */
export const given = (
  records: ReadonlyArray<number>,
  options?: ScriptOptions
): Effect.Effect<Scripted, never, Scope.Scope> =>
  Effect.gen(function* () {
    const s = yield* scripted(options)
    yield* s.session.assign(records.map((_, partition) => ({ partition, epoch: partition + 1, committed: 0 })))
    for (const [partition, count] of records.entries()) yield* s.session.chunk(partition, partition + 1, 0, count)
    return s
  })

/** An answer that the test gives later. */
export const later = (): { readonly answer: Answer; readonly give: (outcome?: Answer) => Effect.Effect<void> } => {
  const given = Deferred.makeUnsafe<Answer>()
  return {
    answer: (entries) => Effect.map(Deferred.await(given), (answer) => answer(entries) as ReadonlyArray<CommitOutcome>),
    give: (answer = outcomes("committed")) => Effect.andThen(Deferred.succeed(given, answer), turns)
  }
}
