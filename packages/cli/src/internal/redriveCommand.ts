/** `redrive` as a command: what it says before, while and after it runs. */
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import { redrive, type RedriveProgress, type RedriveSummary } from "../Redrive.ts"
import { flags, toOptions } from "./flags.ts"
import { asFlag, isBadSetting } from "./settings.ts"
import { show } from "./show.ts"
import { validate } from "./validate.ts"

const records = (n: number) => (n === 1 ? "1 record" : `${n} records`)

const sentence = ({ dryRun, filtered, sent, to, total }: RedriveSummary): string =>
  total === 0
    ? "nothing to do: the group has committed up to the end"
    : dryRun
      ? `dry run: ${records(sent)} would be sent to ${to}, ${filtered} do not match; nothing was sent or committed`
      : `${records(sent)} sent to ${to}, ${filtered} did not match`

export const redriveCommand = <E>(client: Layer.Layer<KafkaClient | KafkaProducer, E>) =>
  Command.make(
    "redrive",
    flags,
    Effect.fnUntraced(function* ({ json, ...parsed }) {
      const options = toOptions(parsed)
      // before anything is connected
      const { dryRun, from, groupId, to } = yield* Effect.mapError(validate(options), asFlag)
      let progress: RedriveProgress = { total: 0, passed: 0, sent: 0, filtered: 0, failed: 0, trouble: [] }
      yield* Console.error(`${from} -> ${to}, as group ${groupId}${dryRun ? ", dry run" : ""}`)
      yield* Effect.scoped(
        Effect.flatMap(show(dryRun), (shown) =>
          redrive({
            ...options,
            groupId,
            onProgress: (now) =>
              Effect.suspend(() => {
                progress = now
                return shown.at(now)
              })
          })
        )
      ).pipe(
        Effect.provide(client),
        Effect.onExit((exit) => {
          // it is said on stderr, as with every other bad argument
          if (Exit.isFailure(exit) && exit.cause.reasons.some((r) => Cause.isFailReason(r) && isBadSetting(r.error)))
            return Effect.void
          const { failed, filtered, sent, total } = progress
          const isStopped = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
          const ended = Exit.isSuccess(exit) ? "done" : isStopped ? "stopped" : "failed"
          const result = { from, to, groupId, dryRun, total, sent, filtered, failed }
          if (json) return Console.log(JSON.stringify({ ended, ...result }))
          if (Exit.isSuccess(exit)) return Console.log(sentence(exit.value))
          if (!dryRun && sent === 0) return Console.log(`${ended}: nothing was sent`)
          return Console.log(
            dryRun
              ? `${ended}: nothing was sent or committed`
              : `${ended}: ${records(sent)} sent to ${to}; the same command goes on from there`
          )
        })
      )
    })
  ).pipe(
    Command.withDescription(
      "Send the records of a dead-letter topic back to be handled again, up to the ends that it has now. " +
        "Interrupted and run again it goes on where it stopped."
    ),
    Command.withShortDescription("Send dead letters back to be handled again"),
    Command.withExamples([
      {
        command: "concurrent-kafka redrive --from orders.dead-letter --to orders --dry-run",
        description: "Count what there is"
      },
      {
        command: "concurrent-kafka redrive --from orders.dead-letter --to orders --error ShipError --since 2026-11-21",
        description: "Only what failed in one way since a day"
      }
    ])
  )
