export * from "./Faults.ts"
export * from "./MemoryKafka.ts"
