/** kafkajs, for the suites of all clients. */
import type { Client } from "../../driver/test/client.ts"
import * as Effect from "effect/Effect"
import kafkajs from "kafkajs"
import { KafkaJs } from "../src/index.ts"
import { openClient } from "../src/internal/client.ts"
import type { Adapted } from "../src/internal/connector.ts"

/** kafkajs knows gzip, and zstd by Node; a program that reads others registers them, here those of the other client. */
const registerCodecs = Effect.acquireRelease(
  Effect.promise(async () => {
    const { decompress } = await import("../../platformatic/test/decompress.ts")
    const codecs = kafkajs.CompressionCodecs as Record<number, unknown>
    const before = { ...codecs }
    for (const codec of [kafkajs.CompressionTypes.Snappy, kafkajs.CompressionTypes.LZ4]) {
      codecs[codec] = () => ({ decompress: (bytes: Buffer) => decompress(codec, bytes, "a batch", 0n) })
    }
    return () => Object.assign(codecs, before)
  }),
  (restore) => Effect.sync(restore)
)

export const client: Client = {
  library: { name: "kafkajs", open: openClient },
  layer: KafkaJs.layer,
  layerConfig: KafkaJs.layerConfig,
  socketsOf: (broker) =>
    (broker as Adapted).connectionPool.pool.flatMap(({ socket }) => (socket === undefined ? [] : [socket])),
  registerCodecs,
  unknownCodec: [2, "snappy"],
  logs: true,
  module: import.meta.url,
  classicOnly: "kafkajs speaks the classic protocol only",
  unsupported: undefined
}
