/**
 * Where violations go, and what all checks look at.
 */
import type { EpochTruth, Owner } from "./owner.ts"
import type { Trace } from "./trace.ts"
import type { Rec, Truth } from "./truth.ts"
import type { World } from "@concurrent-kafka/testing/World"

export interface Violation {
  readonly invariant: string
  readonly detail: string
  readonly at: number
}

export type LogEnds = (topic: string, partition: number) => { readonly start: bigint; readonly end: bigint } | undefined

export class Judge {
  readonly world: World
  readonly trace: Trace
  readonly truth: Truth
  readonly violations: Array<Violation> = []
  /** nothing has been done to the broker since this time, so that what is done must arrive */
  calmSince = 0
  /** when a fault met a request of this client, or all of them */
  lastFault: (clientId: string) => number = () => 0
  /** how long a commit is on its way at most, while it is calm */
  readonly commitTime: number
  readonly logEnds: LogEnds
  /** partitions whose ends nobody can say: the client answers for all that it is asked about, or for none */
  readonly leaderless = new Set<string>()
  /** that something happened, for the coverage */
  happened: (feature: string) => void = () => {}

  constructor(world: World, trace: Trace, truth: Truth, commitTime: number, logEnds: LogEnds) {
    this.world = world
    this.trace = trace
    this.truth = truth
    this.commitTime = commitTime
    this.logEnds = logEnds
  }

  violation(invariant: string, detail: string): void {
    this.trace.log("CHECK", `${invariant} is broken: ${detail}`)
    this.violations.push({ invariant, detail, at: this.world.now })
  }

  /** Nothing that met its requests can have held up a commit. */
  isCalm(owner: Owner): boolean {
    const since = Math.max(this.calmSince, owner.life.calmSince)
    return this.world.now >= Math.max(since, this.lastFault(owner.clientId) + 30_000, owner.refusedAt + 30_000)
  }

  /** Records of epochs that are over may still be held. */
  isEnding(owner: Owner): boolean {
    if (owner.closing !== undefined || this.world.now < owner.lastEnd + owner.interruptGrace + 5_000) return true
    for (const epoch of owner.epochs.values()) if (epoch.state !== "ended" && epoch.mayEnd !== undefined) return true
    return false
  }

  end(epoch: EpochTruth | undefined): void {
    if (epoch === undefined || epoch.state === "ended") return
    epoch.state = "ended"
    epoch.endedAt = this.world.now
    epoch.owner.lastEnd = this.world.now
  }

  recordOf(record: { readonly value: Uint8Array | null }): Rec {
    return this.truth.byId[Number(new TextDecoder().decode(record.value!))]!
  }
}
