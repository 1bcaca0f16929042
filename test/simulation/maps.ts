/** Offset maps as the checker reads them: with the library's own reader, whose tests are elsewhere. */
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"

export interface MapTruth {
  readonly base: bigint
  /** beyond the last offset that it speaks of */
  readonly end: bigint
  readonly says: (offset: bigint) => boolean
  readonly runs: ReadonlyArray<readonly [from: bigint, to: bigint]>
}

export const readMap = (
  { partition, topic }: TopicPartition,
  committed: { readonly offset: bigint; readonly metadata: string } | undefined
): MapTruth | undefined => {
  if (committed === undefined) return undefined
  const base = committed.offset
  const decoded = OffsetMap.decode(committed.metadata, { topic, partition, base, trust: "own" })
  if (decoded._tag !== "Map") return undefined
  const runs = [...OffsetMap.done(decoded.map)]
  return {
    base,
    end: base + BigInt(decoded.map.length),
    runs,
    says: (offset) => runs.some(([from, to]) => from <= offset && offset < to)
  }
}
