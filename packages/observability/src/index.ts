export * as LivePage from "./LivePage.ts"
export * as Observability from "./Observability.ts"
export * as Top from "./Top.ts"
