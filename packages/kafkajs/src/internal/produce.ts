/** Produce and InitProducerId over kafkajs. Its own Produce encodes the records, too, which is ours to do. */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import {
  decodeInitProducerId,
  decodeProduce,
  encodeInitProducerId,
  encodeProduce,
  type PartitionBatch,
  type Produced,
  type ProducerIdentity
} from "./produceRequest.ts"
import type { KafkaJsBroker } from "./wire.ts"

const produceKey = 0
const initProducerIdKey = 22
/** 3 is the first with batches of format 2, 7 the last that kafkajs knows the header of and that we need */
const lowest = 3
const highest = 7

const versionOf = (broker: KafkaJsBroker, key: number, min: number, max: number, name: string): number => {
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
export const produce = (
  broker: KafkaJsBroker,
  batches: ReadonlyArray<PartitionBatch>,
  timeout: number
): Promise<Produced> => {
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
export const initProducerId = async (broker: KafkaJsBroker): Promise<ProducerIdentity> => {
  const version = versionOf(broker, initProducerIdKey, 0, 1, "InitProducerId")
  const answer = await broker.connectionPool.send<Buffer>({
    request: {
      apiKey: initProducerIdKey,
      apiName: "InitProducerId",
      apiVersion: version,
      encode: payload(encodeInitProducerId())
    },
    response: { decode: async (bytes) => bytes, parse: (data) => data }
  })
  return decodeInitProducerId(answer)
}
