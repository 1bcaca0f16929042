export * from "./WorkerError.ts"
export * from "./WorkerModule.ts"
export * from "./WorkerPool.ts"
