/**
 * How a partition begins: its epoch is made, its start is established, committed where it was not, and fetching begins there.
 *
 * Invariants, with their tests in `test/start.test.ts`, `test/logEnds.test.ts` and `test/offsetMapEngine.test.ts`:
 * - nothing is fetched before the start is known and committed (P2), and nothing is ever started from a guess (P3);
 * - a partition that cannot be established holds up no other one;
 * - what was committed beside the offset is kept as it came, until the end of the log is known;
 * - where a log ends comes to be known without records, too, and nothing waits for it.
 */
import * as Effect from "effect/Effect"
import type { BatchCommitter } from "../BatchCommitter.ts"
import { ConsumerError } from "../ConsumerError.ts"
import type { AssignedPartition, Committed, EpochPartition, LogOffsets } from "../ConsumerSession.ts"
import type { OffsetMap } from "../OffsetMap.ts"
import type { Backpressure } from "./backpressure.ts"
import { Pause, PartitionEpoch } from "./epoch.ts"
import type { GoneTopics } from "./goneTopics.ts"
import { Lanes } from "./lanes.ts"
import { keyOf, type RunState } from "./state.ts"

/** questions about single partitions under way */
const logOffsetsAtOnce = 16
/** between two tries to establish a start */
const openRetryMillis = 500
/** after a begin; most partitions have brought records by then, and with them their end */
const endsAfterMillis = 1_000
/** between two tries to learn of ends, each of which a client makes for as long as its requests may take */
const endsRetryMillis = 30_000

/** text of other tools, which was never meant to be a map */
const harmless = new Set<string>(["notBase64", "unknownMagic", "kafkaStreams"])

export interface OpeningEvents {
  readonly fork: (effect: Effect.Effect<unknown>) => void
  readonly guarded: (then: () => void) => void
  readonly fail: (error: ConsumerError) => void
  readonly logWarning: (message: string) => void
  readonly logDebug: (message: string) => void
  /** partitions have begun */
  readonly settled: () => void
}

export class Openings {
  private readonly run: RunState
  private readonly held: Backpressure
  private readonly committer: BatchCommitter["Service"]
  private readonly gone: GoneTopics
  private readonly userPaused: () => boolean
  private readonly events: OpeningEvents

  constructor(
    run: RunState,
    held: Backpressure,
    committer: BatchCommitter["Service"],
    gone: GoneTopics,
    userPaused: () => boolean,
    events: OpeningEvents
  ) {
    this.run = run
    this.held = held
    this.committer = committer
    this.gone = gone
    this.userPaused = userPaused
    this.events = events
  }

  open(partitions: ReadonlyArray<AssignedPartition>): void {
    if (partitions.length === 0) return
    this.start(
      partitions.map((p) => this.make(p)),
      partitions
    )
  }

  private make(p: EpochPartition): PartitionEpoch {
    const { run } = this
    const key = keyOf(p)
    const epoch = new PartitionEpoch(p, this.lanes(key), run.now())
    run.row("partition", "P1", p)
    run.epochs.set(key, epoch)
    this.gone.found(p)
    if (this.userPaused()) this.held.pause(epoch, Pause.user)
    return epoch
  }

  private lanes(key: string): Lanes | undefined {
    const { laneOf, ordering } = this.run.settings
    if (laneOf === undefined) return undefined
    let lanes = this.run.lanes.get(key)
    if (lanes === undefined) this.run.lanes.set(key, (lanes = new Lanes(laneOf, ordering === "partition")))
    return lanes
  }

  /** Where there is a committed offset that is the start; else it is resolved and committed, before anything is fetched. */
  start(epochs: ReadonlyArray<PartitionEpoch>, partitions: ReadonlyArray<AssignedPartition>): void {
    const known: Array<PartitionEpoch> = []
    const unknown: Array<{ readonly epoch: PartitionEpoch; readonly p: AssignedPartition }> = []
    const unusable = new Map<string, Array<PartitionEpoch>>()
    epochs.forEach((epoch, i) => {
      const p = partitions[i]!
      if (p.committed !== undefined) {
        epoch.committed = p.committed.offset
        epoch.start = p.committed.offset
        const why = this.read(epoch, p.committed)
        if (why !== undefined) unusable.set(why, [...(unusable.get(why) ?? []), epoch])
        known.push(epoch)
      } else if (this.run.settings.startFrom === "fail") {
        this.events.fail(
          new ConsumerError({
            reason: { _tag: "NoStart", topic: p.topic, partition: p.partition, why: "notCommitted" }
          })
        )
      } else unknown.push({ epoch, p })
    })
    for (const [why, these] of unusable) this.notUsed(why, these.length, these[0]!)
    this.begin(known)
    if (unknown.length > 0) {
      const { startFrom } = this.run.settings
      const assigned = new Map(unknown.map(({ epoch, p }) => [epoch, p]))
      this.establish([...assigned.keys()], (epoch, log) =>
        // new in a topic that the group reads: nothing of it may be passed over
        startFrom === "latest" && !assigned.get(epoch)!.topicCommitted ? log.end : log.start
      )
    }
  }

