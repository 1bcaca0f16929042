/** What can be asked of `redrive` on the command line. */
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import type { RedriveOptions } from "../Redrive.ts"
import { timeOf } from "./time.ts"

const offset = (name: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("offset"),
    Flag.filterMap(
      (text) => (/^[0-9]{1,19}$/.test(text) ? Option.some(BigInt(text)) : Option.none()),
      () => "an offset: a number of at least 0"
    )
  )

const time = (name: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("time"),
    Flag.filterMap(
      (text) => Option.fromUndefinedOr(timeOf(text)),
      () => "a time such as 2026-11-21 or 2026-11-21T10:00:00Z"
    )
  )

const count = (name: string, least: number) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (value) => value >= least,
      () => `an integer of at least ${least}`
    )
  )

export const flags = {
  from: Flag.String("from").pipe(Flag.withMetavar("topic"), Flag.withDescription("The dead-letter topic")),
  to: Flag.String("to").pipe(
    Flag.withMetavar("topic"),
    Flag.withDescription("Where records are sent; never taken from a header")
  ),
  group: Flag.String("group").pipe(
    Flag.withMetavar("id"),
    Flag.withDescription("Remembers how far it is (default: made of the topics and the filter)"),
    Flag.optional
  ),
  topic: Flag.String("topic").pipe(
    Flag.withMetavar("topic"),
    Flag.withDescription("Only records that failed in this topic"),
    Flag.optional
  ),
  partition: count("partition", 0).pipe(
    Flag.withDescription("Only records that failed in this partition"),
    Flag.optional
  ),
  offsetFrom: offset("offset-from").pipe(
    Flag.withDescription("Only records that had this offset or a later one when they failed"),
    Flag.optional
  ),
  offsetTo: offset("offset-to").pipe(
    Flag.withDescription("Only records that had this offset or an earlier one when they failed"),
    Flag.optional
  ),
  error: Flag.String("error").pipe(
    Flag.withMetavar("name"),
    Flag.withDescription("Only records whose error has this tag or name"),
    Flag.optional
  ),
  since: time("since").pipe(
    Flag.withDescription(
      "Only records that failed at this time or later: ISO 8601, local time unless it says otherwise"
    ),
    Flag.optional
  ),
  until: time("until").pipe(Flag.withDescription("Only records that failed before this time"), Flag.optional),
  concurrency: count("concurrency", 1).pipe(Flag.withDescription("Sends at once"), Flag.withDefault(100)),
  dryRun: Flag.Boolean("dry-run").pipe(
    Flag.withDescription("Count what would be sent; send and commit nothing"),
    Flag.withDefault(false)
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Write the result to stdout as one line of JSON, also when it is stopped or fails"),
    Flag.withDefault(false)
  )
}

interface Parsed {
  readonly from: string
  readonly to: string
  readonly group: Option.Option<string>
  readonly topic: Option.Option<string>
  readonly partition: Option.Option<number>
  readonly offsetFrom: Option.Option<bigint>
  readonly offsetTo: Option.Option<bigint>
  readonly error: Option.Option<string>
  readonly since: Option.Option<number>
  readonly until: Option.Option<number>
  readonly concurrency: number
  readonly dryRun: boolean
}

export const toOptions = (parsed: Parsed): RedriveOptions => ({
  from: parsed.from,
  to: parsed.to,
  groupId: Option.getOrUndefined(parsed.group),
  concurrency: parsed.concurrency,
  dryRun: parsed.dryRun,
  filter: {
    topic: Option.getOrUndefined(parsed.topic),
    partition: Option.getOrUndefined(parsed.partition),
    offsetFrom: Option.getOrUndefined(parsed.offsetFrom),
    offsetTo: Option.getOrUndefined(parsed.offsetTo),
    error: Option.getOrUndefined(parsed.error),
    since: Option.getOrUndefined(parsed.since),
    until: Option.getOrUndefined(parsed.until)
  }
})
