import { assert, describe, it } from "@effect/vitest"
import { offsetCommitOf, offsetFetchOf } from "../src/internal/offsetRequests.ts"

const id = "0123456789abcdef0123456789abcdef"
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex")

const commit = (topicId: string | undefined) => ({
  groupId: "g",
  groupGenerationId: 7,
  memberId: "m",
  groupInstanceId: "i",
  topics: [{ topic: "t", topicId, partitions: [{ partition: 3, offset: 258n, metadata: "é" }] }]
})

const fetch = (topicId: string | undefined, requireStable: boolean) => ({
  groupId: "g",
  requireStable,
  topics: [{ topic: "t", topicId, partitions: [{ partition: 3 }, { partition: 4 }] }]
})

const versions = (minVersion: number, maxVersion: number) => ({ minVersion, maxVersion })

describe("a commit by topic id", () => {
  it("is written as version 10 has it", () => {
    const exchange = offsetCommitOf(commit(id), versions(2, 10))!
    assert.deepStrictEqual([exchange.apiKey, exchange.version], [8, 10])
    assert.deepStrictEqual(
      exchange.body.toString("hex"),
      hex(`00 0267 00000007 026d 0269 02 ${id} 02 00000003 0000000000000102 ffffffff 03c3a9 00 00 00`).toString("hex")
    )
    const dynamic = offsetCommitOf({ ...commit(id), groupInstanceId: undefined }, versions(2, 10))!
    assert.include(dynamic.body.toString("hex"), hex("026d 00 02").toString("hex"))
  })

  it("is answered for each partition, by the name that was asked for", () => {
    const { decode } = offsetCommitOf(commit(id), versions(2, 10))!
    // with a tagged field that nobody knows here
    const answer = decode(hex(`00 00000005 02 ${id} 03 00000003 0000 00 00000004 0064 01 09 02 ffff 00 00`))
    assert.deepStrictEqual(answer, {
      clientSideThrottleTime: 5,
      responses: [
        {
          topic: "t",
          partitions: [
            { partition: 3, errorCode: 0 },
            { partition: 4, errorCode: 100 }
          ]
        }
      ]
    })
  })

  it("is left to the library where the broker or the metadata have no ids", () => {
    assert.isUndefined(offsetCommitOf(commit(id), versions(2, 9)))
    assert.isUndefined(offsetCommitOf(commit(id), versions(11, 12)))
    assert.isUndefined(offsetCommitOf(commit(id), undefined))
    assert.isUndefined(offsetCommitOf(commit(undefined), versions(2, 10)))
    const some = { ...commit(id), topics: [...commit(id).topics, ...commit(undefined).topics] }
    assert.isUndefined(offsetCommitOf(some, versions(2, 10)))
  })
})

describe("what is asked of committed offsets", () => {
  it("goes by topic id where both have one, and says whether it has to be stable", () => {
    for (const requireStable of [true, false]) {
      const exchange = offsetFetchOf(fetch(id, requireStable), versions(1, 10))!
      assert.deepStrictEqual([exchange.apiKey, exchange.version], [9, 10])
      assert.strictEqual(
        exchange.body.toString("hex"),
        hex(`00 02 0267 00 ffffffff 02 ${id} 03 00000003 00000004 00 00 ${requireStable ? "01" : "00"} 00`).toString(
          "hex"
        )
      )
      const answer = hex(
        `00 00000000 02 0267 02 ${id} 03 00000003 0000000000000102 ffffffff 03c3a9 0000 00
         00000004 ffffffffffffffff ffffffff 00 0058 00 00 0000 00 00`
      )
      assert.deepStrictEqual(exchange.decode(answer), {
        clientSideThrottleTime: 0,
        errorCode: 0,
        responses: [
          {
            topic: "t",
            partitions: [
              { partition: 3, offset: 258n, metadata: "é", errorCode: 0 },
              { partition: 4, offset: -1n, metadata: null, errorCode: 88 }
            ]
          }
        ]
      })
    }
  })

  it("goes by name in version 7 otherwise", () => {
    for (const [topicId, offered] of [
      [undefined, versions(1, 10)],
      [id, versions(1, 9)],
      [id, versions(0, 7)]
    ] as const) {
      const exchange = offsetFetchOf(fetch(topicId, true), offered)!
      assert.strictEqual(exchange.version, 7)
      assert.strictEqual(
        exchange.body.toString("hex"),
        hex("00 0267 02 0274 03 00000003 00000004 00 01 00").toString("hex")
      )
      const answer = hex("00 00000000 02 0274 02 00000003 0000000000000102 ffffffff 0261 0000 00 00 0010 00")
      assert.deepStrictEqual(exchange.decode(answer), {
        clientSideThrottleTime: 0,
        errorCode: 16,
        responses: [{ topic: "t", partitions: [{ partition: 3, offset: 258n, metadata: "a", errorCode: 0 }] }]
      })
    }
  })

  it("is left to the library where the broker knows of nothing that is stable", () => {
    assert.isUndefined(offsetFetchOf(fetch(id, true), versions(0, 6)))
    assert.isUndefined(offsetFetchOf(fetch(id, true), undefined))
  })
})
