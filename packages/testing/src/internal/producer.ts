/**
 * A producer of the cluster, which does what an idempotent producer does: batches of a partition one after the other, each with
 * the sequence number that follows, sent again as it was until its fate is known.
 *
 * - A batch whose answer was lost is in the log once: the broker knows its sequence number.
 * - A batch that is given up without its fate being known ends the epoch of its partition: the next one would either be taken
 *   for it, and lost, or be refused for a gap.
 */
import { partitionOfKey, type Producer, type ProducerRecord, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Broker } from "./broker.ts"
import { Link } from "./link.ts"
import type { Stored } from "./log.ts"
import { type Code, type ProduceFate, produceFateOf } from "./protocol.ts"
import type { ClientSettings } from "./state.ts"
import { keyOf } from "./topics.ts"

/** how long a topic that is not there may still come: it may have been created just now */
const topicTimeout = 5_000
/** the part of the delivery timeout that may lie between the records of a batch: in doubt they are given up together */
const batchSpan = 0.25
/** how long closing waits for what is under way */
const closeTimeout = 5_000

/** One call of `send`. */
interface Sending {
  /** indexes of the records whose fate is not known yet */
  readonly pending: Set<number>
  readonly failed: Array<{ readonly index: number; readonly error: PublishError }>
  over: boolean
  readonly end: () => void
}

interface Entry {
  readonly record: ProducerRecord
  readonly stored: Stored
  readonly index: number
  readonly sending: Sending
  /** when it was sent */
  readonly since: number
}

interface Batch {
  entries: ReadonlyArray<Entry>
  sequence: number
  /** the first time that the topic was not there, in a row */
  missingSince: number | undefined
  /** an attempt has ended without its fate being known */
  doubtful: boolean
}

interface Lane {
  readonly topic: string
  readonly partition: number
  queue: Array<Entry>
  batch: Batch | undefined
  epoch: number
  sequence: number
  busy: boolean
}

interface ProduceResponse {
  /** by partition */
  readonly codes: ReadonlyMap<string, Code | undefined>
}

const publishError = (reason: PublishError["reason"], code: string, detail: string): PublishError =>
  new PublishError({ reason, code, detail })

/** as a record batch takes it, roughly */
const sizeOf = ({ headers, key, value }: Stored): number =>
  headers.reduce(
    (sum, [name, content]) => sum + name.length + (content?.length ?? 0) + 4,
    (key?.length ?? 0) + (value?.length ?? 0) + 80
  )

