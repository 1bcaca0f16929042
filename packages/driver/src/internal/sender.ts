/**
 * Gets records to their leaders: one request at a time to each broker, with a batch of each partition that has something to say.
 * What comes while a request is under way goes into the next one, so that batches grow with the load and nobody waits for them.
 *
 * A record is confirmed when the answer of its leader names its partition without an error, and by nothing else.
 */
import type { ProducerRecord, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { isFatal } from "./classify.ts"
import { type Entry, type Lane, publishError, Sending, type Trouble } from "./lane.ts"
import type { PartitionBatch, ProducerIdentity, Produced } from "./produceRequest.ts"
import { notEncodable, roughSize } from "./recordBatch.ts"
import { Routes, type RoutesOptions } from "./routes.ts"
import { backoff } from "./state.ts"

/** The broker's side of it. All promises reject with `KafkaClientError` only. */
export interface SenderWire {
  readonly metadata: RoutesOptions["metadata"]
  readonly identify: () => Promise<ProducerIdentity>
  readonly produce: (node: number, batches: ReadonlyArray<PartitionBatch>) => Promise<ProduceAnswer>
}

export type ProduceAnswer =
  | { readonly _tag: "Answer"; readonly partitions: Produced["partitions"] }
  /** `sent`: the broker may have got it */
  | { readonly _tag: "NoAnswer"; readonly error: KafkaClientError; readonly sent: boolean }

/** Times in milliseconds. */
export interface SenderSettings {
  /** how long a record is tried to be sent; in doubt up to a quarter longer, with younger ones of its batch */
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

interface Node {
  readonly id: number
  /** lanes that have something to send, those that wait longest first */
  readonly ready: Set<Lane>
  busy: boolean
}

const check = (bytes: unknown, what: string): void => {
  if (bytes !== null && !(bytes instanceof Uint8Array))
    throw new TypeError(`${what} of a record is neither bytes nor null`)
}

export class Sender {
  readonly #wire: SenderWire
  readonly #settings: SenderSettings
  readonly #clock: Clock.Clock
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #nodes = new Map<number, Node>()
  #routes: Routes
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
    this.#routes = this.#noRoutes()
  }

  #noRoutes(): Routes {
    return new Routes({
      metadata: this.#wire.metadata,
      settings: this.#settings,
      now: () => this.#now(),
      pause: (failures) => this.#pause(failures),
      run: this.#run,
      onLane: (lane) => this.#wake(lane)
    })
  }

  #now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  /** `end` is called once, unless the result is called before: that takes back what no broker can have. */
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
      if (typeof timestamp !== "bigint") throw new TypeError("the timestamp of a record is no bigint")
      const body = { key, value, headers, timestamp }
      return { ...body, sending, index, size: roughSize(body), since, partition, missingSince: undefined }
    })
    this.#sendings.add(sending)
    this.#sweep()
    records.forEach(({ topic }, index) => {
      const entry = entries[index]!
      const { partition, size } = entry
      const refuse = (code: string, detail: string) => sending.settle(index, publishError("refused", { code }, detail))
      if (partition !== undefined && !(Number.isInteger(partition) && partition >= 0)) {
        return refuse("UNKNOWN_TOPIC_OR_PARTITION", `${topic} has no partition ${partition}`)
      }
      const code = notEncodable(entry, size)
      if (code !== undefined) return refuse(code, `send a record to ${topic}`)
      this.#routes.accept(topic, entry)
    })
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
    const detail = "the producer was closed before the broker had confirmed it"
    this.#routes.failEverything("closed", { code: "CLOSED" }, detail)
  }

  /** After a mistake of ours: everybody is told, and whoever sends next begins anew. */
  recover(cause: unknown): void {
    this.#routes.failEverything("unconfirmed", { code: "DEFECT", cause }, "a defect in the producer")
    this.#routes = this.#noRoutes()
    this.#nodes.clear()
    this.#sweeping = false
    this.#identity = undefined
  }

  #wake(lane: Lane): void {
    if (lane.state !== "idle" || lane.isEmpty) return
    if (lane.leader < 0) return this.#routes.want(lane.topic)
    let node = this.#nodes.get(lane.leader)
    if (node === undefined) this.#nodes.set(lane.leader, (node = { id: lane.leader, ready: new Set(), busy: false }))
    node.ready.add(lane)
    if (node.busy) return
    node.busy = true
    this.#run(this.#drain(node))
  }

  /** Requests to one broker, one after the other, until there is nothing to send to it. */
  #drain(node: Node): Effect.Effect<void> {
    const self = this
    return Effect.gen(function* () {
      // what is sent in this turn of the event loop goes together
      yield* Effect.yieldNow
      for (let failures = 0; node.ready.size > 0;) {
        if (self.#identity === undefined) {
          // what was taken back, or is too old, needs none
          for (const lane of node.ready) if (lane.isEmpty) node.ready.delete(lane)
          if (node.ready.size === 0) break
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
      if (moved) this.#routes.want(lane.topic)
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

  /** Gives up what is too old, and lets go of what was taken back, until there is nothing any more. */
  #sweep(): void {
    if (this.#sweeping) return
    this.#sweeping = true
    const self = this
    const { deliveryTimeout } = this.#settings
    this.#run(
      Effect.gen(function* () {
        while (self.#sendings.size > 0 || !self.#routes.isIdle) {
          yield* self.#clock.sleep(Duration.millis(Math.min(1000, deliveryTimeout)))
          self.#routes.expire(self.#now() - deliveryTimeout)
        }
        self.#sweeping = false
      })
    )
  }
}
