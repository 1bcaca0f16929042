/** What was given is wrong, in the environment or on the command line: nothing was done, and the process ends with 2. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Config from "effect/Config"
import * as SchemaIssue from "effect/SchemaIssue"

export const isBadSetting = (error: unknown): error is InvalidOptions | Config.ConfigError =>
  error instanceof InvalidOptions || error instanceof Config.ConfigError

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/** With the name of the setting in front. */
export const sentenceOf = (error: { readonly message: string }): string => {
  if (!(error instanceof Config.ConfigError) || error.cause._tag !== "SchemaError") return error.message
  return issuesOf(error.cause.issue)
    .issues.map(({ message, path = [] }) => {
      const name = path.map((part) => String(typeof part === "object" ? part.key : part)).join(".")
      return `the setting ${name} is missing or not accepted: ${message}`
    })
    .join("; ")
}

const flags: Readonly<Record<string, string>> = {
  from: "--from",
  to: "--to",
  groupId: "--group",
  topic: "--topic",
  offsetMap: "--offset-map",
  concurrency: "--concurrency",
  "filter.topic": "--topic",
  "filter.partition": "--partition",
  "filter.offsetFrom": "--offset-from",
  "filter.offsetTo": "--offset-to",
  "filter.error": "--error",
  "filter.since": "--since",
  "filter.until": "--until"
}

/** By the name of the flag, and with times as they are written there. */
export const asFlag = ({ accepted, option, value }: InvalidOptions): InvalidOptions => {
  const isTime = option === "filter.until" && typeof value === "number"
  return new InvalidOptions({
    option: flags[option] ?? option,
    value: isTime ? new Date(value).toISOString() : value,
    accepted: isTime ? "a time later than --since" : accepted
  })
}
