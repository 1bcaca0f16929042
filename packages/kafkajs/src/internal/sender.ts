/**
 * Gets records to their leaders: one request at a time to each broker, with a batch of each partition that has something to say.
 * What comes while a request is under way goes into the next one, so that batches grow with the load and nobody waits for them.
 *
 * A record is confirmed when the answer of its leader names its partition without an error, and by nothing else.
 */
import { partitionOfKey, type ProducerRecord, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { batchFate, isFatal } from "./classify.ts"
import { type Entry, Lane, publishError, Sending, type Trouble } from "./lane.ts"
import type { TopicMetadata } from "./metadata.ts"
import type { PartitionBatch, ProducerIdentity, Produced } from "./produceRequest.ts"
import { roughSize } from "./recordBatch.ts"
import { backoff } from "./state.ts"

/** The broker's side of it. All promises reject with `KafkaClientError` only. */
export interface SenderWire {
  readonly metadata: (topics: ReadonlyArray<string>) => Promise<ReadonlyMap<string, TopicMetadata>>
  readonly identify: () => Promise<ProducerIdentity>
  readonly produce: (node: number, batches: ReadonlyArray<PartitionBatch>) => Promise<ProduceAnswer>
}

export type ProduceAnswer =
  | { readonly _tag: "Answer"; readonly partitions: Produced["partitions"] }
  /** `sent`: the broker may have got it */
  | { readonly _tag: "NoAnswer"; readonly error: KafkaClientError; readonly sent: boolean }

/** Times in milliseconds. */
export interface SenderSettings {
  /** how long a record is tried to be sent */
  readonly deliveryTimeout: number
  /** how long a topic that is not there may still come */
  readonly topicTimeout: number
  /** how old metadata may be before a send has them read again */
  readonly metadataMaxAge: number
  /** bytes of a batch, about */
  readonly maxBatch: number
  /** bytes of a request, about */
  readonly maxRequest: number
}

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
  /** leaders as of the last metadata */
  leaders: ReadonlyMap<number, number>
  /** why its metadata could not be read */
  trouble: Trouble
}

interface Node {
  readonly id: number
  /** lanes that have something to send, those that wait longest first */
  readonly ready: Set<Lane>
  busy: boolean
}

const missing: Trouble = { code: "UNKNOWN_TOPIC_OR_PARTITION" }

const check = (bytes: unknown, what: string): void => {
  if (bytes !== null && !(bytes instanceof Uint8Array))
    throw new TypeError(`${what} of a record is neither bytes nor null`)
}

export class Sender {
  readonly #wire: SenderWire
  readonly #settings: SenderSettings
  readonly #clock: Clock.Clock
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #topics = new Map<string, Topic>()
  readonly #nodes = new Map<number, Node>()
  /** topics whose metadata is to be read */
  readonly #wanted = new Set<string>()
  #refreshing = false
  #sweeping = false
  #identity: ProducerIdentity | undefined
  #identifying: Promise<ProducerIdentity> | undefined
  readonly #sendings = new Set<Sending>()
  #onIdle: () => void = () => undefined
  /** nothing is accepted any more */
  closed = false

  /** `run` runs an effect for as long as the producer is there. */
  constructor(options: {
    readonly wire: SenderWire
    readonly settings: SenderSettings
    readonly clock: Clock.Clock
    readonly run: (effect: Effect.Effect<void>) => void
  }) {
    this.#wire = options.wire
    this.#settings = options.settings
    this.#clock = options.clock
    this.#run = options.run
  }

  #now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  /** `end` is called once, unless the result is called before: that takes back what is in no batch yet. */
  send(records: ReadonlyArray<ProducerRecord>, end: (error: PublishError | undefined) => void): () => void {
    const since = this.#now()
    const time = BigInt(this.#clock.currentTimeMillisUnsafe())
    const sending = new Sending(records.length, (own, error) => {
      this.#over(own)
      end(error)
    })
    const entries = records.map((record, index): Entry => {
      const { headers = [], key = null, partition, timestamp = time, value } = record
      check(key, "the key")
      check(value, "the value")
      for (const [, content] of headers) check(content, "a header")
      const body = { key, value, headers, timestamp }
      return { ...body, sending, index, size: roughSize(body), since, partition, missingSince: undefined }
    })
    this.#sendings.add(sending)
    this.#sweep()
    records.forEach(({ topic }, index) => this.#accept(this.#topic(topic), entries[index]!))
    return () => {
      sending.over = true
      this.#over(sending)
    }
  }

  #over(sending: Sending): void {
    this.#sendings.delete(sending)
    if (this.#sendings.size === 0) this.#onIdle()
  }

  /** Completes when nobody waits for an answer. */
  readonly idle: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.#sendings.size === 0) return resume(Effect.void)
    this.#onIdle = () => resume(Effect.void)
  })

