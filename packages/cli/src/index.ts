export * from "./Cli.ts"
export * from "./Redrive.ts"
export * from "./RedriveError.ts"
export * from "./RedriveFilter.ts"
