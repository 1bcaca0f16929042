import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { KafkaJs } from "../src/index.ts"

/** What a consumer finds that is built on the layer. */
const found = Effect.gen(function* () {
  yield* KafkaClient
  return yield* OffsetMap.Zstd
}).pipe(
  Effect.provide(KafkaJs.layerConfig),
  Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { KAFKA_ENABLED: "false" } })))
)

describe("the layer", () => {
  it.effect("brings what long offset maps are compressed with", () =>
    Effect.gen(function* () {
      const zstd = yield* found
      // every other record is done, up to 4,000
      const runs = Array.from({ length: 2000 }, (_, i) => [2 * i + 1, 2 * i + 2]).flat()
      const place = { topic: "orders", partition: 3, base: 100n }
      const plain = OffsetMap.encode({ ...place, runs, limit: 4096 }).metadata
      const { metadata } = OffsetMap.encode({ ...place, runs, limit: 4096, zstd })
      assert.isBelow(metadata.length, plain.length / 4)
      assert.deepStrictEqual(OffsetMap.decode(metadata, { ...place, trust: "own", zstd }), {
        _tag: "Map",
        map: { base: 100n, length: 4000, runs },
        own: true
      })
    })
  )

  it.effect("decompresses no more than it is told to", () =>
    Effect.gen(function* () {
      const zstd = yield* found
      if (zstd === undefined) return assert.fail("Node has none")
      const packed = zstd.compress(new Uint8Array(10_000))
      assert.strictEqual(zstd.decompress(packed, 10_000).length, 10_000)
      assert.throws(() => zstd.decompress(packed, 9_999))
    })
  )

  it.effect("leaves a program its own compressor", () =>
    Effect.gen(function* () {
      const own: OffsetMap.Zstd = { compress: (bytes) => bytes, decompress: (bytes) => bytes }
      assert.strictEqual(yield* Effect.provideService(found, OffsetMap.Zstd, own), own)
    })
  )
})