export const openProducer = (
  broker: Broker,
  client: ClientSettings
): Effect.Effect<Producer, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const { settings, time, topics } = broker
    const producerId = broker.nextProducerId()
    const id = `${client.clientId}/producer/${producerId}`
    const link = new Link({
      time,
      faults: broker.faults,
      requester: { sessionId: id, clientId: client.clientId, groupId: "" },
      requestTimeout: client.requestTimeout,
      joinTimeout: client.requestTimeout,
      brokerIsUp: () => broker.isUp
    })
    const run = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
    const lanes = new Map<string, Lane>()
    const nextPartition = new Map<string, number>()
    /** for topics, or partitions, that are not there, in the order of sending */
    let waiting: Array<Entry> = []
    const sendings = new Set<Sending>()
    let isClosed = false
    /** closed, and nothing is waited for any more */
    let isOver = false
    let scheduled = false
    let onIdle = () => {}

    const finish = (sending: Sending): void => {
      sending.over = true
      sendings.delete(sending)
      sending.end()
      if (sendings.size === 0) onIdle()
    }

    const settle = ({ index, sending }: Entry, error: PublishError | undefined): void => {
      if (sending.over) return
      sending.pending.delete(index)
      if (error !== undefined) sending.failed.push({ index, error })
      if (sending.pending.size === 0) finish(sending)
    }

    const laneOf = (topic: string, partition: number): Lane => {
      const key = keyOf({ topic, partition })
      let lane = lanes.get(key)
      if (lane === undefined) {
        lane = { topic, partition, queue: [], batch: undefined, epoch: 0, sequence: 0, busy: false }
        lanes.set(key, lane)
      }
      return lane
    }

    /** Into the lane of its partition; `false` when there is none. */
    const route = (entry: Entry): boolean => {
      const { key, partition, topic } = entry.record
      const count = topics.find(topic)?.partitions.length ?? 0
      if (
        count === 0 ||
        (partition !== undefined && !(Number.isInteger(partition) && partition >= 0 && partition < count))
      )
        return false
      let chosen = partition
      if (chosen === undefined && key !== null && key !== undefined) chosen = partitionOfKey(key, count)
      if (chosen === undefined) {
        const next = nextPartition.get(topic) ?? 0
        nextPartition.set(topic, next + 1)
        chosen = next % count
      }
      laneOf(topic, chosen).queue.push(entry)
      return true
    }

    const look = (): void => {
      const before = waiting
      waiting = []
      const blocked = new Set<string>()
      for (const entry of before) {
        const { topic } = entry.record
        if (entry.sending.over) continue
        if (!blocked.has(topic) && route(entry)) continue
        if (time.now() - entry.since >= topicTimeout) {
          const detail = `${topic} or the partition asked for is not there`
          settle(entry, publishError("refused", "UNKNOWN_TOPIC_OR_PARTITION", detail))
          continue
        }
        blocked.add(topic)
        waiting.push(entry)
      }
      if (waiting.length > 0) time.after(Math.max(1, settings.retryBackoff), schedule)
    }

    /** The end of a batch's life; its sequence numbers are free again when it is certain that nobody has them. */
    const end = (lane: Lane, batch: Batch, error: PublishError | undefined): void => {
      lane.batch = undefined
      if (error === undefined) lane.sequence += batch.entries.length
      else if (batch.doubtful) newEpoch(lane)
      for (const entry of batch.entries) settle(entry, error)
    }

    const newEpoch = (lane: Lane): void => {
      lane.epoch++
      lane.sequence = 0
    }

    /** `true`: the batch is tried again, after a pause. */
    const answered = (lane: Lane, batch: Batch, fate: ProduceFate, code: string): boolean => {
      const what = `send ${batch.entries.length} records to ${keyOf(lane)}`
      const fail = (reason: PublishError["reason"], detail = what) => {
        end(lane, batch, publishError(reason, code, detail))
        return false
      }
      switch (fate) {
        case "stored":
          end(lane, batch, undefined)
          return false
        case "refused":
          return fail(batch.doubtful ? "unconfirmed" : "refused")
        case "split": {
          // an earlier attempt may be in the log whole: halves of it would be stored again
          if (batch.doubtful) return fail("unconfirmed")
          if (batch.entries.length === 1) return fail("refused")
          // the first half now, the second goes in front of what waits
          const half = batch.entries.length >> 1
          lane.queue = [...batch.entries.slice(half), ...lane.queue]
          lane.batch = { ...batch, entries: batch.entries.slice(0, half) }
          return false
        }
        case "sequence":
          if (batch.doubtful) return fail("unconfirmed")
          newEpoch(lane)
          batch.sequence = 0
          break
        case "doubt":
          batch.doubtful = true
          break
        case "again":
          break
      }
      const now = time.now()
      if (code !== "UNKNOWN_TOPIC_OR_PARTITION") batch.missingSince = undefined
      else if (now - (batch.missingSince ??= now) >= topicTimeout)
        return fail(batch.doubtful ? "unconfirmed" : "refused")
      const isLate = ({ since }: Entry) => now - since >= client.deliveryTimeout
      const late = `${what} within ${client.deliveryTimeout} ms`
      if (batch.doubtful) return !isLate(batch.entries.at(-1)!) || fail("retriable", late)
      // not stored for certain: each for itself, and without what was taken back
      for (const entry of batch.entries.filter(isLate)) settle(entry, publishError("retriable", code, late))
      batch.entries = batch.entries.filter((entry) => !isLate(entry) && !entry.sending.over)
      if (batch.entries.length === 0) lane.batch = undefined
      return true
    }

    /** What waits, up to where its records are too much younger than the first. */
    const take = (lane: Lane): ReadonlyArray<Entry> => {
      const waits = lane.queue.filter(({ sending }) => !sending.over)
      const limit = (waits[0]?.since ?? 0) + client.deliveryTimeout * batchSpan
      const entries = waits.filter(({ since }) => since <= limit)
      lane.queue = waits.slice(entries.length)
      return entries
    }

    const request = (sent: ReadonlyArray<readonly [Lane, Batch]>): Effect.Effect<void> =>
      Effect.gen(function* () {
        // as they are sent: served late, they still have the numbers that they went out with
        const requests = sent.map(([lane, { entries, sequence }]) => ({ lane, entries, sequence, epoch: lane.epoch }))
        const serve = ({ entries, epoch, lane, sequence }: (typeof requests)[number]): Code | undefined => {
          const log = topics.log(lane)
          if (log === undefined) return "UNKNOWN_TOPIC_OR_PARTITION"
          const { compaction } = topics.get(lane.topic)
          if (compaction && entries.some(({ stored }) => stored.key === null)) return "INVALID_RECORD"
          if (entries.some(({ stored }) => sizeOf(stored) > settings.maxRecordBytes)) return "MESSAGE_TOO_LARGE"
          const records = entries.map(({ stored }) => stored)
          return log.appendSequenced({ id: producerId, epoch, sequence }, records)
        }
        const result = yield* Effect.result(
          link.call<ProduceResponse>(() => ({
            api: "produce",
            latency: settings.produceLatency,
            serve: (answer, fault) => {
              const met = new Set(fault?.kind === "code" ? fault.partitions?.map(keyOf) : undefined)
              const codes = new Map(
                requests.map((one) => [
                  keyOf(one.lane),
                  fault?.kind === "code" && met.has(keyOf(one.lane)) ? fault.code : serve(one)
                ])
              )
              broker.trace(() => `${id} produce ${[...codes].map(([key, code]) => `${key} ${code ?? "ok"}`).join(" ")}`)
              answer({ codes })
            },
            refuse: (code) => ({ codes: new Map(sent.map(([lane]) => [keyOf(lane), code])) })
          }))
        )
        for (const [lane, batch] of sent) {
          const code = result._tag === "Success" ? result.success.codes.get(keyOf(lane)) : result.failure.reason
          const fate = result._tag === "Success" ? produceFateOf(code) : "doubt"
          const free = () => {
            lane.busy = false
            schedule()
          }
          if (answered(lane, batch, fate, code ?? "NONE")) time.after(Math.max(1, settings.retryBackoff), free)
          else free()
        }
      })

    /** Everything that can go now goes in one request. */
    const pump = (): void => {
      scheduled = false
      if (isOver) return
      look()
      const sent: Array<readonly [Lane, Batch]> = []
      for (const lane of lanes.values()) {
        if (lane.busy) continue
        if (lane.batch === undefined) {
          const entries = take(lane)
          if (entries.length === 0) continue
          const { sequence } = lane
          lane.batch = { entries, sequence, missingSince: undefined, doubtful: false }
        }
        lane.busy = true
        sent.push([lane, lane.batch])
      }
      if (sent.length > 0) run(request(sent))
    }

    // in the next turn: what is sent in this one goes together
    const schedule = (): void => {
      if (scheduled) return
      scheduled = true
      time.defer(pump)
    }

    broker.producerLinks.add(link)
    const closedError = () => publishError("closed", "CLOSED", "the producer was closed")
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        isClosed = true
        const idle = Effect.callback<void>((resume) => {
          if (sendings.size === 0) return resume(Effect.void)
          onIdle = () => resume(Effect.void)
        })
        yield* Effect.timeoutOption(Effect.interruptible(idle), closeTimeout)
        isOver = true
        broker.producerLinks.delete(link)
        for (const sending of [...sendings]) {
          for (const index of sending.pending) sending.failed.push({ index, error: closedError() })
          finish(sending)
        }
      })
    )

    return {
      send: (records) =>
        Effect.callback<boolean, PublishError>((resume) => {
          if (isClosed) return resume(Effect.fail(closedError()))
          if (records.length === 0) return resume(Effect.succeed(true))
          const sending: Sending = {
            pending: new Set(records.keys()),
            failed: [],
            over: false,
            end: () => {
              const { failed } = sending
              time.defer(() =>
                resume(failed.length === 0 ? Effect.succeed(true) : Effect.fail(PublishError.combine(failed)))
              )
            }
          }
          sendings.add(sending)
          const since = time.now()
          records.forEach((record, index) => {
            const { headers = [], key = null, timestamp = BigInt(since), value } = record
            waiting.push({ record, stored: { key, value, headers, timestamp }, index, sending, since })
          })
          schedule()
          // what is in no batch yet is taken back
          return Effect.sync(() => {
            sending.over = true
            sendings.delete(sending)
            if (sendings.size === 0) onIdle()
          })
        })
    }
  })
