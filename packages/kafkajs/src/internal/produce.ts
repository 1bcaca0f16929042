/** Produce and InitProducerId over kafkajs. Its own Produce encodes the records, too, which is the driver's to do. */
import {
  decodeInitProducerId,
  decodeProduce,
  encodeInitProducerId,
  encodeProduce,
  initProducerIdKey,
  initProducerIdVersions,
  type PartitionBatch,
  type Produced,
  produceKey,
  type ProducerIdentity,
  produceVersions,
  versionIn
} from "@concurrent-kafka/driver/Protocol"
import type { KafkaJsBroker } from "./wire.ts"

const payload = (buffer: Buffer) => async () => ({ buf: buffer, buffer })

/** The broker answers when all replicas in sync have it, or after `timeout` milliseconds; a little later nobody waits any more. */
export const produce = (
  broker: KafkaJsBroker,
  batches: ReadonlyArray<PartitionBatch>,
  timeout: number
): Promise<Produced> => {
  const version = versionIn(broker.versions?.[produceKey], produceVersions)
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
  const version = versionIn(broker.versions?.[initProducerIdKey], initProducerIdVersions)
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
