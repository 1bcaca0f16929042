/**
 * What can be committed, and what becomes of it: the committer asks `entries` once per request and tells `settled` the answer.
 *
 * Invariants, with their tests:
 * - an entry is taken from one moment, its offset and its map: what moves meanwhile is committed next (test/commits.test.ts, I1 and
 *   I2, test/offsetMapEngine.test.ts);
 * - between two generations, and of an epoch that is over, nothing is taken (test/rebalance.test.ts);
 * - what becomes of one entry changes nothing for the others (test/commits.test.ts);
 * - a map that is too large is cut, and never keeps its offset from being committed (test/offsetMapEngine.test.ts).
 */
import * as Effect from "effect/Effect"
import type { BatchCommitter } from "../BatchCommitter.ts"
import { ConsumerError } from "../ConsumerError.ts"
import type { CommitEntry, CommitOutcome, Committed, EpochPartition } from "../ConsumerSession.ts"
import { encodedBytes } from "./commitLoop.ts"
import type { PartitionEpoch } from "./epoch.ts"
import { keyOf, type RunState } from "./state.ts"

export interface CommitEvents {
  readonly fork: (effect: Effect.Effect<unknown>) => void
  readonly guarded: (then: () => void) => void
  readonly fail: (error: ConsumerError) => void
  /** the start of an epoch that opens is committed */
  readonly started: (epoch: PartitionEpoch) => void
  /** the broker knows this membership no more */
  readonly evicted: (epoch: PartitionEpoch) => void
  /** the broker knows no such partition */
  readonly gone: (epoch: PartitionEpoch) => void
}

/** a map that may only have so many characters says nothing worth a try */
const leastCharacters = 16

export class Commits {
  /** characters of the longest map that was taken */
  private accepted = 0
  private readonly run: RunState
  private readonly committer: BatchCommitter["Service"]
  private readonly events: CommitEvents

  constructor(run: RunState, committer: BatchCommitter["Service"], events: CommitEvents) {
    this.run = run
    this.committer = committer
    this.events = events
  }

  /**
   * The committer asks: what can be committed now, of these or of all. Offset and map are taken together, in one step. `mapAlone`:
   * whether a partition whose offset did not move is to be taken for its map.
   */
  readonly entries = (
    partitions: ReadonlyArray<EpochPartition> | undefined,
    repeat: boolean,
    mapAlone: (epoch: PartitionEpoch) => boolean
  ): ReadonlyArray<CommitEntry> => {
    const { run } = this
    const asked =
      partitions === undefined
        ? [...run.epochs.values()]
        : partitions.flatMap((p) => {
            // a late request of an ended epoch is outdone by what the epoch of now has
            const epoch = repeat ? run.epochs.get(keyOf(p)) : run.find(p)
            return epoch === undefined ? [] : [epoch]
          })
    const entries: Array<CommitEntry> = []
    for (const epoch of new Set(asked)) {
      // refused for good, while the consumer that ends by it still flushes its other partitions
      if (epoch.commitState === "over") continue
      let offset: bigint
      let metadata: string
      if (epoch.state === "opening") {
        if (!epoch.commitStart) continue
        offset = epoch.start!
        metadata = this.mapOf(epoch, offset)
      } else if (epoch.state === "suspended") continue
      else {
        offset = epoch.tracker.committable
        const same = offset === epoch.committed && !repeat && !epoch.unsure
        if (same) {
          const map = run.mapped && epoch.commitState !== "clean" && !epoch.map.unchanged(epoch)
          // looked at again when its time has come
          if (map && !mapAlone(epoch)) continue
          metadata = map ? this.mapOf(epoch, offset) : epoch.map.stored
          if (metadata === epoch.map.stored) {
            if (map) epoch.map.storedVersion = epoch.tracker.version
            if (epoch.commitState === "dirty") run.commit(epoch, "unmoved")
            continue
          }
        } else metadata = this.mapOf(epoch, offset)
      }
      if (epoch.commitState === "deferred") run.commit(epoch, "decideAgain")
      if (!run.commit(epoch, "taken")) continue
      epoch.request = { offset, metadata, version: epoch.tracker.version }
      entries.push({ topic: epoch.topic, partition: epoch.partition, epoch: epoch.epoch, offset, metadata })
    }
    // what had moved has nothing that could be committed
    if (entries.length === 0) this.calm()
    return entries
  }

  private mapOf(epoch: PartitionEpoch, offset: bigint): string {
    const { mapLimit, mapped, zstd } = this.run
    return mapped ? epoch.map.write(epoch, offset, mapLimit, zstd) : ""
  }

  /** What became of a request. */
  readonly settled = (outcomes: ReadonlyArray<CommitOutcome>, millis: number): void =>
    this.events.guarded(() => {
      const { counters } = this.run
      const now = this.run.now()
      if (outcomes.every((o) => o.outcome === "committed")) {
        counters.commitsOk++
        counters.commitFailures = 0
        counters.commitFailingSince = undefined
        counters.lastCommitAt = now
        counters.lastCommitMillis = millis
      } else {
        counters.commitsFailed++
        if (outcomes.some((o) => o.outcome === "retriable" || o.outcome === "rejected")) {
          counters.commitFailures++
          counters.commitFailingSince ??= now
        }
      }
      counters.commitTime.add(millis)
      counters.commitSize.add(encodedBytes(outcomes.map((o) => ({ topic: o.topic, metadata: this.sentWith(o) }))))
      let refused: string | undefined
      for (const outcome of outcomes) refused = this.outcome(outcome, outcomes.length === 1) ?? refused
      if (refused !== undefined) {
        this.events.fail(new ConsumerError({ reason: { _tag: "CommitRefused", code: refused } }))
      }
    })

