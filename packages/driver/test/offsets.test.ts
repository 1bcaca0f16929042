import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import type { Cluster } from "../src/internal/cluster.ts"
import { fetchCommitted } from "../src/internal/offsets.ts"
import type { Broker } from "../src/Broker.ts"

type Entry = Awaited<ReturnType<Broker["offsetFetch"]>>["responses"][number]["partitions"][number]

const ask = (partitions: ReadonlyArray<Entry>, count = 2) => {
  const broker = {
    offsetFetch: () => Promise.resolve({ responses: [{ topic: "t", partitions }] })
  } as unknown as Broker
  const cluster = {
    metadata: { topics: new Map() },
    use: (b: Broker, _: string, request: (broker: Broker) => unknown) => request(b)
  } as unknown as Cluster
  return fetchCommitted(
    cluster,
    broker,
    "g",
    Array.from({ length: count }, (_, partition) => ({ topic: "t", partition })),
    true
  )
}

describe("what a group has committed", () => {
  it("nothing is -1, and -2, which plain kafkajs consumers leave behind", async () => {
    const found = await ask(
      [
        { partition: 0, offset: -1n, metadata: "", errorCode: 0 },
        { partition: 1, offset: -2n, metadata: null, errorCode: 0 },
        { partition: 2, offset: 9007199254740993n, metadata: null, errorCode: 0 }
      ],
      3
    )
    assert.deepStrictEqual([...found], [["t/2", { offset: 9007199254740993n, metadata: "" }]])
  })

  it("is not nothing where the broker has not answered", async () => {
    const error = await ask([{ partition: 0, offset: 5n, metadata: "", errorCode: 0 }]).then(
      () => undefined,
      (e: KafkaClientError) => e
    )
    assert.strictEqual(error?.reason, "Connection")
    assert.include(error?.detail, "t/1")
  })
})
