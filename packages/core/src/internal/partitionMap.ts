/**
 * The offset map of one epoch: the one that the broker has, the one that was found there at assignment, and the one of now.
 *
 * Invariants, with their tests in `test/offsetMapEngine.test.ts`:
 * - what a former owner has written is not believed before the end of the log is known, and until then goes back as it came;
 * - the text is made once for a state of the tracker, however often it is asked for.
 */
import { OffsetMap } from "../OffsetMap.ts"
import type { PartitionEpoch } from "./epoch.ts"
import { plainCharacters } from "./mapWriter.ts"

/** of what the broker takes: above it nothing new starts, and it may start again below the second */
const almostFull = 0.75
const roomAgain = 0.7

export class PartitionMap {
  /** the metadata that the broker has beside the committed offset, as far as we know, whoever wrote it */
  stored = ""
  /** the tracker's version that `stored` says; another one when that is not known */
  storedVersion = 0
  /** found at assignment: believed when the end of the log is known */
  found: OffsetMap | undefined = undefined
  /** characters that a request with this entry alone may have */
  limit = Number.POSITIVE_INFINITY
  private text = ""
  private version = -1
  private offset = -1n
  private room = -1
  /** what compression makes of it */
  private ratio = 1

  /** Characters of the map as it was last made. */
  get size(): number {
    return this.text.length
  }

  /** Nothing that would change it has happened since the broker took it. */
  unchanged(epoch: PartitionEpoch): boolean {
    return epoch.tracker.version === this.storedVersion
  }

  /** The metadata for a commit of this offset, taken from the tracker in the same step. */
  write(epoch: PartitionEpoch, offset: bigint, most: number, zstd: OffsetMap.Zstd | undefined): string {
    const { tracker } = epoch
    const limit = Math.min(most, this.limit)
    const asItCame = this.found !== undefined
    if ((asItCame || (offset === epoch.committed && this.unchanged(epoch))) && this.stored.length <= limit) {
      return this.stored
    }
    if (asItCame) return ""
    if (tracker.version === this.version && offset === this.offset && limit === this.room) return this.text
    this.version = tracker.version
    this.offset = offset
    this.room = limit
    if (tracker.behindGap === 0 && !tracker.claiming) return (this.text = "")
    const { partition, topic } = epoch
    const { cut, metadata } = OffsetMap.encode({ topic, partition, base: offset, runs: tracker.mapRuns(), limit, zstd })
    this.text = metadata
    this.ratio = cut || tracker.claiming ? 1 : metadata.length / plainCharacters(tracker.span, tracker.runCount)
    return metadata
  }

  /** Whether it is almost all that the broker takes. Costs a few comparisons. */
  isFull(epoch: PartitionEpoch, most: number, wasFull: boolean): boolean {
    const { tracker } = epoch
    const limit = Math.min(most, this.limit)
    // what a former owner speaks of lies ahead: it has to be fetched for the records between to be found
    if (tracker.behindGap === 0 || tracker.claiming || limit === 0) return false
    const characters = plainCharacters(tracker.span, tracker.runCount) * this.ratio
    return characters > limit * (wasFull ? roomAgain : almostFull)
  }

  /** Found at assignment. Says why it is not used. */
  read(
    epoch: PartitionEpoch,
    metadata: string,
    base: bigint,
    trust: "own" | "all",
    zstd: OffsetMap.Zstd | undefined
  ): OffsetMap.Unusable | undefined {
    const { partition, topic } = epoch
    this.stored = metadata
    this.found = undefined
    const decoded = OffsetMap.decode(metadata, { topic, partition, base, trust, zstd })
    if (decoded._tag === "Unusable") return decoded.why
    if (decoded._tag === "Map") this.found = decoded.map
    return undefined
  }

  /**
   * The log ends here, as of the first that was heard of it, and what is delivered begins there. Says why the map is not used.
   */
  believe(epoch: PartitionEpoch, end: bigint, first: bigint | undefined): "beyondEnd" | "otherStart" | undefined {
    const { found } = this
    this.found = undefined
    if (found === undefined) return undefined
    if (found.base + BigInt(found.length) > end) return "beyondEnd"
    if (found.base !== epoch.start || (first !== undefined && first < found.base)) return "otherStart"
    epoch.tracker.claim(found.runs)
    this.storedVersion = epoch.tracker.version
    this.text = this.stored
    return undefined
  }
}
