/** Metadata over kafkajs, which speaks them up to version 6, without ids: version 12 is the driver's own, when the broker has it. */
import type { Metadata, TopicMetadata } from "@concurrent-kafka/driver/Broker"
import {
  codeName,
  decodeMetadata,
  encodeMetadata,
  metadataKey,
  metadataVersion
} from "@concurrent-kafka/driver/Protocol"
import type { KafkaJsBroker, KafkaJsMetadata } from "./wire.ts"

/** Asks one broker. An empty list asks for no topic, only for the brokers. */
export const askMetadata = (broker: KafkaJsBroker, topics: ReadonlyArray<string>): Promise<Metadata> => {
  if ((broker.versions?.[metadataKey]?.maxVersion ?? 0) < metadataVersion)
    return broker.metadata(topics).then(fromKafkaJs)
  return broker.connectionPool.send<Metadata>({
    request: {
      apiKey: metadataKey,
      apiName: "Metadata",
      apiVersion: metadataVersion,
      encode: async () => {
        const buffer = encodeMetadata(topics)
        return { buf: buffer, buffer }
      }
    },
    response: { decode: async (payload) => decodeMetadata(payload), parse: (data) => data }
  })
}

const fromKafkaJs = (data: KafkaJsMetadata): Metadata => ({
  brokers: new Map(data.brokers.map((b) => [b.nodeId, { host: b.host, port: b.port }])),
  topics: new Map(
    data.topicMetadata.map((t): [string, TopicMetadata] => [
      t.topic,
      {
        topic: t.topic,
        code: codeName(t.topicErrorCode),
        id: undefined,
        leaders: new Map(t.partitionMetadata.map((p) => [p.partitionId, p.leader]))
      }
    ])
  )
})
