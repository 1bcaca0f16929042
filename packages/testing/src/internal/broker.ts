/**
 * The cluster's inside: one broker with its topics, its group coordinator, its faults and its trace.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { FaultBook } from "./faults.ts"
import { Coordinator } from "./groups.ts"
import type { Link } from "./link.ts"
import type { SessionState } from "./state.ts"
import * as Time from "./time.ts"
import { Topics } from "./topics.ts"

export interface BrokerSettings {
  readonly requestLatency: number
  readonly fetchLatency: number
  readonly commitLatency: number
  readonly produceLatency: number
  readonly retryBackoff: number
  readonly maxChunk: number
  readonly maxFetchRecords: number
  readonly maxMetadataLength: number
  readonly maxCommitBytes: number
  readonly maxRecordBytes: number
  readonly maxRequestBytes: number
  readonly initialRebalanceDelay: number
  readonly commitHistory: number
  readonly trace: boolean
}

export class Broker {
  readonly settings: BrokerSettings
  readonly time: Time.Time
  readonly topics = new Topics()
  readonly faults: FaultBook
  readonly coordinator: Coordinator
  readonly sessions: Array<SessionState> = []
  /** of the producers that are open */
  readonly producerLinks = new Set<Link>()
  readonly events: Array<string> = []
  isUp = true
  private epochs = 0
  private producers = 0

  constructor(settings: BrokerSettings, time: Time.Time) {
    this.settings = settings
    this.time = time
    this.faults = new FaultBook(time, (event) => this.trace(event))
    this.coordinator = new Coordinator(time, this.topics, settings, (event) => this.trace(event))
  }

  static readonly make = (settings: BrokerSettings): Effect.Effect<Broker, never, Scope.Scope> =>
    Effect.map(Time.make, (time) => new Broker(settings, time))

  /** Epochs are counted over all sessions, so that none is ever repeated. */
  nextEpoch(): number {
    return ++this.epochs
  }

  nextProducerId(): number {
    return ++this.producers
  }

  /** The line is only made when somebody wants it. */
  trace(event: () => string): void {
    if (this.settings.trace) this.events.push(`${this.time.now()} ${event()}`)
  }

  /** All connections break; what the coordinator had only in memory is gone. */
  down(): void {
    if (!this.isUp) return
    this.isUp = false
    this.faults.record("broker:down", { sessionId: "", clientId: "", groupId: "" })
    this.coordinator.stop()
    for (const session of this.sessions) session.link.break()
    for (const link of this.producerLinks) link.break()
  }

  up(): void {
    if (this.isUp) return
    this.isUp = true
    this.trace(() => "broker is up")
    this.coordinator.restart()
  }
}
