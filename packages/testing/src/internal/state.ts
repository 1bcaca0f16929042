/**
 * What a session knows: which partitions it holds in which epochs, where it reads, and what is wrong at the moment. The loops
 * of membership, fetching and committing all work on this, synchronously between two requests.
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type {
  Committed,
  EpochPartition,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type { Broker } from "./broker.ts"
import type { ClaimVersion } from "./claims.ts"
import type { Requester } from "./faults.ts"
import { type Call, Link } from "./link.ts"
import type { OffsetFetchResponse } from "./protocol.ts"
import { keyOf } from "./topics.ts"

/** A partition in one of its epochs. */
export interface Held extends EpochPartition {
  readonly topicId: number
  /** undefined until `begin` */
  position: bigint | undefined
  paused: boolean
  /** announced by Revoking, and not yet given back by Assigned */
  revoking: boolean
  /** out of range beyond the end, or gone: nothing is fetched in this epoch any more */
  halted: boolean
  /** its topic is gone, and that was said */
  gone: boolean
  /** the last generation in which it was held and assigned */
  generation: number
  /** What the group's committed offset can be if nobody but this session commits: what it was, and what was sent since. */
  ours: Array<Sent>
}

/** A value that this session has, or may have, committed; until then (on the clock) the broker can still apply it. */
export interface Sent {
  readonly committed: Committed | undefined
  until: number
}

export interface ClientSettings {
  readonly clientId: string
  readonly protocol: "eager" | "incremental"
  /** its commits wait in each round of a rebalance, until the group has joined */
  readonly cooperative: boolean
  readonly assignors: ReadonlyArray<string>
  readonly claims: ClaimVersion
  readonly awaitedRevoke: boolean
  readonly commitMetadata: boolean
  readonly perPartitionCommitResult: boolean
  readonly requestTimeout: number
  readonly deliveryTimeout: number
}

type Trouble = "topics" | "coordinator" | "protocol" | "records"

export class SessionState {
  readonly id: string
  readonly broker: Broker
  readonly client: ClientSettings
  readonly settings: SessionSettings
  readonly inbox: Queue.Queue<Signal, KafkaClientError | Cause.Done>
  readonly link: Link
  readonly requester: Requester
  /** what the engine was given */
  session: Session | undefined
  readonly held = new Map<string, Held>()
  memberId = ""
  generation = -1
  /** from the moment JoinGroup goes out until Assigned; of a cooperative member until it is answered */
  joining = false
  crashed = false
  /** what ended it for good */
  failure: KafkaClientError | undefined
  closed = false
  /** ends the fibers of the membership, whoever calls */
  endMembership: () => void = () => {}
  /** opened when there may be something to fetch */
  readonly wake = Latch.makeUnsafe(false)
  /** opened when the session itself wants a rebalance */
  readonly rejoin = Latch.makeUnsafe(false)
  /** offset fetches under way: while there are some, `ours` only grows, because what they bring may be of before */
  private fetchingOffsets = 0
  private readonly troubles = new Map<Trouble, KafkaClientError>()

  constructor(
    broker: Broker,
    client: ClientSettings,
    settings: SessionSettings,
    inbox: Queue.Queue<Signal, KafkaClientError | Cause.Done>
  ) {
    this.id = `${client.clientId}/${broker.sessions.length + 1}`
    this.broker = broker
    this.client = client
    this.settings = settings
    this.inbox = inbox
    this.requester = { sessionId: this.id, clientId: client.clientId, groupId: settings.groupId }
    this.link = new Link({
      time: broker.time,
      faults: broker.faults,
      requester: this.requester,
      requestTimeout: client.requestTimeout,
      joinTimeout: Math.max(client.requestTimeout, settings.rebalanceTimeout + 5_000),
      brokerIsUp: () => broker.isUp
    })
  }

  signal(signal: Signal): void {
    if (this.closed || this.crashed) return
    this.broker.trace(() => `${this.id} ${describe(signal)}`)
    Queue.offerUnsafe(this.inbox, signal)
  }

  /** Of the entries' partitions those that are held in just that epoch. */
  current(partition: EpochPartition): Held | undefined {
    const held = this.held.get(keyOf(partition))
    return held !== undefined && held.epoch === partition.epoch ? held : undefined
  }

  open(partition: TopicPartition, topicId: number, generation: number, committed: Committed | undefined): Held {
    const held: Held = {
      topic: partition.topic,
      partition: partition.partition,
      epoch: this.broker.nextEpoch(),
      topicId,
      position: undefined,
      paused: false,
      revoking: false,
      halted: false,
      gone: false,
      generation,
      ours: [{ committed, until: 0 }]
    }
    this.held.set(keyOf(partition), held)
    return held
  }

  /** The membership is over without a chance to commit. */
  lose(): void {
    const partitions = epochsOf(this.held.values())
    this.held.clear()
    this.generation = -1
    if (partitions.length > 0) this.signal({ _tag: "Lost", partitions })
  }

  /** A trouble begins, or has another reason than before. */
  trouble(which: Trouble, error: KafkaClientError): void {
    const before = this.troubles.get(which)
    this.troubles.set(which, error)
    if (before === undefined || before.reason !== error.reason) {
      this.signal({ _tag: "Connection", state: "down", cause: Option.some(error) })
    }
  }

