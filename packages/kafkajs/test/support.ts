/** What the tests share: settings, a program that answers a session's signals, and the broker's own view through kafkajs. */
import type { ConsumerRecord, TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type {
  AssignedPartition,
  CommitOutcome,
  EpochPartition,
  Revoking,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import kafkajs, { type Admin, type Kafka } from "kafkajs"

let count = 0
export const unique = (name: string): string => `kjs-${name}-${process.pid}-${Date.now().toString(36)}-${++count}`

export const settingsOf = (
  groupId: string,
  topics: ReadonlyArray<string>,
  rest: Partial<SessionSettings> = {}
): SessionSettings => ({
  groupId,
  topics,
  isolation: "read_committed",
  sessionTimeout: 10_000,
  heartbeatInterval: 300,
  rebalanceTimeout: 20_000,
  revokeTimeout: 5000,
  metadataMaxAge: 1000,
  maxWait: 250,
  topicTimeout: undefined,
  ...rest
})

// ---------------------------------------------------------------------------------------------------------------------
// A member: answers what a session asks, and remembers everything
// ---------------------------------------------------------------------------------------------------------------------

export interface MemberOptions {
  /** Where new epochs begin; by default at the committed offset, else at 0. `undefined`: not begun. */
  readonly start?: ((partition: AssignedPartition) => bigint | undefined) | undefined
  /** By default acknowledged at once. */
  readonly onRevoking?: ((signal: Revoking, member: Member) => void) | undefined
}

export class Member {
  readonly session: Session
  readonly signals: Array<Signal> = []
  readonly records: Array<ConsumerRecord & { readonly epoch: number }> = []
  readonly position = new Map<string, bigint>()
  owned: ReadonlyArray<AssignedPartition> = []
  ended: KafkaClientError | "done" | undefined

  constructor(session: Session) {
    this.session = session
  }

  of<T extends Signal["_tag"]>(tag: T): Array<Extract<Signal, { readonly _tag: T }>> {
    return this.signals.filter((signal): signal is Extract<Signal, { readonly _tag: T }> => signal._tag === tag)
  }

  partition(partition: number): EpochPartition {
    const found = this.owned.find((owned) => owned.partition === partition)
    if (found === undefined) throw new Error(`partition ${partition} is not owned`)
    return { topic: found.topic, partition, epoch: found.epoch }
  }

  partitions(): ReadonlyArray<number> {
    return this.owned.map(({ partition }) => partition).sort((a, b) => a - b)
  }

  commit(partition: number, offset: bigint, metadata = ""): Effect.Effect<CommitOutcome> {
    return Effect.map(
      this.session.commit([{ ...this.partition(partition), offset, metadata }]),
      ([outcome]) => outcome!
    )
  }

  values(): ReadonlyArray<string> {
    return this.records.map(({ value }) => String(value === null ? null : Buffer.from(value)))
  }
}

export const attend = (session: Session, options: MemberOptions = {}): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function* () {
    const member = new Member(session)
    const start = options.start ?? ((p: AssignedPartition) => p.committed?.offset ?? 0n)
    const loop = Effect.gen(function* () {
      while (true) {
        const signal = yield* Queue.take(session.inbox)
        member.signals.push(signal)
        switch (signal._tag) {
          case "Assigned":
            member.owned = signal.all
            session.beginUnsafe(
              signal.all.flatMap((p) => {
                const offset = p.retained ? undefined : start(p)
                return offset === undefined ? [] : [{ ...p, offset }]
              })
            )
            break
          case "Revoking":
            if (options.onRevoking) options.onRevoking(signal, member)
            else signal.acknowledgeUnsafe()
            break
          case "Lost":
            member.owned = []
            break
          case "Chunk":
            for (const record of signal.records) member.records.push(Object.assign(record, { epoch: signal.epoch }))
            member.position.set(`${signal.topic}/${signal.partition}`, signal.nextOffset)
            break
          default:
        }
      }
    })
    yield* Effect.forkScoped(
      Effect.catchCause(loop, (cause) =>
        Effect.sync(() => {
          const failed = cause.reasons.find((reason) => reason._tag === "Fail")
          const error = failed?._tag === "Fail" ? failed.error : undefined
          if (error !== undefined) member.ended = error._tag === "KafkaClientError" ? error : "done"
        })
      )
    )
    return member
  })

/** Opens a session, attends to it and joins. */
export const join = (
  settings: SessionSettings,
  options: MemberOptions = {}
): Effect.Effect<Member, KafkaClientError, KafkaClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* KafkaClient
    const member = yield* attend(yield* client.openSession(settings), options)
    yield* member.session.join
    return member
  })

