export * from "./ConsumerRecord.ts"
export * from "./ConsumerSession.ts"
export * from "./InvalidOptions.ts"
export * from "./KafkaClient.ts"
