/**
 * What the tests of the contract share: sessions that are read in the background, and waiting with a deadline.
 */
import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import type {
  AssignedPartition,
  Chunk,
  EpochPartition,
  Revoking,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient, type KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, type TestOptions, type Vitest } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { ContractHarness, ContractOptions, ContractRecord } from "../../contract.ts"

const utf8 = new TextEncoder()
const text = new TextDecoder()

export interface ReaderOptions {
  /** Where a new epoch starts; undefined leaves it closed. Default: the committed offset, or 0. */
  readonly start?: ((partition: AssignedPartition) => bigint | undefined) | undefined
  /** Default: answered at once. */
  readonly onRevoking?: ((revoking: Revoking) => void) | undefined
}

/** A session that is read in the background. */
export interface Reader {
  readonly session: Session
  readonly signals: Array<Signal>
  /** What the session holds, as its signals say. */
  readonly held: Map<string, AssignedPartition>
  /** How the inbox ended. */
  ended: Exit.Exit<never, KafkaClientError | Cause.Done> | undefined
  /** What is done with the next signals of this kind. */
  onRevoking: (revoking: Revoking) => void
  readonly of: <T extends Signal["_tag"]>(tag: T) => ReadonlyArray<Extract<Signal, { readonly _tag: T }>>
  readonly chunks: (topic: string, partition: number) => ReadonlyArray<Chunk>
  readonly records: (topic?: string) => ReadonlyArray<ConsumerRecord>
  readonly values: (topic?: string) => ReadonlyArray<string>
  /** The partition as it is held now. */
  readonly partition: (topic: string, partition: number) => AssignedPartition
}

declare module "vitest" {
  interface TaskMeta {
    /** Why a test is skipped. */
    skipped?: string
  }
}

/** Why a test cannot be tried with a client or a harness that lacks what it needs. */
const lacking = {
  awaitedRevoke: "the client cannot hold a rejoin",
  incremental: "the group protocol takes everything back at each rebalance",
  eager: "the group protocol takes back only what moves",
  deleteTopic: "the harness cannot delete a topic",
  addPartitions: "the harness cannot add partitions",
  deleteRecordsBefore: "the harness cannot cut a log",
  transaction: "the harness has no transactions",
  removeOffsets: "the harness cannot take single records out of a log",
  holdSync: "the harness cannot hold up a SyncGroup",
  evict: "the harness cannot throw out a member",
  breakConnections: "the harness cannot break a connection"
} as const

export type Need = keyof typeof lacking

export interface Kit<R> {
  readonly harness: ContractHarness<R>
  /** Revocations are exact, and the other partitions keep flowing. */
  readonly incremental: boolean
  readonly protocol: ContractOptions<never, never>["protocol"]
  readonly awaitedRevoke: boolean
  readonly settings: Pick<
    SessionSettings,
    "sessionTimeout" | "heartbeatInterval" | "rebalanceTimeout" | "revokeTimeout" | "metadataMaxAge" | "maxWait"
  >
  /** Those, and the group protocol: what all members of the suite are opened with. */
  readonly membership: Kit<R>["settings"] & Pick<SessionSettings, "groupProtocol" | "assignor">
  readonly patience: number
  /** The options of a test that needs these: without one of them it is skipped, and says why. */
  readonly needs: (...needed: ReadonlyArray<Need>) => TestOptions
  /** Waits where nothing must happen. */
  readonly quiet: Effect.Effect<void>
  /** A name that no other test and no earlier run has used. */
  readonly fresh: (what: string) => Effect.Effect<string>
  /** A new topic with `each` records in each partition; their values are `partition:index`. */
  readonly topic: (partitions: number, each: number) => Effect.Effect<string, unknown, R>
  readonly fill: (topic: string, partition: number, from: number, to: number) => Effect.Effect<void, unknown, R>
  readonly open: (
    settings: Pick<SessionSettings, "groupId" | "topics"> & Partial<SessionSettings>
  ) => Effect.Effect<Session, KafkaClientError, KafkaClient | Scope.Scope>
  readonly read: (session: Session, options?: ReaderOptions) => Effect.Effect<Reader, never, Scope.Scope>
  /** Opens, joins, reads. */
  readonly consume: (
    settings: Pick<SessionSettings, "groupId" | "topics"> & Partial<SessionSettings>,
    options?: ReaderOptions
  ) => Effect.Effect<Reader, KafkaClientError, KafkaClient | Scope.Scope>
  readonly until: (what: string, condition: () => boolean) => Effect.Effect<void>
  readonly untilCommitted: (
    groupId: string,
    topic: string,
    partition: number,
    offset: bigint
  ) => Effect.Effect<void, unknown, R>
}