/** Waits for what must come, looking every few milliseconds, and says what did not. */
export const until = (what: string, is: () => boolean, within = 20_000): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + within
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited ${within} ms for: ${what}`))
      yield* Effect.sleep(5)
    }
  })

// ---------------------------------------------------------------------------------------------------------------------
// The broker, seen by plain kafkajs
// ---------------------------------------------------------------------------------------------------------------------

export const plain = (brokers: ReadonlyArray<string>): Kafka =>
  new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: "test",
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { retries: 10, initialRetryTime: 50, maxRetryTime: 500 }
  })

/**
 * Succeeds when the topic can be used. Not by kafkajs's `waitForLeaders`: it gives up when the broker has created the topic and
 * not yet told itself. A topic of the same name may still be on its way out.
 */
export const createTopic = async (
  admin: Admin,
  topic: string,
  numPartitions: number,
  config: Readonly<Record<string, string>> = {}
): Promise<void> => {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const end = performance.now() + 10_000
  for (let created = false; ;) {
    try {
      if (!created)
        await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions, configEntries }] })
      created = true
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      if (topics[0]?.partitions.length === numPartitions && topics[0].partitions.every(({ leader }) => leader >= 0))
        return
    } catch (error) {
      if (performance.now() > end) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export interface World {
  readonly kafka: Kafka
  readonly admin: Admin
  readonly topic: (partitions: number, config?: Readonly<Record<string, string>>) => Effect.Effect<string>
  /** Values to one partition, in order. */
  readonly send: (topic: string, partition: number, values: ReadonlyArray<string>) => Effect.Effect<void>
  readonly committed: (
    groupId: string,
    tp: TopicPartition
  ) => Effect.Effect<{ readonly offset: string; readonly metadata: string | null } | undefined>
  /** Deletes the records before `offset`. */
  readonly cut: (topic: string, partition: number, offset: string) => Effect.Effect<void>
  readonly promise: <A>(f: () => Promise<A>) => Effect.Effect<A>
}

export const world = (brokers: ReadonlyArray<string>): Effect.Effect<World, never, Scope.Scope> =>
  Effect.gen(function* () {
    const kafka = plain(brokers)
    const admin = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const made = kafka.admin()
        await made.connect()
        return made
      }),
      (made) => Effect.promise(() => made.disconnect())
    )
    const producer = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const made = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
        await made.connect()
        return made
      }),
      (made) => Effect.promise(() => made.disconnect())
    )
    const topic: World["topic"] = (partitions, config = {}) =>
      Effect.promise(async () => {
        const name = unique("topic")
        await createTopic(admin, name, partitions, config)
        return name
      })
    return {
      kafka,
      admin,
      topic,
      promise: Effect.promise,
      cut: (name, partition, offset) =>
        Effect.promise(async () => {
          // kafkajs looks for the leader in metadata that only this call loads
          await admin.fetchTopicOffsets(name)
          await admin.deleteTopicRecords({ topic: name, partitions: [{ partition, offset }] })
        }),
      send: (name, partition, values) =>
        Effect.promise(async () => {
          for (let at = 0; at < values.length; at += 1000) {
            const messages = values.slice(at, at + 1000).map((value) => ({ partition, value }))
            await producer.send({ topic: name, messages })
          }
        }),
      committed: (groupId, { partition, topic: name }) =>
        Effect.promise(async () => {
          const [found] = await admin.fetchOffsets({ groupId, topics: [name] })
          const entry = found?.partitions.find((p) => p.partition === partition)
          return entry === undefined || entry.offset === "-1"
            ? undefined
            : { offset: entry.offset, metadata: entry.metadata }
        })
    }
  })
