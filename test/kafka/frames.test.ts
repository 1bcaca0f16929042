import { assert, describe, it } from "@effect/vitest"
import * as Frames from "./frames.ts"

const frame = (body: Buffer): Buffer => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length)
  return Buffer.concat([length, body])
}

const request = (apiKey: number, correlation: number, rest: string): Buffer => {
  const head = Buffer.alloc(8)
  head.writeInt16BE(apiKey, 0)
  head.writeInt16BE(2, 2)
  head.writeInt32BE(correlation, 4)
  return frame(Buffer.concat([head, Buffer.from(rest)]))
}

const answer = (correlation: number, rest: string): Buffer => {
  const head = Buffer.alloc(4)
  head.writeInt32BE(correlation)
  return frame(Buffer.concat([head, Buffer.from(rest)]))
}

const pieces = (bytes: Buffer, length: number): ReadonlyArray<Buffer> =>
  Array.from({ length: Math.ceil(bytes.length / length) }, (_, i) => bytes.subarray(i * length, (i + 1) * length))

describe("frames", () => {
  it("exactly the answers that are asked for are taken out, in whatever pieces the bytes come", () => {
    const asked = Buffer.concat([
      request(8, 1, ""),
      request(12, 2, "beat"),
      request(8, 3, "more"),
      request(8, 4, "last")
    ])
    // 8 asked for twice; an answer that has nothing but its head is one of them
    const answered = [answer(1, ""), answer(2, "yes"), answer(3, "x".repeat(50)), answer(4, "three")]
    for (let length = 1; length <= 40; length++) {
      let left = 2
      let eaten = 0
      const connection = Frames.eating(
        (apiKey) => apiKey === 8 && left-- > 0,
        () => eaten++
      )
      const there = Buffer.concat(pieces(asked, length).flatMap((piece) => connection.request(piece)))
      const back = Buffer.concat(pieces(Buffer.concat(answered), length).flatMap((piece) => connection.answer(piece)))
      assert.deepStrictEqual(there, asked, `requests in pieces of ${length}`)
      assert.deepStrictEqual(back, Buffer.concat([answered[1]!, answered[3]!]), `answers in pieces of ${length}`)
      assert.strictEqual(eaten, 2)
    }
  })
})
