/**
 * The cluster's handle: what a test does to topics, groups and processes.
 */
import type { Headers } from "@concurrent-kafka/core/ConsumerRecord"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { partitionOfKey } from "@concurrent-kafka/core/KafkaProducer"
import * as Effect from "effect/Effect"
import type { Cluster, GroupState, MemorySession, NewRecord, Written } from "../MemoryKafka.ts"
import type { Broker } from "./broker.ts"
import type { Stored, TransactionState } from "./log.ts"
import type { SessionState } from "./state.ts"
import { MisuseError, type Topic } from "./topics.ts"

const utf8 = new TextEncoder()

const bytes = (value: Uint8Array | string | null | undefined): Uint8Array | null =>
  typeof value === "string" ? utf8.encode(value) : (value ?? null)

/** Everything but the clients, which need the rest to be there. */
export const makeCluster = (broker: Broker): Omit<Cluster, "client" | "admin"> => {
  const { coordinator, faults, time, topics } = broker

  const route = (topic: Topic, record: NewRecord, key: Uint8Array | null): number => {
    const count = topic.partitions.length
    if (record.partition !== undefined) {
      if (topic.partitions[record.partition] === undefined) {
        throw new MisuseError(`${topic.name} has no partition ${record.partition}`)
      }
      return record.partition
    }
    return key === null ? topic.next++ % count : partitionOfKey(key, count)
  }

  const write = (name: string, records: Iterable<NewRecord>, transaction?: TransactionState): Array<Written> => {
    const topic = topics.get(name)
    const now = BigInt(time.now())
    const written: Array<{ partition: number; index: number }> = []
    const batches = new Map<number, Array<Stored>>()
    for (const record of records) {
      const key = bytes(record.key)
      if (key === null && topic.compaction) throw new MisuseError(`${name} is compacted: a record needs a key`)
      const partition = route(topic, record, key)
      const headers: Headers = (record.headers ?? []).map(([header, value]) => [header, bytes(value)])
      let batch = batches.get(partition)
      if (batch === undefined) batches.set(partition, (batch = []))
      written.push({ partition, index: batch.length })
      const timestamp = record.timestamp === undefined ? now : BigInt(record.timestamp)
      batch.push({ key, value: bytes(record.value), headers, timestamp })
    }
    const bases = new Map<number, bigint>()
    for (const [partition, batch] of batches) {
      bases.set(
        partition,
        topic.partitions[partition]!.append(batch.length, (index) => batch[index]!, transaction)
      )
    }
    return written.map(({ index, partition }) => ({
      topic: name,
      partition,
      offset: bases.get(partition)! + BigInt(index)
    }))
  }

  const sessionOf = (state: SessionState): MemorySession => {
    const { requester } = state
    const fault = (kind: string, f: () => void) =>
      Effect.sync(() => {
        faults.record(`session:${kind}`, requester)
        f()
      })
    return {
      id: state.id,
      clientId: state.client.clientId,
      groupId: state.settings.groupId,
      memberIdUnsafe: () => state.memberId,
      generationUnsafe: () => state.generation,
      heldUnsafe: () =>
        [...state.held.values()].map(({ epoch, partition, paused, position, topic }) => ({
          topic,
          partition,
          epoch,
          position,
          paused
        })),
      isOpenUnsafe: () => !state.closed && !state.crashed,
      freeze: fault("frozen", () => state.link.gate.closeUnsafe()),
      thaw: Effect.sync(() => time.defer(() => state.link.gate.openUnsafe())),
      crash: fault("crashed", () => state.crash()),
      disconnect: fault("disconnected", () => {
        state.link.disconnected = true
        state.link.break()
      }),
      reconnect: Effect.sync(() => {
        if (!state.crashed) state.link.disconnected = false
      }),
      breakConnections: fault("connectionsBroken", () => state.link.break()),
      evict: fault("evicted", () => {
        const group = coordinator.group(state.settings.groupId)
        if (!group.classic.remove(state.memberId, "evicted")) group.consumer.remove(state.memberId, "evicted")
      }),
      end: (reason) =>
        fault("ended", () => state.fail(new KafkaClientError({ reason, detail: "injected by the test" })))
    }
  }
  const controls = new Map<SessionState, MemorySession>()
  const controlOf = (state: SessionState): MemorySession => {
    let control = controls.get(state)
    if (control === undefined) controls.set(state, (control = sessionOf(state)))
    return control
  }
  const sessionsUnsafe = () => broker.sessions.map(controlOf)

  const groupUnsafe = (groupId: string): GroupState => {
    const { classic, consumer } = coordinator.group(groupId)
    if (!consumer.isEmpty) {
      return {
        groupId,
        protocol: "incremental",
        state: consumer.isStable ? "Stable" : "Reconciling",
        generation: consumer.epoch,
        members: consumer.describe()
      }
    }
    return {
      groupId,
      protocol: classic.isEmpty ? "none" : "eager",
      state: classic.state,
      generation: classic.isEmpty ? Math.max(classic.generation, consumer.epoch) : classic.generation,
      members: classic.describe()
    }
  }

  const committedUnsafe: Cluster["committedUnsafe"] = (groupId, topic, partition) => {
    const entry = coordinator.group(groupId).offsets.get(`${topic}/${partition}`)
    return entry === undefined ? undefined : { offset: entry.offset, metadata: entry.metadata }
  }

  const drop = (topic: string, keepCommitted: boolean | undefined) => {
    const dropped = topics.delete(topic)
    if (keepCommitted !== true) coordinator.forget(topic)
    return dropped
  }

  return {
    createTopic: (topic, options = {}) =>
      Effect.sync(() => {
        topics.create(topic, options.partitions ?? 1, options.compaction ?? false, options.startOffset ?? 0n)
      }),
    addPartitions: (topic, total) => Effect.sync(() => topics.grow(topic, total)),
    deleteTopic: (topic, options) => Effect.sync(() => void drop(topic, options?.keepCommitted)),
    recreateTopic: (topic, options) =>
      Effect.sync(() => {
        const before = drop(topic, options?.keepCommitted)
        topics.create(topic, options?.partitions ?? before.partitions.length, before.compaction, 0n)
      }),
    produce: (topic, records) => Effect.sync(() => write(topic, records)),
    produceUnsafe: (topic, records) => write(topic, records),
    produceMany: (partition, count, make) =>
      Effect.sync(() => {
        const timestamp = BigInt(time.now())
        topics.getLog(partition.topic, partition.partition).append(count, (index) => {
          const { key, value } = make(index)
          return { key, value, headers: [], timestamp }
        })
      }),
    transaction: Effect.sync(() => {
      const transaction: TransactionState = { state: "open" }
      const touched = new Map<string, Written>()
      const finish = (state: "committed" | "aborted") =>
        Effect.sync(() => {
          if (transaction.state !== "open") throw new MisuseError("the transaction is over")
          transaction.state = state
          for (const { partition, topic } of touched.values()) {
            topics.find(topic)?.partitions[partition]?.appendMarker(transaction)
          }
        })
      return {
        produce: (topic, records) =>
          Effect.sync(() => {
            if (transaction.state !== "open") throw new MisuseError("the transaction is over")
            const written = write(topic, records, transaction)
            for (const one of written) touched.set(`${one.topic}/${one.partition}`, one)
            return written
          }),
        commit: finish("committed"),
        abort: finish("aborted")
      }
    }),
    appendMarker: (topic, partition) =>
      Effect.sync(() => {
        topics.getLog(topic, partition).appendMarker(undefined)
      }),
    compact: (topic, options) =>
      Effect.sync(() => {
        const found = topics.get(topic)
        if (!found.compaction) throw new MisuseError(`${topic} is not compacted`)
        for (const log of found.partitions) log.compact(options?.tombstones ?? false)
      }),
    removeOffsets: (topic, partition, offsets) => Effect.sync(() => topics.getLog(topic, partition).remove(offsets)),
    deleteRecordsBefore: (topic, partition, offset) =>
      Effect.sync(() => topics.getLog(topic, partition).deleteBefore(offset)),
    truncateTo: (topic, partition, offset) => Effect.sync(() => topics.getLog(topic, partition).truncateTo(offset)),
    logOffsetsUnsafe: (topic, partition, isolation = "read_committed") => {
      const log = topics.getLog(topic, partition)
      return { topic, partition, start: log.start, end: log.visibleEnd(isolation) }
    },
    recordsUnsafe: (topic, partition, isolation = "read_committed") => {
      const log = topics.getLog(topic, partition)
      const read = log.read(log.start, Infinity, isolation)
      return read._tag === "Records" ? read.records : []
    },
    committed: (groupId, topic, partition) => Effect.sync(() => committedUnsafe(groupId, topic, partition)),
    committedUnsafe,
    setCommitted: (groupId, topic, partition, committed) =>
      Effect.sync(() => {
        const group = coordinator.group(groupId)
        if (committed === undefined) group.offsets.delete(`${topic}/${partition}`)
        else {
          coordinator.store(group, {
            topic,
            partition,
            offset: committed.offset,
            metadata: committed.metadata ?? ""
          })
        }
      }),
    commitsUnsafe: (groupId) =>
      groupId === undefined
        ? [...coordinator.history]
        : coordinator.history.filter((commit) => commit.groupId === groupId),
    onCommitUnsafe: (f) => {
      coordinator.watchers.add(f)
      return () => coordinator.watchers.delete(f)
    },
    groupUnsafe,
    rebalance: (groupId) =>
      Effect.sync(() => {
        faults.record("group:rebalance", { sessionId: "", clientId: "", groupId })
        const { classic, consumer } = coordinator.group(groupId)
        classic.disturb()
        consumer.disturb()
      }),
    sessionsUnsafe,
    controlUnsafe: (session) => {
      const state = broker.sessions.find((one) => one.session === session)
      if (state === undefined) throw new MisuseError("the session is not one of this cluster")
      return controlOf(state)
    },
    sessionUnsafe: (clientId) => {
      const found = sessionsUnsafe().findLast((session) => session.clientId === clientId && session.isOpenUnsafe())
      if (found === undefined) throw new MisuseError(`client ${clientId} has no open session`)
      return found
    },
    faults,
    brokerDown: Effect.sync(() => broker.down()),
    brokerUp: Effect.sync(() => broker.up()),
    traceUnsafe: () => broker.events
  }
}
