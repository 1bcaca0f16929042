/** Decodes the answer to a Fetch up to the record batches; `records.ts` decodes those. */

export interface AbortedTransaction {
  readonly producerId: bigint
  readonly firstOffset: bigint
}

export interface FetchedPartition {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  readonly highWatermark: bigint
  readonly lastStable: bigint
  readonly aborted: ReadonlyArray<AbortedTransaction>
  readonly batches: Buffer
}

export interface Fetched {
  readonly clientSideThrottleTime: number
  readonly errorCode: number
  readonly partitions: ReadonlyArray<FetchedPartition>
}

const none: ReadonlyArray<AbortedTransaction> = []
const empty = Buffer.alloc(0)

/**
 * Versions 4 to 11 (11 is the highest that kafkajs asks with).
 * `throttle_time_ms [error_code session_id: 7] [topic [partition error_code high_watermark last_stable_offset
 * [log_start_offset: 5] [aborted] [preferred_read_replica: 11] records]]`
 */
export const decodeFetch = (b: Buffer, version: number): Fetched => {
  let at = 0
  const int32 = () => b.readInt32BE((at += 4) - 4)
  const int64 = () => b.readBigInt64BE((at += 8) - 8)
  const throttle = int32()
  let errorCode = 0
  if (version >= 7) {
    errorCode = b.readInt16BE(at)
    at += 6
  }
  const partitions: Array<FetchedPartition> = []
  for (let topics = int32(); topics > 0; topics--) {
    const length = b.readInt16BE(at)
    const topic = b.toString("utf8", at + 2, (at += 2 + length))
    for (let n = int32(); n > 0; n--) {
      const partition = int32()
      const code = b.readInt16BE(at)
      at += 2
      const highWatermark = int64()
      const lastStable = int64()
      if (version >= 5) at += 8
      let aborted: ReadonlyArray<AbortedTransaction> = none
      const transactions = int32()
      if (transactions > 0) {
        aborted = Array.from({ length: transactions }, () => ({ producerId: int64(), firstOffset: int64() }))
      }
      if (version >= 11) at += 4
      const size = int32()
      const batches = size > 0 ? b.subarray(at, (at += size)) : empty
      partitions.push({ topic, partition, errorCode: code, highWatermark, lastStable, aborted, batches })
    }
  }
  // from version 8 on the broker has not throttled yet and expects the client to
  return { clientSideThrottleTime: version >= 8 ? throttle : 0, errorCode, partitions }
}