export interface Suite<R> extends Kit<R> {
  readonly it: Vitest.MethodsNonLive<KafkaClient | R>
}

export const record = (partition: number, value: string | null): ContractRecord => ({
  partition,
  key: null,
  value: value === null ? null : utf8.encode(value),
  headers: []
})

export const valueOf = (one: Pick<ConsumerRecord, "value">): string =>
  one.value === null ? "null" : text.decode(one.value)

export const range = (from: number, to: number): Array<number> => Array.from({ length: to - from }, (_, i) => from + i)

export const keyOf = (partition: { readonly topic: string; readonly partition: number }): string =>
  `${partition.topic}/${partition.partition}`

/** Offsets in each partition rise, and each chunk goes on where the one before ended, as long as the epoch is the same. */
export const assertInOrder = (reader: Reader): void => {
  const next = new Map<string, bigint>()
  for (const chunk of reader.of("Chunk")) {
    const key = `${keyOf(chunk)}#${chunk.epoch}`
    let position = next.get(key) ?? 0n
    for (const { offset, partition, topic } of chunk.records) {
      assert.strictEqual(`${topic}/${partition}`, keyOf(chunk))
      assert.isTrue(offset >= position, `${key}: offset ${offset} below ${position}`)
      position = offset + 1n
    }
    assert.isTrue(chunk.nextOffset >= position, `${key}: nextOffset ${chunk.nextOffset} below ${position}`)
    next.set(key, chunk.nextOffset)
  }
}

let names = 0

