/** A plain kafkajs beside the library: it prepares topics, writes records, and reads back what was committed. */
import { Effect } from "effect"
import { Kafka as KafkaJs, logLevel } from "kafkajs"
import type { ITopicConfig, Message } from "kafkajs"
import { until } from "./until.ts"

/** partition -> offset */
export type Offsets = ReadonlyMap<number, bigint>

/** partition -> what was committed */
export type Commits = ReadonlyMap<number, { readonly offset: bigint; readonly metadata: string }>

/** By partition, so that two of them are compared with deepStrictEqual. */
export const sorted = (offsets: Offsets): Array<readonly [number, bigint]> => [...offsets].toSorted(([a], [b]) => a - b)

export const same = (a: Offsets, b: Offsets): boolean =>
  a.size === b.size && [...a].every(([partition, offset]) => b.get(partition) === offset)

const connected = <A extends { readonly connect: () => Promise<void>; readonly disconnect: () => Promise<void> }>(
  client: A
) =>
  Effect.acquireRelease(
    Effect.as(
      Effect.promise(() => client.connect()),
      client
    ),
    (open) => Effect.promise(() => open.disconnect().catch(() => undefined))
  )

let names = 0

/** A name that no other test has, also not of an earlier run on the same broker. */
export const fresh = (prefix: string): string => `${prefix}-${Date.now().toString(36)}-${process.pid}-${++names}`

export const connect = Effect.fnUntraced(function* (brokers: ReadonlyArray<string>) {
  const kafka = new KafkaJs({
    clientId: "outside",
    brokers: [...brokers],
    logLevel: logLevel.NOTHING,
    retry: { retries: 20, initialRetryTime: 50, maxRetryTime: 500 }
  })
  const admin = yield* connected(kafka.admin())
  const producer = yield* connected(kafka.producer({ allowAutoTopicCreation: false }))

  /** Partition by partition: of a request that one of them refuses, kafkajs sends again what the others have taken. */
  const send = (topic: string, messages: ReadonlyArray<Message>) =>
    Effect.forEach(
      Map.groupBy(messages, ({ partition }) => partition).values(),
      (some) => Effect.tryPromise(() => producer.send({ topic, messages: some })),
      { discard: true }
    )

  return {
    createTopic: (topic: string, numPartitions: number, more?: Omit<ITopicConfig, "topic">) =>
      Effect.andThen(
        Effect.promise(() =>
          admin.createTopics({ topics: [{ topic, numPartitions, ...more }], waitForLeaders: false })
        ),
        // a broker hears of a topic a moment after it was created; kafkajs's own wait for that fails when it is asked too early
        until(
          "the topic has its leaders",
          Effect.tryPromise(() => admin.fetchTopicMetadata({ topics: [topic] })),
          (now) =>
            now.topics.every(
              // -1: as many as `more` assigns
              ({ partitions }) =>
                partitions.length === (numPartitions < 0 ? more?.replicaAssignment?.length : numPartitions) &&
                partitions.every(({ leader }) => leader >= 0)
            )
        )
      ),
    deleteTopic: (topic: string) => Effect.promise(() => admin.deleteTopics({ topics: [topic] })),
    /** Everything before this offset is gone, as if retention had taken it. */
    deleteBefore: (topic: string, partition: number, offset: bigint) =>
      Effect.promise(async () => {
        // what is asked for offsets reads who leads the topic, which deleteTopicRecords does not by itself
        await admin.fetchTopicOffsets(topic)
        await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
      }),
    send: (topic: string, messages: ReadonlyArray<Message>) => Effect.orDie(send(topic, messages)),
    /** As `send`, failing where the broker does not take it. */
    trySend: send,
    /** The next offset that each partition will give. */
    ends: (topic: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.fetchTopicOffsets(topic)),
        (all): Offsets => new Map(all.map(({ high, partition }) => [partition, BigInt(high)]))
      ),
    /** What the group has committed; partitions without a committed offset are left out. */
    committed: (groupId: string, topic: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.fetchOffsets({ groupId, topics: [topic] })),
        (all): Offsets =>
          new Map(
            all.flatMap(({ partitions }) =>
              partitions.flatMap(({ offset, partition }) =>
                BigInt(offset) < 0n ? [] : [[partition, BigInt(offset)] as const]
              )
            )
          )
      ),
    /** The same with the metadata of the commits. */
    commits: (groupId: string, topic: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.fetchOffsets({ groupId, topics: [topic] })),
        (all): Commits =>
          new Map(
            all.flatMap(({ partitions }) =>
              partitions.flatMap(({ metadata, offset, partition }) =>
                BigInt(offset) < 0n ? [] : [[partition, { offset: BigInt(offset), metadata: metadata ?? "" }] as const]
              )
            )
          )
      ),
    /** How many members a group has, dead ones included whose session has not ended yet. */
    members: (groupId: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.describeGroups([groupId])),
        ({ groups }) => groups[0]!.members.length
      ),
    leaders: (topic: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.fetchTopicMetadata({ topics: [topic] })),
        ({ topics }) => new Map(topics.flatMap((t) => t.partitions.map((p) => [p.partitionId, p.leader] as const)))
      ),
    /** How many replicas are in sync, of the partition that has the fewest. */
    inSync: (topic: string) =>
      Effect.map(
        Effect.tryPromise(() => admin.fetchTopicMetadata({ topics: [topic] })),
        ({ topics }) => Math.min(...topics.flatMap((t) => t.partitions.map((p) => p.isr.length)))
      )
  }
})

export type Outside = Effect.Success<ReturnType<typeof connect>>

/** Writes to all partitions in turn, never more than `ahead` beyond what `taken` says was handled. Ends by interruption. */
export const load = (
  outside: Outside,
  topic: string,
  options: {
    readonly partitions: number
    readonly ahead: number
    readonly taken: () => number
    readonly value?: Buffer
  }
): Effect.Effect<never> =>
  Effect.gen(function* () {
    const value = options.value ?? Buffer.alloc(100, "x")
    const each = 25
    const messages = Array.from({ length: options.partitions * each }, (_, i) => ({
      value,
      partition: i % options.partitions
    }))
    let sent = 0
    while (true) {
      if (sent - options.taken() > options.ahead) yield* Effect.sleep(10)
      else if ((yield* Effect.exit(Effect.uninterruptible(outside.trySend(topic, messages))))._tag === "Success")
        sent += messages.length
      else yield* Effect.sleep(200)
    }
  })
