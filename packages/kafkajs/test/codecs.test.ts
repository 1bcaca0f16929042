import { assert, describe, it } from "@effect/vitest"
import kafkajs from "kafkajs"
import { codecs } from "../../driver/test/suites/codecs.ts"
import { decompress, registerZstd } from "../src/internal/codecs.ts"
import { client } from "./client.ts"

registerZstd()
codecs(client, decompress, [])

describe("the codecs of kafkajs", () => {
  it("a codec that a program has registered for zstd is kept", () => {
    const codecs = kafkajs.CompressionCodecs as Record<number, unknown>
    const before = codecs[4]
    const own = () => ({
      compress: () => Promise.resolve(Buffer.alloc(0)),
      decompress: () => Promise.resolve(Buffer.alloc(0))
    })
    codecs[4] = own
    registerZstd()
    assert.strictEqual(codecs[4], own)
    codecs[4] = before
  })
})