  /** Fails what is not confirmed. */
  close(): void {
    this.#failEverything("closed", { code: "CLOSED" }, "the producer was closed before the broker had confirmed it")
  }

  /** After a mistake of ours: everybody is told, and whoever sends next begins anew. */
  recover(cause: unknown): void {
    this.#failEverything("unconfirmed", { code: "DEFECT", cause }, "a defect in the producer")
    this.#topics.clear()
    this.#nodes.clear()
    this.#wanted.clear()
    this.#refreshing = false
    this.#sweeping = false
    this.#identity = undefined
  }

  #failEverything(reason: PublishError["reason"], trouble: Trouble, detail: string): void {
    for (const topic of this.#topics.values()) {
      for (const lane of topic.lanes.values()) lane.failAll(reason, reason, trouble, detail)
      this.#failWaiting(topic, reason, trouble, detail)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // To the lanes
  // -------------------------------------------------------------------------------------------------------------------

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

  #accept(topic: Topic, entry: Entry): void {
    if (topic.partitions === 0) {
      topic.waiting.push(entry)
      return this.#want(topic)
    }
    if (entry.since - topic.refreshedAt > this.#settings.metadataMaxAge) this.#want(topic)
    this.#route(topic, entry)
  }

  #route(topic: Topic, entry: Entry): void {
    const partition =
      entry.partition ?? (entry.key === null ? this.#inTurn(topic) : partitionOfKey(entry.key, topic.partitions))
    if (!(partition < topic.partitions)) {
      entry.missingSince ??= this.#now()
      topic.waiting.push(entry)
      return this.#want(topic)
    }
    let lane = topic.lanes.get(partition)
    if (lane === undefined) {
      lane = new Lane(topic.name, partition, this.#settings.maxBatch)
      lane.leader = topic.leaders.get(partition) ?? -1
      topic.lanes.set(partition, lane)
    }
    lane.push(entry)
    this.#wake(lane)
  }

  /** The next partition that has a leader, or simply the next. */
  #inTurn(topic: Topic): number {
    for (let i = 0; i < topic.partitions; i++) {
      const partition = topic.turn++ % topic.partitions
      if ((topic.leaders.get(partition) ?? -1) >= 0) return partition
    }
    return topic.turn++ % topic.partitions
  }

  #wake(lane: Lane): void {
    if (lane.state !== "idle" || lane.isEmpty) return
    if (lane.leader < 0) return this.#want(this.#topic(lane.topic))
    let node = this.#nodes.get(lane.leader)
    if (node === undefined) this.#nodes.set(lane.leader, (node = { id: lane.leader, ready: new Set(), busy: false }))
    node.ready.add(lane)
    if (node.busy) return
    node.busy = true
    this.#run(this.#drain(node))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // To the brokers
  // -------------------------------------------------------------------------------------------------------------------

  /** Requests to one broker, one after the other, until there is nothing to send to it. */
  #drain(node: Node): Effect.Effect<void> {
    const self = this
    return Effect.gen(function* () {
      // what is sent in this turn of the event loop goes together
      yield* Effect.yieldNow
      for (let failures = 0; node.ready.size > 0;) {
        if (self.#identity === undefined) {
          const result = yield* Effect.result(self.#identify)
          if (result._tag === "Success") failures = 0
          else if (isFatal(result.failure)) self.#refuse(node, result.failure)
          else yield* self.#pause(++failures)
          continue
        }
        const sent = self.#collect(node, self.#identity)
        if (sent.length === 0) continue
        const answer = yield* Effect.promise(() =>
          self.#wire.produce(
            node.id,
            sent.map(([, batch]) => batch)
          )
        )
        self.#answered(sent, answer)
      }
      node.busy = false
    })
  }