  private sentWith(o: EpochPartition): string {
    return this.run.find(o)?.request?.metadata ?? ""
  }

  /** Gives back the code of a refusal that ends the consumer. `alone`: nothing else was in the request. */
  private outcome(outcome: CommitOutcome, alone: boolean): string | undefined {
    const { run } = this
    run.counters.commitEntries[outcome.outcome]++
    const epoch = run.find(outcome)
    if (epoch === undefined || epoch.request === undefined) {
      run.row("partition", "P28", outcome)
      run.counters.fenced++
      return undefined
    }
    const { metadata, offset, version } = epoch.request
    epoch.request = undefined
    switch (outcome.outcome) {
      case "committed": {
        epoch.committed = offset
        if (run.suspects.some) run.suspects.committed(epoch, offset)
        epoch.unsure = false
        epoch.map.stored = metadata
        epoch.map.storedVersion = version
        if (metadata.length > this.accepted) this.accepted = metadata.length
        const behind =
          epoch.state !== "opening" &&
          (epoch.tracker.committable !== offset || (run.mapped && !epoch.map.unchanged(epoch)))
        run.commit(epoch, behind ? "committedBehind" : "committed")
        if (epoch.state === "opening") this.events.started(epoch)
        return undefined
      }
      case "retriable":
        epoch.unsure ||= offset === epoch.committed
        run.commit(epoch, "retriable")
        return undefined
      case "deferred":
        epoch.unsure ||= offset === epoch.committed
        run.commit(epoch, "deferred")
        return undefined
      case "stale":
        if (outcome.code === "EPOCH") {
          run.commit(epoch, "staleEpoch")
          run.counters.fenced++
        } else {
          run.commit(epoch, "staleMember")
          this.events.evicted(epoch)
        }
        return outcome.code === "FENCED_INSTANCE_ID" ? outcome.code : undefined
      case "rejected":
        switch (outcome.code) {
          case "UNKNOWN_TOPIC_OR_PARTITION":
            run.commit(epoch, "unknownTopic")
            this.events.gone(epoch)
            return undefined
          case "REQUEST_TOO_LARGE":
            // with nothing else to leave out the map goes before its offset does
            if (alone && metadata !== "") epoch.map.limit = 0
            epoch.unsure ||= offset === epoch.committed
            run.commit(epoch, "requestTooLarge")
            return undefined
          case "OFFSET_METADATA_TOO_LARGE":
            if (metadata !== "") this.shorter(metadata.length)
            epoch.unsure ||= offset === epoch.committed
            run.commit(epoch, "metadataTooLarge")
            return undefined
          default:
            run.commit(epoch, "refused")
            return outcome.code
        }
    }
  }

  /** A broker takes no map of this length: by half less, but not less than what was taken before. */
  private shorter(refused: number): void {
    const half = refused >> 1
    const limit = this.accepted > half && this.accepted < refused ? this.accepted : half
    this.run.mapLimit = Math.min(this.run.mapLimit, limit < leastCharacters ? 0 : limit)
  }

  /** The partition came back retained. A request without an answer may have been applied meanwhile, over a newer one. */
  retained(epoch: PartitionEpoch, committed: Committed | undefined): void {
    if (epoch.request !== undefined) return
    const { map } = epoch
    const metadata = committed?.metadata ?? ""
    if (metadata !== map.stored) map.storedVersion = -1
    epoch.committed = committed?.offset
    map.stored = metadata
  }

  /** Commits at once what has moved while nothing could be committed. */
  catchUp(epoch: PartitionEpoch): void {
    const sameMap = !this.run.mapped || epoch.map.unchanged(epoch)
    if (epoch.tracker.committable === epoch.committed && sameMap && !epoch.unsure) {
      // put off, or without an answer, and the broker has it all the same
      if (epoch.commitState === "deferred") this.run.commit(epoch, "decideAgain")
      if (epoch.commitState === "dirty") this.run.commit(epoch, "unmoved")
      return this.calm()
    }
    if (epoch.commitState === "clean") this.run.commit(epoch, "moved")
    this.events.fork(Effect.ignore(this.committer.flush([epoch])))
  }

  /**
   * A new generation, in which the partition is where it was: what was put off for it is decided now, and not only by the next heartbeat
   * (test/commits.test.ts). Of one that opens it is the start.
   */
  again(epoch: PartitionEpoch): void {
    if (epoch.commitState !== "deferred") return
    if (epoch.state === "opening") this.events.fork(Effect.ignore(this.committer.flush([epoch])))
    else this.catchUp(epoch)
  }

  /** The epoch is over: what is under way is not waited for. */
  ended(epoch: PartitionEpoch): void {
    if (epoch.commitState !== "over") this.run.commit(epoch, "ended")
    this.calm()
  }

  /** Where nothing is left that could be committed, no success will ever end the row of failures. */
  private calm(): void {
    const { counters, epochs } = this.run
    if (counters.commitFailures > 0 && ![...epochs.values()].some(({ commitState }) => commitState !== "clean")) {
      counters.commitFailures = 0
      counters.commitFailingSince = undefined
    }
  }
}
