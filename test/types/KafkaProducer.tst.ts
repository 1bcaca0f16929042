import {
  type EncodeError,
  KafkaProducer,
  type KafkaClient,
  type PublishedRecords,
  type PublishError,
  Topic
} from "@concurrent-kafka/core"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { Effect, type Layer, Schema } from "effect"
import { describe, expect, test } from "tstyche"

const Orders = Topic.make("orders", {
  key: Schema.String,
  value: Topic.json(Schema.Struct({ amount: Schema.Int })),
  headers: Schema.Struct({ tenant: Schema.String })
})

describe("KafkaProducer", () => {
  test("publish takes the topic's types, and fails with those of sending and encoding", () => {
    const publish = Effect.flatMap(KafkaProducer, (producer) =>
      producer.publish(Orders, { amount: 2 }, { key: "1", headers: { tenant: "a" } })
    )
    expect(publish).type.toBe<Effect.Effect<boolean, PublishError | EncodeError, KafkaProducer>>()
    const given = Effect.map(KafkaProducer, (producer) => {
      expect(producer.publish(Orders, { amount: 2 }, { key: "1" })).type.toBe<
        Effect.Effect<boolean, PublishError | EncodeError>
      >()
      expect(producer.publish).type.not.toBeCallableWith(Orders, { amount: "2" })
      expect(producer.publish).type.not.toBeCallableWith(Orders, { amount: 2 }, { key: 1 })
      expect(producer.publish).type.not.toBeCallableWith(Orders, { amount: 2 }, { headers: { tenant: 1 } })
    })
    expect(given).type.toBeAssignableTo<Effect.Effect<void, never, KafkaProducer>>()
  })

  test("a driver's layer brings client and producer; the bare one needs a client and cannot fail", () => {
    expect(KafkaJs.layer({ brokers: ["a:1"] })).type.toBeAssignableTo<
      Layer.Layer<KafkaClient | KafkaProducer, unknown>
    >()
    expect(KafkaJs.layerConfig).type.toBeAssignableTo<Layer.Layer<KafkaClient | KafkaProducer, unknown>>()
    expect(MemoryKafka.layer()).type.toBe<Layer.Layer<MemoryKafka | KafkaClient | KafkaProducer>>()
    expect(KafkaProducer.layer).type.toBe<Layer.Layer<KafkaProducer, never, KafkaClient>>()
    expect(KafkaProducer.layerTest).type.toBe<Layer.Layer<KafkaProducer | PublishedRecords>>()
  })
})
