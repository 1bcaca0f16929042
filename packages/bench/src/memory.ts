/**
 * A client whose records lie in memory: one session, all partitions its own, some chunks of partitions that are not paused in each turn
 * of the event loop. What is left of a record's costs is the engine's.
 */
import {
  type CommitEntry,
  type ConsumerRecord,
  KafkaClient,
  KafkaClientError,
  type Signal
} from "@concurrent-kafka/core"
import { type Cause, Effect, Layer, Queue } from "effect"

export interface Log {
  readonly topic: string
  /** by partition, in offset order, from 0 on */
  readonly partitions: ReadonlyArray<ReadonlyArray<ConsumerRecord>>
  /** given, once, what has to be called when a partition has got more */
  readonly growing?: ((grown: (partition: number) => void) => void) | undefined
}

const chunkRecords = 500
/** what a broker sends at once */
const turnRecords = 6_000

const absent = new KafkaClientError({ reason: "UnsupportedClient", detail: "there is no such thing in memory" })

/** `committed` is told of each commit. */
export const layer = (log: Log, committed: (entry: CommitEntry) => void): Layer.Layer<KafkaClient> =>
  Layer.succeed(KafkaClient, {
    name: "memory",
    enabled: true,
    openProducer: Effect.fail(absent),
    openAdmin: Effect.fail(absent),
    openSession: (settings) =>
      Effect.gen(function* () {
        const inbox = yield* Queue.unbounded<Signal, KafkaClientError | Cause.Done>()
        const positions = log.partitions.map(() => 0)
        const flowing = new Set<number>()
        const begun = new Set<number>()
        const paused = new Set<number>()
        let feeding = false
        const feed = (): void => {
          let given = 0
          for (const partition of flowing) {
            if (given >= turnRecords) break
            const all = log.partitions[partition]!
            const from = positions[partition]!
            const to = Math.min(all.length, from + chunkRecords)
            positions[partition] = to
            // the last in turn for the next
            flowing.delete(partition)
            if (to < all.length) flowing.add(partition)
            given += to - from
            const records = from === 0 && to === all.length ? all : all.slice(from, to)
            Queue.offerUnsafe(inbox, {
              _tag: "Chunk",
              topic: log.topic,
              partition,
              epoch: partition,
              records,
              nextOffset: BigInt(to),
              end: BigInt(all.length)
            })
          }
          feeding = flowing.size > 0
          if (feeding) setImmediate(feed)
        }
        const flow = (partition: number): void => {
          if (positions[partition]! === log.partitions[partition]!.length) return
          flowing.add(partition)
          if (feeding) return
          feeding = true
          setImmediate(feed)
        }
        log.growing?.((partition) => {
          if (begun.has(partition) && !paused.has(partition)) flow(partition)
        })
        return {
          settings,
          enabled: true,
          capabilities: {
            awaitedRevoke: true,
            incremental: true,
            commitMetadata: true,
            perPartitionCommitResult: true,
            staticMembership: false,
            groupProtocols: ["classic"],
            assignors: ["sticky"],
            requestTimeout: 30_000
          },
          join: Effect.sync(() => {
            Queue.offerUnsafe(inbox, {
              _tag: "Assigned",
              all: log.partitions.map((_, partition) => ({
                topic: log.topic,
                partition,
                epoch: partition,
                retained: false,
                committed: undefined,
                topicCommitted: false
              }))
            })
          }),
          inbox,
          generationUnsafe: () => 1,
          beginUnsafe: (starts) => {
            for (const { offset, partition } of starts) {
              positions[partition] = Number(offset)
              begun.add(partition)
              flow(partition)
            }
          },
          pauseUnsafe: (partitions) => {
            for (const { partition } of partitions) {
              paused.add(partition)
              flowing.delete(partition)
            }
          },
          resumeUnsafe: (partitions) => {
            for (const { partition } of partitions) {
              paused.delete(partition)
              flow(partition)
            }
          },
          reopenUnsafe: () => undefined,
          commit: (entries) =>
            Effect.sync(() => {
              for (const entry of entries) committed(entry)
              return entries.map(({ epoch, partition, topic }) => ({
                topic,
                partition,
                epoch,
                outcome: "committed" as const
              }))
            }),
          logOffsets: (partitions) =>
            Effect.succeed(
              partitions.map(({ partition, topic }) => ({
                topic,
                partition,
                start: 0n,
                end: BigInt(log.partitions[partition]!.length)
              }))
            ),
          leave: Effect.void
        }
      })
  })
