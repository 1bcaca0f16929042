import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import type { Cluster } from "../src/internal/cluster.ts"
import { byTopicId, fetchCommitted, inOrder } from "../src/internal/offsets.ts"
import type { Broker } from "../src/Broker.ts"

type Entry = Awaited<ReturnType<Broker["offsetFetch"]>>["responses"][number]["partitions"][number]

/** what metadata were read of, and of whom */
const refreshed: Array<readonly [topics: ReadonlyArray<string>, of: Broker | undefined]> = []

const broker = (partitions: ReadonlyArray<Entry>) =>
  ({ offsetFetch: () => Promise.resolve({ responses: [{ topic: "t", partitions }] }) }) as unknown as Broker

const ask = (partitions: ReadonlyArray<Entry>, count = 2, coordinator = broker(partitions)) => {
  const cluster = {
    use: (b: Broker, _: string, request: (broker: Broker) => unknown) => request(b),
    refresh: async (topics: ReadonlyArray<string>, of?: Broker) => void refreshed.push([topics, of])
  } as unknown as Cluster
  return fetchCommitted(
    cluster,
    coordinator,
    "g",
    Array.from({ length: count }, (_, partition) => ({ topic: "t", partition })),
    true
  )
}

describe("what a group has committed", () => {
  it("nothing is -1, and -2, which plain kafkajs consumers leave behind", async () => {
    const { committed } = await ask(
      [
        { partition: 0, offset: -1n, metadata: "", errorCode: 0 },
        { partition: 1, offset: -2n, metadata: null, errorCode: 0 },
        { partition: 2, offset: 9007199254740993n, metadata: null, errorCode: 0 }
      ],
      3
    )
    assert.deepStrictEqual([...committed], [["t/2", { offset: 9007199254740993n, metadata: "" }]])
  })

  it("is not nothing where the broker has not answered", async () => {
    const error = await ask([{ partition: 0, offset: 5n, metadata: "", errorCode: 0 }]).then(
      () => undefined,
      (e: KafkaClientError) => e
    )
    assert.strictEqual(error?.reason, "Connection")
    assert.include(error?.detail, "t/1")
  })

  it("is told of each partition but those that a transaction is about to commit for, and these are told apart", async () => {
    const { committed, pending } = await ask([
      { partition: 0, offset: 5n, metadata: "m", errorCode: 0 },
      { partition: 1, offset: -1n, metadata: "", errorCode: 88 }
    ])
    assert.deepStrictEqual([...committed], [["t/0", { offset: 5n, metadata: "m" }]])
    assert.deepStrictEqual([...pending], ["t/1"])
  })

  it("is not nothing where the coordinator does not know the id: it is asked which one there is, and again", async () => {
    refreshed.length = 0
    const unknown = [0, 1].map((partition) => ({ partition, offset: -1n, metadata: "", errorCode: 100 }))
    const coordinator = broker(unknown)
    const error = await ask(unknown, 2, coordinator).then(
      () => undefined,
      (e: KafkaClientError) => e
    )
    assert.strictEqual(error?.reason, "Connection")
    assert.include(error?.detail, "UNKNOWN_TOPIC_ID")
    assert.deepStrictEqual(refreshed, [[["t"], coordinator]])
  })
})

describe("partitions in a request", () => {
  const some = (["a 0", "a 2", "b 0", "a 1", "a 3", "b 1"] as const).map((one) => {
    const [topic, partition] = one.split(" ")
    return { topic: topic!, partition: Number(partition), topicId: topic === "a" && partition === "3" ? "new" : "old" }
  })

  it("keep their order, where that counts: a topic is named again when it comes again", () => {
    assert.deepStrictEqual(
      inOrder(some, ({ partition }) => partition),
      [
        { topic: "a", partitions: [0, 2] },
        { topic: "b", partitions: [0] },
        { topic: "a", partitions: [1, 3] },
        { topic: "b", partitions: [1] }
      ]
    )
  })

  it("come together by topic and its id", () => {
    assert.deepStrictEqual(
      byTopicId(
        some,
        ({ topicId }) => topicId,
        ({ partition }) => partition
      ),
      [
        { topic: "a", partitions: [0, 2, 1], topicId: "old" },
        { topic: "b", partitions: [0, 1], topicId: "old" },
        { topic: "a", partitions: [3], topicId: "new" }
      ]
    )
  })
})