  /** Reads the log's ends, resolves each start, commits it, and begins; tries until the epochs are not opening any more. */
  private establish(
    epochs: ReadonlyArray<PartitionEpoch>,
    resolve: (epoch: PartitionEpoch, log: LogOffsets) => bigint
  ): void {
    // an epoch that was suspended meanwhile is opened anew, by another attempt
    const token = {}
    for (const epoch of epochs) epoch.opening = token
    const opening = (): ReadonlyArray<PartitionEpoch> =>
      epochs.filter((epoch) => epoch.state === "opening" && epoch.opening === token)
    const attempt: Effect.Effect<void> = Effect.suspend(() => {
      const now = opening()
      if (now.length === 0) return Effect.void
      const unresolved = now.filter((epoch) => epoch.start === undefined)
      return Effect.flatMap(this.logOffsets(unresolved), (found) => {
        for (const log of found) {
          const epoch = this.run.epochs.get(keyOf(log))
          if (epoch?.opening !== token || epoch.start !== undefined) continue
          epoch.start = resolve(epoch, log)
          epoch.end ??= log.end
        }
        const ready = opening().filter((epoch) => epoch.start !== undefined)
        for (const epoch of ready) {
          epoch.commitStart = true
          if (epoch.commitState === "clean") this.run.commit(epoch, "moved")
        }
        return Effect.flatMap(ready.length === 0 ? Effect.void : Effect.ignore(this.committer.flush(ready)), () => {
          const left = opening()
          if (left.length === 0) return Effect.void
          this.events.guarded(() => {
            for (const epoch of left) {
              this.run.partition(epoch, "startFailed")
              epoch.startFailedOnce = true
            }
          })
          return Effect.andThen(Effect.sleep(openRetryMillis), attempt)
        })
      })
    })
    this.events.fork(attempt)
  }

  /** Where they can be read. A client answers for all or fails: one without a leader must not keep the others from opening. */
  private logOffsets(partitions: ReadonlyArray<EpochPartition>): Effect.Effect<ReadonlyArray<LogOffsets>> {
    const { session } = this.run
    if (partitions.length === 0) return Effect.succeed([])
    return Effect.catch(session.logOffsets(partitions), () =>
      partitions.length === 1
        ? Effect.succeed([])
        : Effect.map(
            Effect.forEach(partitions, (p) => this.logOffsets([p]), { concurrency: logOffsetsAtOnce }),
            (found) => found.flat()
          )
    )
  }

  /** The start is known, and committed. */
  begin(epochs: ReadonlyArray<PartitionEpoch>): void {
    const starts: Array<EpochPartition & { readonly offset: bigint }> = []
    for (const epoch of epochs) {
      if (this.run.partition(epoch, "startKnown") === undefined) continue
      const offset = epoch.start!
      epoch.opened(offset)
      epoch.commitStart = false
      starts.push({ topic: epoch.topic, partition: epoch.partition, epoch: epoch.epoch, offset })
    }
    if (starts.length === 0) return
    this.run.session.beginUnsafe(starts)
    for (const epoch of epochs) if (epoch.state === "open") this.held.apply(epoch)
    this.learnEnds(epochs)
    this.events.settled()
    for (const epoch of epochs) if (!epoch.unstarted) epoch.tell(true)
  }

  /**
   * Records bring the end of their log with them. Of partitions that bring none, because there is nothing new, they are paused, or nothing
   * comes through, it is asked for, or nobody could tell how far behind they are. Only what is shown depends on it.
   */
  private learnEnds(epochs: ReadonlyArray<PartitionEpoch>): void {
    const silent = (): ReadonlyArray<PartitionEpoch> =>
      epochs.filter((epoch) => epoch.end === undefined && epoch.state !== "ended")
    if (silent().length === 0) return
    const ask: Effect.Effect<void> = Effect.suspend(() => {
      const asked = new Set(silent())
      if (asked.size === 0) return Effect.void
      const found = Effect.catchDefect(this.logOffsets([...asked]), () => Effect.succeed([]))
      return Effect.flatMap(found, (logs) => {
        for (const log of logs) {
          const epoch = this.run.epochs.get(keyOf(log))
          // what came with records meanwhile is newer
          if (epoch !== undefined && asked.has(epoch)) epoch.end ??= log.end
        }
        return silent().length === 0 ? Effect.void : Effect.andThen(Effect.sleep(endsRetryMillis), ask)
      })
    })
    this.events.fork(Effect.andThen(Effect.sleep(endsAfterMillis), ask))
  }

  /** A new epoch of the same partition; `undefined` when the client does not have it any more. */
  reopen(old: EpochPartition, resolve: (log: LogOffsets) => bigint, start?: bigint): PartitionEpoch | undefined {
    const next = this.run.session.reopenUnsafe(old)
    if (next === undefined) return undefined
    const epoch = this.make(next)
    epoch.start = start
    this.move(epoch, resolve)
    return epoch
  }

  move(epoch: PartitionEpoch, to: (log: LogOffsets) => bigint): void {
    epoch.movedTo = to
    this.establish([epoch], (_, log) => to(log))
  }

  /** What the group has committed beside an offset; it is believed with the first chunk. Says why it is not. */
  read(epoch: PartitionEpoch, committed: Committed): OffsetMap.Unusable | undefined {
    const { settings, zstd } = this.run
    if (!this.run.mapped || settings.offsetMap === "off") return undefined
    return epoch.map.read(epoch, committed.metadata, committed.offset, settings.offsetMap, zstd)
  }

  /** Nothing of its content: it may be anybody's text. */
  notUsed(why: string, partitions: number, first: EpochPartition): void {
    const message = `the commit metadata of ${partitions} partition(s), first ${first.topic}/${first.partition}, is not used as an offset map (${why}); what is done behind their committed offsets is handled again`
    if (harmless.has(why)) this.events.logDebug(message)
    else this.events.logWarning(message)
  }
}
