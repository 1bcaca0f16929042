export type * as Broker from "./Broker.ts"
export type { ClientOptions } from "./ClientOptions.ts"
export * as Driver from "./Driver.ts"
export * as Protocol from "./Protocol.ts"
