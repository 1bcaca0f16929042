/** Produce and InitProducerId as they go over the wire: the record batches in it are the driver's own, whatever the library. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { fromCode } from "./classify.ts"
import { codeName } from "./codes.ts"

export const produceKey = 0
export const initProducerIdKey = 22

interface Versions {
  readonly name: string
  readonly min: number
  readonly max: number
}

/** 3 is the first with batches of format 2, 7 the last that is needed */
export const produceVersions: Versions = { name: "Produce", min: 3, max: 7 }
export const initProducerIdVersions: Versions = { name: "InitProducerId", min: 0, max: 1 }

/** The highest version that both have. Throws `KafkaClientError` (`UnsupportedClient`). */
export const versionIn = (
  offered: { readonly minVersion: number; readonly maxVersion: number } | undefined,
  { max, min, name }: Versions
): number => {
  const version = Math.min(max, offered?.maxVersion ?? -1)
  if (version >= min && version >= (offered?.minVersion ?? 0)) return version
  throw new KafkaClientError({
    reason: "UnsupportedClient",
    detail: `the broker offers no version of ${name} from ${min} to ${max}`
  })
}

export interface PartitionBatch {
  readonly topic: string
  readonly partition: number
  readonly batch: Buffer
}

export interface ProducerIdentity {
  readonly producerId: bigint
  readonly epoch: number
}

const int16 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(2)
  b.writeInt16BE(value)
  return b
}

const int32 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(4)
  b.writeInt32BE(value)
  return b
}

/** `transactional_id acks timeout_ms [topic [partition records]]`; all replicas that are in sync acknowledge. */
export const encodeProduce = (batches: ReadonlyArray<PartitionBatch>, timeout: number): Buffer => {
  const byTopic = Map.groupBy(batches, ({ topic }) => topic)
  const parts: Array<Buffer> = [int16(-1), int16(-1), int32(timeout), int32(byTopic.size)]
  for (const [topic, own] of byTopic) {
    const name = Buffer.from(topic, "utf8")
    parts.push(int16(name.length), name, int32(own.length))
    for (const { batch, partition } of own) parts.push(int32(partition), int32(batch.length), batch)
  }
  return Buffer.concat(parts)
}

export interface Produced {
  readonly clientSideThrottleTime: number
  readonly partitions: ReadonlyArray<{ readonly topic: string; readonly partition: number; readonly code: string }>
}

/** `[topic [partition error_code base_offset log_append_time [log_start_offset: 5]]] throttle_time_ms`, versions 3 to 7 */
export const decodeProduce = (b: Buffer, version: number): Produced => {
  let at = 0
  const int32At = () => b.readInt32BE((at += 4) - 4)
  const partitions: Array<Produced["partitions"][number]> = []
  for (let topics = int32At(); topics > 0; topics--) {
    const length = b.readInt16BE(at)
    const topic = b.toString("utf8", at + 2, (at += 2 + length))
    for (let n = int32At(); n > 0; n--) {
      const partition = int32At()
      partitions.push({ topic, partition, code: codeName(b.readInt16BE(at)) })
      at += version >= 5 ? 26 : 18
    }
  }
  const throttle = int32At()
  // from version 6 on the broker has not throttled yet and expects the client to
  return { clientSideThrottleTime: version >= 6 ? throttle : 0, partitions }
}

/** `transactional_id transaction_timeout_ms`, versions 0 and 1 */
export const encodeInitProducerId = (): Buffer => Buffer.concat([int16(-1), int32(60_000)])

/** `throttle_time_ms error_code producer_id producer_epoch`; throws `KafkaClientError` for an error code. */
export const decodeInitProducerId = (answer: Buffer): ProducerIdentity => {
  const code = answer.readInt16BE(4)
  if (code !== 0) throw fromCode(codeName(code), "get a producer id")
  return { producerId: answer.readBigInt64BE(6), epoch: answer.readInt16BE(14) }
}
