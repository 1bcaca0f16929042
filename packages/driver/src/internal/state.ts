/**
 * What a session knows: its partitions and its place in the group. All changes are synchronous; the loops of
 * `membership.ts`, `fetcher.ts` and `watcher.ts` wait for brokers in between and look again afterwards.
 *
 * - A partition is an `Owned` from the moment it is given until it goes; a new epoch is a new object, so that what came
 *   back late recognises by identity that it is late.
 * - What the session says about an epoch follows its announcement (`Assigned`, or the answer of `reopenUnsafe`).
 */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { Committed, EpochPartition, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import { isFatal } from "./classify.ts"
import type { Cluster } from "./cluster.ts"
import { type Claim, claimOf, Doubts } from "./doubts.ts"
import { keyOf } from "./offsets.ts"
import type { Broker, TopicMetadata } from "../Broker.ts"

export interface Owned {
  readonly topic: string
  readonly partition: number
  readonly epoch: number
  /** the engine knows of this epoch */
  announced: boolean
  /** the last generation that this member has held the partition in */
  heldIn: number
  topicId: string | undefined
  /** where the next fetch begins; `undefined` until the engine has said where */
  position: bigint | undefined
  paused: boolean
  /** beyond the end of the log: nothing is fetched until it is reopened */
  stopped: boolean
  fetching: boolean
  /** performance.now() when it brought something last */
  servedAt: number
  /** performance.now() before which it is not fetched again after an error */
  retryAt: number
  errors: number
  /** answers with a damaged batch since the last good one */
  damaged: number
  /** what the group has committed, as far as this session knows */
  committed: Committed | undefined
  /** the same of commits that have got no answer, as `written` says it: the broker may have them */
  readonly doubtful: Set<string>
}

/** Offset and metadata: two owners may have stopped at one offset with different maps beside it. */
export const written = ({ metadata, offset }: Committed): string => `${offset} ${metadata}`

/** never repeats within the process */
let epochs = 0

export const makeOwned = (topic: string, partition: number, heldIn: number, topicId: string | undefined): Owned => ({
  topic,
  partition,
  epoch: ++epochs,
  announced: false,
  heldIn,
  topicId,
  position: undefined,
  paused: false,
  stopped: false,
  fetching: false,
  servedAt: 0,
  retryAt: 0,
  errors: 0,
  damaged: 0,
  committed: undefined,
  doubtful: new Set()
})

export const epochOf = ({ epoch, partition, topic }: Owned): EpochPartition => ({ topic, partition, epoch })

export type Inbox = Queue.Queue<Signal, KafkaClientError | Cause.Done>

/** Between JoinGroup and the announced assignment nobody knows whose the partitions are. */
export type Phase = "out" | "member" | "joining"

export class SessionState {
  readonly settings: SessionSettings
  readonly inbox: Inbox
  #cluster: Cluster
  readonly owned = new Map<string, Owned>()
  memberId = ""
  /** the one that heartbeats and commits go out with */
  generation = -1
  /** the one whose assignment was announced last: what the engine holds, it holds in this one */
  announcedGeneration = -1
  phase: Phase = "out"
  /** under the `consumer` protocol: a heartbeat is under way, and may move the epoch of the member */
  moving: Promise<unknown> | undefined
  /** a JoinGroup or SyncGroup is under way: its connection is taken, no heartbeat is due */
  joinUnderWay = false
  coordinator: Broker | undefined
  #finding: Promise<Broker> | undefined

  /** a rejoin is due; under the `consumer` protocol: what is ours may have to change */
  readonly rejoin = Latch.makeUnsafe(false)
  /** a heartbeat is due now */
  readonly beat = Latch.makeUnsafe(false)
  /** metadata is to be read now */
  readonly look = Latch.makeUnsafe(false)
  /** topics of which something is gone for us: the group gives it to us again when they are there */
  readonly orphaned = new Set<string>()
  /** of topics that may be others of their names: nothing of them is fetched or committed */
  readonly doubts = new Doubts()
  #questioned: ReadonlySet<string> = new Set()
  /** completes when the membership ends while a rejoin is held */
  evicted: Deferred.Deferred<void> | undefined
  readonly failure = Deferred.makeUnsafe<never, KafkaClientError>()
  /** set by the fetcher: something to fetch may have come up */
  wakeFetch: () => void = () => undefined

  readonly #trouble = new Map<string, KafkaClientError>()
  readonly #failures = new Map<string, number>()
  #reported: KafkaClientError | undefined

  constructor(settings: SessionSettings, cluster: Cluster, inbox: Inbox) {
    this.settings = settings
    this.#cluster = cluster
    this.cluster = cluster
    this.inbox = inbox
  }

  get cluster(): Cluster {
    return this.#cluster
  }

  set cluster(cluster: Cluster) {
    this.#cluster = cluster
    cluster.hears = (found) => this.hears(found)
  }

  offer(signal: Signal): void {
    Queue.offerUnsafe(this.inbox, signal)
  }

  /** The partition, when this is its current, announced epoch. */
  current(p: EpochPartition): Owned | undefined {
    const owned = this.owned.get(keyOf(p.topic, p.partition))
    return owned !== undefined && owned.announced && owned.epoch === p.epoch ? owned : undefined
  }

  isCurrent(owned: Owned): boolean {
    return this.owned.get(keyOf(owned.topic, owned.partition)) === owned
  }

  announced(): Array<EpochPartition> {
    const list: Array<EpochPartition> = []
    for (const owned of this.owned.values()) if (owned.announced) list.push(epochOf(owned))
    return list
  }

  /** It is not known whether its topic is still the one that it was: nothing of it is committed, nor fetched. */
  isQuestioned({ partition, topic }: TopicPartition): boolean {
    return this.#questioned.size > 0 && this.#questioned.has(keyOf(topic, partition))
  }

  /** What is fetched or committed by its name is of the topic that it is of, as far as anybody has said. */
  isSettled(tp: TopicPartition): boolean {
    if (this.isQuestioned(tp)) return false
    return !this.doubts.has(tp.topic, this.owned.get(keyOf(tp.topic, tp.partition))?.topicId)
  }

  /** What some broker says of a topic. Where it speaks against what is held, that is to be cleared up now. */
  hears(found: TopicMetadata): boolean {
    const claim = claimOf(
      found,
      [...this.owned.values()].filter(({ announced, topic }) => announced && topic === found.topic)
    )
    if (claim === undefined) return true
    this.doubt(found.topic, claim)
    return false
  }

  doubt(topic: string, claim: Claim): void {
    if (this.doubts.claim(topic, claim, performance.now())) this.look.openUnsafe()
  }

  /** Of these, and no others, it has to be asked. */
  question(these: ReadonlyArray<TopicPartition>): void {
    const before = this.#questioned
    this.#questioned = new Set(these.map(({ partition, topic }) => keyOf(topic, partition)))
    if ([...before].some((key) => !this.#questioned.has(key))) this.wakeFetch()
  }

  /** Ends the epochs of what is not there any more. */
  gone(why: "deleted" | "recreated", is: (owned: Owned) => boolean): void {
    for (const [key, owned] of this.owned) {
      if (!is(owned)) continue
      this.owned.delete(key)
      this.orphaned.add(owned.topic)
      if (owned.announced) this.offer({ _tag: "Gone", ...epochOf(owned), why })
    }
    // what was said of it spoke against what is held no more
    for (const topic of this.orphaned) {
      if (![...this.owned.values()].some((owned) => owned.topic === topic)) this.doubts.forget(topic)
    }
  }

  /** Ends epochs of which nothing may be committed any more, whoever has them next. */
  lose(these: ReadonlyArray<Owned>): void {
    const partitions = these.filter(({ announced }) => announced).map(epochOf)
    for (const { partition, topic } of these) this.owned.delete(keyOf(topic, partition))
    if (partitions.length > 0) this.offer({ _tag: "Lost", partitions })
  }

  /** The coordinator knows us no more: whatever we held may be somebody else's already. */
  evict(forgotten: boolean): void {
    const partitions = this.announced()
    this.owned.clear()
    this.question([])
    this.generation = -1
    this.announcedGeneration = -1
    if (forgotten) this.memberId = ""
    if (this.phase === "member") this.phase = "joining"
    if (this.evicted) Deferred.doneUnsafe(this.evicted, Effect.void)
    if (partitions.length > 0) this.offer({ _tag: "Lost", partitions })
    this.rejoin.openUnsafe()
  }

  /** Finds the coordinator once for all who ask at the same time. */
  findCoordinator(): Promise<Broker> {
    const known = this.coordinator
    if (known?.isConnected()) return Promise.resolve(known)
    if (this.#finding) return this.#finding
    const cluster = this.cluster
    const finding = cluster.coordinator(this.settings.groupId).then((broker) => {
      if (cluster === this.cluster) this.coordinator = broker
      return broker
    })
    this.#finding = finding
    const end = () => {
      if (this.#finding === finding) this.#finding = undefined
    }
    finding.then(end, end)
    return finding
  }

  /** This broker is not the coordinator, or its connection cannot be used any more. */
  dropCoordinator(broker: Broker | undefined): void {
    if (broker === undefined) return
    this.cluster.discard(broker)
    if (this.coordinator === broker) this.coordinator = undefined
  }

  /**
   * Something does not work. Told to the engine from the second failure in a row on: connections are closed by brokers
   * and firewalls for being idle, and opened again at once. What waits for somebody to act is told at once.
   */
  failed(source: string, error: KafkaClientError): void {
    const count = (this.#failures.get(source) ?? 0) + 1
    this.#failures.set(source, count)
    const outage = error.reason === "Connection" || error.reason === "Timeout"
    if (outage && count < 2) return
    this.#trouble.set(source, error)
    this.#report()
  }

  /** Joining fails again and again, for want of a coordinator that takes it. */
  get isCutOff(): boolean {
    const error = this.#trouble.get("group")
    return error !== undefined && isOutage(error)
  }

  works(source: string): void {
    this.#failures.delete(source)
    if (this.#trouble.delete(source)) this.#report()
  }

  /** Without a membership nobody is told. */
  forgetTrouble(): void {
    this.#failures.clear()
    this.#trouble.clear()
    this.#reported = undefined
  }

  #report(): void {
    const error = this.#trouble.values().next().value
    if (error === undefined) {
      if (this.#reported !== undefined) this.offer({ _tag: "Connection", state: "up", cause: Option.none() })
    } else if (
      this.#reported?.reason !== error.reason ||
      (!isOutage(error) && this.#reported.detail !== error.detail)
    ) {
      this.offer({ _tag: "Connection", state: "down", cause: Option.some(error) })
    }
    this.#reported = error
  }

  /** Ends the membership: what cannot heal, or a mistake of ours. */
  fatal(cause: Cause.Cause<KafkaClientError>): void {
    Deferred.doneUnsafe(this.failure, Effect.failCause(cause))
  }
}

const isOutage = (error: KafkaClientError) => error.reason === "Connection" || error.reason === "Timeout"

/** Milliseconds before the next try: 100 ms doubled up to 1 s, and a fifth of it at random. */
export const backoff = (failures: number): number =>
  Math.min(1000, 100 * 2 ** Math.max(0, failures - 1)) * (0.8 + Math.random() * 0.4)

/** Tries until it works or fails for good; what goes wrong is told under `source`. */
export const persist = <A>(
  state: SessionState,
  source: string,
  attempt: () => Promise<A>
): Effect.Effect<A, KafkaClientError> =>
  Effect.gen(function* () {
    for (let failures = 1; ; failures++) {
      const result = yield* Effect.result(ask(attempt))
      if (result._tag === "Success") {
        state.works(source)
        return result.success
      }
      if (isFatal(result.failure)) return yield* result.failure
      state.failed(source, result.failure)
      yield* Effect.sleep(backoff(failures))
    }
  })

/** The promises below reject with nothing but `KafkaClientError`. */
export const ask = <A>(attempt: () => Promise<A>): Effect.Effect<A, KafkaClientError> =>
  Effect.tryPromise({ try: attempt, catch: (error) => error as KafkaClientError })
