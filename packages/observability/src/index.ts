export * as Observability from "./Observability.ts"
