/** Produce and InitProducerId as they go over the wire. kafkajs's own Produce encodes the records, too, which is ours to do. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { fromCode } from "./classify.ts"
import { codeName } from "./codes.ts"
import type { Broker } from "./wire.ts"

const produceKey = 0
const initProducerIdKey = 22
/** 3 is the first with batches of format 2, 7 the last that kafkajs knows the header of and that we need */
const lowest = 3
const highest = 7

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

const versionOf = (broker: Broker, key: number, min: number, max: number, name: string): number => {
  const offered = broker.versions?.[key]
  const version = Math.min(max, offered?.maxVersion ?? -1)
  if (version >= min && version >= (offered?.minVersion ?? 0)) return version
  throw new KafkaClientError({
    reason: "UnsupportedClient",
    detail: `the broker offers no version of ${name} from ${min} to ${max}`
  })
}

const payload = (buffer: Buffer) => async () => ({ buf: buffer, buffer })

/** The broker answers when all replicas in sync have it, or after `timeout` milliseconds; a little later nobody waits any more. */
export const produce = (broker: Broker, batches: ReadonlyArray<PartitionBatch>, timeout: number): Promise<Produced> => {
  const version = versionOf(broker, produceKey, lowest, highest, "Produce")
  return broker.connectionPool.send<Produced>({
    request: {
      apiKey: produceKey,
      apiName: "Produce",
      apiVersion: version,
      encode: payload(encodeProduce(batches, timeout))
    },
    response: { decode: async (answer) => decodeProduce(answer, version), parse: (data) => data },
    requestTimeout: timeout + 1000
  })
}

/** An identity for an idempotent producer without transactions; any broker gives one. */
export const initProducerId = async (broker: Broker): Promise<ProducerIdentity> => {
  const version = versionOf(broker, initProducerIdKey, 0, 1, "InitProducerId")
  const answer = await broker.connectionPool.send<Buffer>({
    request: {
      apiKey: initProducerIdKey,
      apiName: "InitProducerId",
      apiVersion: version,
      // transactional_id transaction_timeout_ms
      encode: payload(Buffer.concat([int16(-1), int32(60_000)]))
    },
    response: { decode: async (bytes) => bytes, parse: (data) => data }
  })
  // throttle_time_ms error_code producer_id producer_epoch
  const code = answer.readInt16BE(4)
  if (code !== 0) throw fromCode(codeName(code), "get a producer id")
  return { producerId: answer.readBigInt64BE(6), epoch: answer.readInt16BE(14) }
}
