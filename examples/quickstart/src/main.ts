/**
 * The demo: a topic of 3,000 records whose handlers wait 20 ms each. First some of them one at a time, then all of them 50 at a time
 * with this library. Then somebody else looks whether what is committed is what was handled.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect } from "effect"
import { DemoError } from "./error.ts"
import { type Flags, readFlags, usage } from "./flags.ts"
import { findKafka } from "./kafka.ts"
import { openLedger } from "./ledger.ts"
import { showPage } from "./page.ts"
import { manyAtATime, oneAtATime } from "./phases.ts"
import { say } from "./progress.ts"
import { ignoreNegativeTimeouts } from "./quiet.ts"
import { audit, isSound, printReport, printStopped } from "./report.ts"
import { newRun, openFolder } from "./run.ts"

const demo = Effect.fnUntraced(function* (flags: Flags) {
  const folder = openFolder(flags)
  const resumed = yield* folder.resumed
  const { brokers, cluster, kafka } = yield* findKafka(flags, folder, resumed)
  if (resumed === undefined) folder.reset()
  const run = resumed ?? newRun(kafka, brokers, flags.records)
  const save = Effect.sync(() => folder.save(run))
  const ledger = yield* openLedger(folder.ledger)

  say(`Topic: ${run.topic}, ${run.records} records in 3 partitions; a handler waits 20 ms`)
  if (resumed === undefined) {
    yield* cluster.createTopic(run.topic)
    yield* cluster.produce(run.topic, run.records)
    yield* save
  }
  if (run.oneAtATime === undefined) yield* Effect.ensuring(oneAtATime(cluster, run), save)
  const look = Effect.tap(audit(cluster, run, ledger), (found) =>
    Effect.sync(() => {
      if (found.verdict.committedIsEnd) printReport(found, run, cluster)
      else printStopped(found)
      if (flags.json) say(JSON.stringify(found.verdict))
    })
  )
  yield* manyAtATime(cluster, run, ledger).pipe(
    Effect.ensuring(save),
    // Ctrl-C: what is committed by now is worth a look, if it does not take long
    Effect.onInterrupt(() => Effect.ignore(Effect.timeoutOption(Effect.interruptible(look), "700 millis")))
  )
  const { verdict } = yield* look
  if (!isSound(verdict)) return yield* new DemoError({ reason: "records are missing, or not committed" })
}, Effect.scoped)

const main = Effect.flatMap(readFlags(process.argv.slice(2)), (flags) =>
  flags === undefined ? Effect.sync(() => say(usage)) : flags.page ? showPage(flags) : demo(flags)
).pipe(
  Effect.tapCause((cause) =>
    Effect.sync(() => {
      if (!Cause.hasInterruptsOnly(cause)) process.stderr.write(`${messageOf(cause)}\n`)
    })
  )
)

const messageOf = (cause: Cause.Cause<{ readonly message: string }>): string => {
  const reason = cause.reasons.find((r) => r._tag === "Fail")
  return reason === undefined ? Cause.pretty(cause) : reason.error.message
}

ignoreNegativeTimeouts()
NodeRuntime.runMain(main, { disableErrorReporting: true })
