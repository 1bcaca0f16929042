export * from "./ExpectationFailed.ts"
export * from "./Faults.ts"
export * from "./MemoryKafka.ts"
export * from "./TestKit.ts"
