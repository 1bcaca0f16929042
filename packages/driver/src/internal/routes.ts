/**
 * Which partition a record goes to, and who leads it: what a producer knows of topics. Metadata are read when something is sent
 * to a topic that is not known, when a leader turns out to be none, and when they are old.
 *
 * - Records wait for the metadata of their topic in the order in which they were sent.
 * - A topic, or a partition, that is not there may have been created just now: it is refused only after a while.
 */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { partitionOfKey, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { batchFate, isFatal } from "./classify.ts"
import { type Entry, Lane, publishError, type Trouble } from "./lane.ts"
import type { TopicMetadata } from "../Broker.ts"

interface Topic {
  readonly name: string
  /** 0: not known */
  partitions: number
  /** by partition, those that something was sent to */
  readonly lanes: Map<number, Lane>
  /** in the order of sending: for a topic that is not known yet, and for partitions that are not there */
  waiting: Array<Entry>
  missingSince: number | undefined
  refreshedAt: number
  /** counts records without a key */
  turn: number
  /** as of the last metadata */
  leaders: ReadonlyMap<number, number>
  /** why its metadata could not be read */
  trouble: Trouble
}

/**
 * The part of the delivery timeout that may lie between the records of a batch. More of it, and an old record would be told late
 * what became of it. Less, and batches would not grow with the load where requests are slow.
 */
const batchSpan = 0.25

const missing: Trouble = { code: "UNKNOWN_TOPIC_OR_PARTITION" }

export interface RoutesOptions {
  /** Rejects with `KafkaClientError` only. */
  readonly metadata: (topics: ReadonlyArray<string>) => Promise<ReadonlyMap<string, TopicMetadata>>
  /** Times in milliseconds. */
  readonly settings: {
    readonly deliveryTimeout: number
    readonly topicTimeout: number
    readonly metadataMaxAge: number
    readonly maxBatch: number
  }
  readonly now: () => number
  /** before the next attempt, after so many failures in a row */
  readonly pause: (failures: number) => Effect.Effect<void>
  /** Runs an effect for as long as the producer is there. */
  readonly run: (effect: Effect.Effect<void>) => void
  /** The lane has something to send, or another leader. */
  readonly onLane: (lane: Lane) => void
}

export class Routes {
  readonly #options: RoutesOptions
  readonly #topics = new Map<string, Topic>()
  /** topics whose metadata are to be read */
  readonly #wanted = new Set<string>()
  #refreshing = false
  /** opened when another topic is wanted */
  readonly #more = Latch.makeUnsafe(false)

  constructor(options: RoutesOptions) {
    this.#options = options
  }

  accept(name: string, entry: Entry): void {
    const topic = this.#topic(name)
    if (topic.partitions === 0) {
      topic.waiting.push(entry)
      return this.want(name)
    }
    if (entry.since - topic.refreshedAt > this.#options.settings.metadataMaxAge) this.want(name)
    this.#route(topic, entry)
  }

  /** Reads the topic's metadata, again and again until they say who leads what something is sent to. */
  want(name: string): void {
    if (!this.#wanted.has(name)) this.#more.openUnsafe()
    this.#wanted.add(name)
    if (this.#refreshing) return
    this.#refreshing = true
    this.#options.run(this.#refresh)
  }

  /** Gives up what was sent at or before `since`. */
  expire(since: number): void {
    const { deliveryTimeout } = this.#options.settings
    for (const topic of this.#topics.values()) {
      const detail = `send to ${topic.name} within ${deliveryTimeout} ms`
      for (const lane of topic.lanes.values()) lane.expire(since, detail)
      const late = topic.waiting.filter((entry) => entry.since <= since)
      topic.waiting = topic.waiting.filter((entry) => entry.since > since)
      for (const { index, sending } of late) sending.settle(index, publishError("retriable", topic.trouble, detail))
    }
  }

  /** Nothing is left to be sent, or to be asked about. */
  get isIdle(): boolean {
    return [...this.#topics.values()].every((topic) => this.#isIdle(topic))
  }

  failEverything(reason: PublishError["reason"], trouble: Trouble, detail: string): void {
    for (const topic of this.#topics.values()) {
      for (const lane of topic.lanes.values()) lane.failAll(reason, reason, trouble, detail)
      this.#failWaiting(topic, reason, trouble, detail)
    }
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      topic = {
        name,
        partitions: 0,
        lanes: new Map(),
        waiting: [],
        missingSince: undefined,
        refreshedAt: 0,
        // many programs that send one record each must not all send it to the same partition
        turn: Math.floor(Math.random() * 0x10000),
        leaders: new Map(),
        trouble: { code: "LEADER_NOT_AVAILABLE" }
      }
      this.#topics.set(name, topic)
    }
    return topic
  }

  #route(topic: Topic, entry: Entry): void {
    const partition =
      entry.partition ?? (entry.key === null ? this.#inTurn(topic) : partitionOfKey(entry.key, topic.partitions))
    if (partition >= topic.partitions) {
      entry.missingSince ??= this.#options.now()
      topic.waiting.push(entry)
      return this.want(topic.name)
    }
    let lane = topic.lanes.get(partition)
    if (lane === undefined) {
      const { deliveryTimeout, maxBatch } = this.#options.settings
      lane = new Lane(topic.name, partition, maxBatch, deliveryTimeout * batchSpan)
      lane.leader = topic.leaders.get(partition) ?? -1
      topic.lanes.set(partition, lane)
    }
    lane.push(entry)
    this.#options.onLane(lane)
  }

  /** The next partition that has a leader, or simply the next. */
  #inTurn(topic: Topic): number {
    for (let i = 0; i < topic.partitions; i++) {
      const partition = topic.turn++ % topic.partitions
      if ((topic.leaders.get(partition) ?? -1) >= 0) return partition
    }
    return topic.turn++ % topic.partitions
  }

  get #refresh(): Effect.Effect<void> {
    const self = this
    return Effect.gen(function* () {
      yield* Effect.yieldNow
      for (let failures = 0; self.#wanted.size > 0;) {
        const names = new Set(self.#wanted)
        const result = yield* Effect.result(
          Effect.tryPromise({
            try: () => self.#options.metadata([...names]),
            catch: (error) => error as KafkaClientError
          })
        )
        let again = false
        for (const name of names) {
          const topic = self.#topic(name)
          // before: what is asked for meanwhile is to be asked for again
          self.#wanted.delete(name)
          const satisfied =
            result._tag === "Success"
              ? self.#learn(topic, result.success.get(name))
              : self.#notLearnt(topic, result.failure)
          if (!satisfied) self.#wanted.add(name)
          again ||= self.#wanted.has(name)
        }
        self.#more.closeUnsafe()
        // one topic that is not there holds up no other one
        if ([...self.#wanted].some((name) => !names.has(name))) continue
        if (again) yield* Effect.raceFirst(self.#options.pause(++failures), self.#more.await)
        else failures = 0
      }
      self.#refreshing = false
    })
  }

  #isIdle(topic: Topic): boolean {
    topic.waiting = topic.waiting.filter(({ sending }) => !sending.over)
    return topic.waiting.length === 0 && [...topic.lanes.values()].every((lane) => lane.isEmpty)
  }

  /** Whether the metadata say all that is needed of the topic. */
  #learn(topic: Topic, found: TopicMetadata | undefined): boolean {
    const now = this.#options.now()
    const code = found?.code ?? missing.code
    if (code !== "NONE" || found === undefined) {
      if (this.#isIdle(topic)) {
        topic.missingSince = undefined
        topic.partitions = 0
        return true
      }
      const gone = code === missing.code
      if (gone) topic.missingSince ??= now
      if (gone ? now - topic.missingSince! < this.#options.settings.topicTimeout : batchFate(code).next !== "refuse")
        return false
      this.#failTopic(topic, { code }, gone ? `the topic ${topic.name} is not there` : `send to ${topic.name}`)
      return true
    }
    topic.missingSince = undefined
    topic.partitions = found.leaders.size
    topic.leaders = found.leaders
    topic.refreshedAt = now
    let satisfied = true
    for (const lane of topic.lanes.values()) {
      lane.leader = found.leaders.get(lane.partition) ?? -1
      if (lane.isEmpty) continue
      if (lane.leader < 0) {
        satisfied = false
        if (this.#isGone(topic, lane, now)) satisfied = true
      } else {
        lane.missingSince = undefined
        this.#options.onLane(lane)
      }
    }
    const waiting = topic.waiting
    topic.waiting = []
    for (const entry of waiting) {
      if (entry.sending.over) continue
      if (entry.missingSince !== undefined && now - entry.missingSince >= this.#options.settings.topicTimeout) {
        const detail = `${topic.name} has no partition ${entry.partition}`
        entry.sending.settle(entry.index, publishError("refused", missing, detail))
      } else {
        this.#route(topic, entry)
      }
    }
    return satisfied && topic.waiting.length === 0
  }

  /** A partition that the topic does not have any more: after a while its records are given up. */
  #isGone(topic: Topic, lane: Lane, now: number): boolean {
    if (lane.partition < topic.partitions || lane.state === "sending") return false
    lane.missingSince ??= now
    if (now - lane.missingSince < this.#options.settings.topicTimeout) return false
    lane.failAll("refused", "unconfirmed", missing, `${topic.name} has no partition ${lane.partition}`)
    lane.missingSince = undefined
    return true
  }

  /** There was no metadata. */
  #notLearnt(topic: Topic, error: KafkaClientError): boolean {
    const trouble: Trouble = { code: error.reason, cause: error }
    if (isFatal(error)) {
      this.#failTopic(topic, trouble, `read the metadata of ${topic.name}`)
      return true
    }
    for (const lane of topic.lanes.values()) lane.trouble = trouble
    topic.trouble = trouble
    return this.#isIdle(topic)
  }

  #failTopic(topic: Topic, trouble: Trouble, detail: string): void {
    topic.partitions = 0
    topic.missingSince = undefined
    for (const lane of topic.lanes.values()) {
      // what is under way has its answer to wait for
      if (lane.state !== "sending") lane.failAll("refused", "unconfirmed", trouble, detail)
    }
    this.#failWaiting(topic, "refused", trouble, detail)
  }

  #failWaiting(topic: Topic, reason: PublishError["reason"], trouble: Trouble, detail: string): void {
    const { waiting } = topic
    topic.waiting = []
    for (const { index, sending } of waiting) sending.settle(index, publishError(reason, trouble, detail))
  }
}