export const makeKit = <R, E>(options: ContractOptions<R, E>): Kit<R> => {
  const { harness } = options
  const patience = options.patience ?? 30_000
  const sessionTimeout = options.settings?.sessionTimeout ?? 6_000
  const settings: Kit<R>["settings"] = {
    sessionTimeout,
    heartbeatInterval: options.settings?.heartbeatInterval ?? 300,
    rebalanceTimeout: sessionTimeout * 3,
    revokeTimeout: sessionTimeout * 2,
    metadataMaxAge: options.settings?.metadataMaxAge ?? 1_000,
    maxWait: options.settings?.maxWait ?? 100
  }
  const membership: Kit<R>["membership"] = {
    ...settings,
    groupProtocol: options.protocol === "incremental" ? "consumer" : "classic",
    assignor: options.protocol === "cooperative" ? "cooperative-sticky" : undefined
  }

  const fresh: Kit<R>["fresh"] = (what) =>
    Effect.map(Clock.currentTimeMillis, (now) => `contract-${what}-${now.toString(36)}-${++names}`)

  const fill: Kit<R>["fill"] = (topic, partition, from, to) =>
    harness.produce(
      topic,
      range(from, to).map((i) => record(partition, `${partition}:${i}`))
    )

  const until: Kit<R>["until"] = (what, condition) =>
    Effect.gen(function* () {
      const deadline = (yield* Clock.currentTimeMillis) + patience
      while (!condition()) {
        if ((yield* Clock.currentTimeMillis) > deadline) assert.fail(`waited ${patience} ms until ${what}`)
        yield* Effect.sleep(10)
      }
    })

  const open: Kit<R>["open"] = (session) =>
    Effect.flatMap(KafkaClient, (client) =>
      client.openSession({
        isolation: "read_committed",
        topicTimeout: undefined,
        ...membership,
        ...session
      })
    )

  const read: Kit<R>["read"] = (session, readerOptions = {}) =>
    Effect.gen(function* () {
      const start = readerOptions.start ?? ((partition) => partition.committed?.offset ?? 0n)
      const reader: Reader = {
        session,
        signals: [],
        held: new Map(),
        ended: undefined,
        onRevoking: readerOptions.onRevoking ?? ((revoking) => revoking.acknowledgeUnsafe()),
        of: (tag) => reader.signals.filter((signal) => signal._tag === tag) as never,
        chunks: (topic, partition) =>
          reader.of("Chunk").filter((chunk) => chunk.topic === topic && chunk.partition === partition),
        records: (topic) =>
          reader.of("Chunk").flatMap((chunk) => (topic === undefined || chunk.topic === topic ? chunk.records : [])),
        values: (topic) => reader.records(topic).map(valueOf),
        partition: (topic, partition) => {
          const held = reader.held.get(`${topic}/${partition}`)
          return held ?? assert.fail(`${topic}/${partition} is not held`)
        }
      }
      const drop = (partitions: ReadonlyArray<EpochPartition>) => {
        for (const partition of partitions) reader.held.delete(keyOf(partition))
      }
      const take = (signal: Signal): void => {
        reader.signals.push(signal)
        switch (signal._tag) {
          case "Assigned": {
            reader.held.clear()
            for (const partition of signal.all) reader.held.set(keyOf(partition), partition)
            const starts = signal.all.flatMap((partition) => {
              const offset = partition.retained ? undefined : start(partition)
              return offset === undefined ? [] : [{ ...partition, offset }]
            })
            return session.beginUnsafe(starts)
          }
          case "Revoking":
            // What is listed exactly goes in any case; whether an assignment follows is the client's business.
            if (signal.exact) drop(signal.partitions)
            return reader.onRevoking(signal)
          case "Lost":
            return drop(signal.partitions)
          default:
            return
        }
      }
      const loop = Effect.gen(function* () {
        for (;;) for (const signal of yield* Queue.takeAll(session.inbox)) take(signal)
      })
      yield* Effect.forkScoped(
        Effect.onExit(loop as Effect.Effect<never, KafkaClientError | Cause.Done>, (exit) =>
          Effect.sync(() => {
            if (!Exit.isFailure(exit) || !Cause.hasInterruptsOnly(exit.cause)) reader.ended = exit
          })
        ).pipe(Effect.ignore)
      )
      return reader
    })

  const has = (need: Need): boolean => {
    switch (need) {
      case "awaitedRevoke":
        return options.awaitedRevoke ?? true
      case "incremental":
        return options.protocol !== "eager"
      case "eager":
        return options.protocol === "eager"
      default:
        return harness[need] !== undefined
    }
  }

  return {
    harness,
    needs: (...needed) => {
      const missing = needed.find((need) => !has(need))
      const skipped = missing === undefined ? {} : { skip: true, meta: { skipped: lacking[missing] } }
      return { timeout: patience * 2, ...skipped }
    },
    incremental: options.protocol !== "eager",
    protocol: options.protocol,
    awaitedRevoke: options.awaitedRevoke ?? true,
    settings,
    membership,
    patience,
    quiet: Effect.sleep(options.quiet ?? 1_000),
    fresh,
    fill,
    topic: (partitions, each) =>
      Effect.gen(function* () {
        const topic = yield* fresh("topic")
        yield* harness.createTopic(topic, partitions)
        for (let partition = 0; partition < partitions && each > 0; partition++) yield* fill(topic, partition, 0, each)
        return topic
      }),
    open,
    read,
    consume: (session, readerOptions) =>
      Effect.gen(function* () {
        const opened = yield* open(session)
        const reader = yield* read(opened, readerOptions)
        yield* opened.join
        return reader
      }),
    until,
    untilCommitted: (groupId, topic, partition, offset) =>
      Effect.gen(function* () {
        const deadline = (yield* Clock.currentTimeMillis) + patience
        for (;;) {
          const committed = yield* harness.committed(groupId, topic, partition)
          if (committed?.offset === offset) return
          if ((yield* Clock.currentTimeMillis) > deadline) {
            assert.fail(`waited ${patience} ms until ${topic}/${partition} was committed at ${offset}`)
          }
          yield* Effect.sleep(50)
        }
      })
  }
}