  /** A trouble is over; when it was the last one, the session is up again. */
  mended(which: Trouble): void {
    if (this.troubles.delete(which) && this.troubles.size === 0) {
      this.signal({ _tag: "Connection", state: "up", cause: Option.none() })
    }
  }

  /** The membership is over, and so is whatever kept it from something: a later one begins without troubles. */
  forgetTroubles(): void {
    this.troubles.clear()
  }

  /** kill -9: nothing is said to anybody. */
  crash(): void {
    if (this.crashed || this.closed) return
    this.crashed = true
    this.link.disconnected = true
    this.link.break()
    this.link.gate.openUnsafe()
    this.endMembership()
    Queue.endUnsafe(this.inbox)
  }

  /** Ends the session for good, with what cannot heal. */
  fail(error: KafkaClientError): void {
    this.broker.trace(() => `${this.id} ends: ${error.message}`)
    this.failure = error
    Queue.failCauseUnsafe(this.inbox, Cause.fail(error))
    this.endMembership()
  }

  /** The call, again after a pause for as long as the connection is the trouble. */
  retrying<A>(which: Trouble, make: () => Call<A>): Effect.Effect<A, KafkaClientError> {
    const self = this
    return Effect.gen(function* (): Effect.fn.Return<A, KafkaClientError> {
      for (;;) {
        const answer = yield* Effect.result(self.link.call(make))
        if (Result.isSuccess(answer)) {
          self.mended(which)
          return answer.success
        }
        if (!answer.failure.isRetryable) return yield* answer.failure
        self.trouble(which, answer.failure)
        yield* self.pause
      }
    })
  }

  get pause(): Effect.Effect<void> {
    return this.broker.time.sleep(Math.max(1, this.broker.settings.retryBackoff))
  }

  /** What the group has committed for all partitions of the topics; retried until it is known. */
  offsets(topics: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<TopicPartition & Committed>, KafkaClientError> {
    const self = this
    return Effect.acquireUseRelease(
      Effect.sync(() => self.fetchingOffsets++),
      () =>
        Effect.gen(function* () {
          for (;;) {
            const response = yield* self.retrying<OffsetFetchResponse>("coordinator", () => ({
              api: "offsetFetch",
              latency: self.broker.settings.requestLatency,
              serve: (answer) => {
                const all = self.broker.coordinator.group(self.settings.groupId).offsets.values()
                answer({ offsets: [...all].filter((entry) => topics.includes(entry.topic)) })
              },
              refuse: (error) => ({ error, offsets: [] })
            }))
            if (response.error === undefined) return response.offsets
            yield* self.pause
          }
        }),
      () => Effect.sync(() => self.fetchingOffsets--)
    )
  }

  /** A commit goes out. */
  sent(held: Held, committed: Committed): Sent {
    const sent: Sent = { committed, until: Infinity }
    held.ours.push(sent)
    return sent
  }

  /** It was answered; or it was not, and the broker may have it, or still get it. */
  answered(held: Held, sent: Sent, answer: "committed" | "refused" | "none"): void {
    const now = this.broker.time.now()
    sent.until = answer === "none" ? now + this.client.requestTimeout : 0
    if (this.fetchingOffsets > 0) return
    if (answer === "refused") held.ours = held.ours.filter((one) => one !== sent)
    if (answer === "committed") held.ours = held.ours.filter((one) => one === sent || one.until > now)
  }

  /** Whether what the group has committed comes from this session. */
  isOurs(held: Held, committed: Committed | undefined): boolean {
    return held.ours.some(
      (one) => one.committed?.offset === committed?.offset && one.committed?.metadata === committed?.metadata
    )
  }

  wakeFetcher(): void {
    this.broker.time.defer(() => this.wake.openUnsafe())
  }

  askToRejoin(): void {
    this.broker.time.defer(() => this.rejoin.openUnsafe())
  }
}

export const epochsOf = (held: Iterable<Held>): Array<EpochPartition> =>
  [...held].map(({ epoch, partition, topic }) => ({ topic, partition, epoch }))

const describe = (signal: Signal): string => {
  const list = (partitions: ReadonlyArray<EpochPartition>) =>
    partitions.map((partition) => `${keyOf(partition)}#${partition.epoch}`).join(" ")
  switch (signal._tag) {
    case "Chunk":
      return `chunk ${list([signal])} ${signal.records.length} to ${signal.nextOffset}`
    case "Assigned":
      return `assigned ${signal.all.map((p) => `${keyOf(p)}#${p.epoch}${p.retained ? "=" : ""}`).join(" ")}`
    case "Revoking":
      return `revoking ${signal.exact ? "exactly " : ""}${list(signal.partitions)}`
    case "Lost":
      return `lost ${list(signal.partitions)}`
    case "OutOfRange":
      return `out of range ${list([signal])} at ${signal.position} of ${signal.start}..${signal.end}`
    case "Gone":
      return `gone ${list([signal])} ${signal.why}`
    case "Connection":
      return `connection ${signal.state} ${Option.match(signal.cause, { onNone: () => "", onSome: (e) => e.reason })}`
  }
}