  get #identify(): Effect.Effect<void, KafkaClientError> {
    return Effect.tryPromise({
      try: async () => {
        // one for all brokers that ask at the same time
        const asking = (this.#identifying ??= this.#wire.identify().finally(() => {
          this.#identifying = undefined
        }))
        this.#identity = await asking
      },
      catch: (error) => error as KafkaClientError
    })
  }

  #collect(node: Node, identity: ProducerIdentity): Array<readonly [Lane, PartitionBatch]> {
    const sent: Array<readonly [Lane, PartitionBatch]> = []
    let bytes = 0
    for (const lane of node.ready) {
      if (lane.state !== "idle" || lane.leader !== node.id) {
        // it has moved since, or another broker has its batch
        node.ready.delete(lane)
        this.#wake(lane)
        continue
      }
      if (sent.length > 0 && bytes + this.#settings.maxBatch > this.#settings.maxRequest) break
      node.ready.delete(lane)
      const batch = lane.take(identity)
      if (batch === undefined) continue
      bytes += batch.length
      lane.state = "sending"
      sent.push([lane, { topic: lane.topic, partition: lane.partition, batch }])
    }
    return sent
  }

  #answered(sent: ReadonlyArray<readonly [Lane, PartitionBatch]>, answer: ProduceAnswer): void {
    const codes = new Map<string, string>()
    if (answer._tag === "Answer") {
      for (const { code, partition, topic } of answer.partitions) codes.set(`${topic}/${partition}`, code)
    }
    for (const [lane] of sent) {
      const { moved, pause, renew } =
        answer._tag === "Answer"
          ? lane.answered(codes.get(`${lane.topic}/${lane.partition}`) ?? "NO_ANSWER")
          : lane.unanswered({ code: answer.error.reason, cause: answer.error }, answer.sent, isFatal(answer.error))
      if (renew) this.#identity = undefined
      if (moved) this.#want(this.#topic(lane.topic))
      if (!pause) {
        lane.state = "idle"
        this.#wake(lane)
        continue
      }
      lane.state = "paused"
      this.#run(
        Effect.andThen(
          this.#pause(++lane.failures),
          Effect.sync(() => {
            lane.state = "idle"
            this.#wake(lane)
          })
        )
      )
    }
  }

  #pause(failures: number): Effect.Effect<void> {
    return this.#clock.sleep(Duration.millis(backoff(failures)))
  }

  /** The broker will give no identity. */
  #refuse(node: Node, error: KafkaClientError): void {
    const trouble: Trouble = { code: error.reason, cause: error }
    for (const lane of node.ready) {
      node.ready.delete(lane)
      if (lane.state === "idle")
        lane.failAll("refused", "unconfirmed", trouble, `send to ${lane.topic}/${lane.partition}`)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Metadata
  // -------------------------------------------------------------------------------------------------------------------

  #want(topic: Topic): void {
    this.#wanted.add(topic.name)
    if (this.#refreshing) return
    this.#refreshing = true
    this.#run(this.#refresh)
  }

  get #refresh(): Effect.Effect<void> {
    const self = this
    return Effect.gen(function* () {
      yield* Effect.yieldNow
      for (let failures = 0; self.#wanted.size > 0;) {
        const names = [...self.#wanted]
        const result = yield* Effect.result(
          Effect.tryPromise({ try: () => self.#wire.metadata(names), catch: (error) => error as KafkaClientError })
        )
        let again = false
        for (const name of names) {
          const topic = self.#topic(name)
          const satisfied =
            result._tag === "Success"
              ? self.#learn(topic, result.success.get(name))
              : self.#notLearnt(topic, result.failure)
          if (satisfied) self.#wanted.delete(name)
          else again = true
        }
        if (again) yield* self.#pause(++failures)
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
    const now = this.#now()
    const code = found?.code ?? missing.code
    if (code !== "NONE" || found === undefined) {
      if (this.#isIdle(topic)) {
        topic.missingSince = undefined
        topic.partitions = 0
        return true
      }
      const gone = code === missing.code
      if (gone) topic.missingSince ??= now
      if (gone ? now - topic.missingSince! < this.#settings.topicTimeout : batchFate(code).next !== "refuse")
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
        this.#wake(lane)
      }
    }
    const waiting = topic.waiting
    topic.waiting = []
    for (const entry of waiting) {
      if (entry.sending.over) continue
      if (entry.missingSince !== undefined && now - entry.missingSince >= this.#settings.topicTimeout) {
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
    if (now - lane.missingSince < this.#settings.topicTimeout) return false
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

  // -------------------------------------------------------------------------------------------------------------------
  // Time
  // -------------------------------------------------------------------------------------------------------------------

  /** Gives up what is too old, while somebody waits for something. */
  #sweep(): void {
    if (this.#sweeping) return
    this.#sweeping = true
    const self = this
    const { deliveryTimeout } = this.#settings
    this.#run(
      Effect.gen(function* () {
        while (self.#sendings.size > 0) {
          yield* self.#clock.sleep(Duration.millis(Math.min(1000, deliveryTimeout)))
          const since = self.#now() - deliveryTimeout
          for (const topic of self.#topics.values()) {
            const detail = `send to ${topic.name} within ${deliveryTimeout} ms`
            for (const lane of topic.lanes.values()) lane.expire(since, detail)
            const late = topic.waiting.filter((entry) => entry.since <= since)
            topic.waiting = topic.waiting.filter((entry) => entry.since > since)
            for (const { index, sending } of late) {
              sending.settle(index, publishError("retriable", topic.trouble, detail))
            }
          }
        }
        self.#sweeping = false
      })
    )
  }
}
