/** `explain` as a command. */
import type { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { explain } from "../Explain.ts"
import { explainJson, explainTable } from "./explainTable.ts"
import { asFlag } from "./settings.ts"
import { validateExplain } from "./validate.ts"

const flags = {
  group: Flag.String("group").pipe(Flag.withMetavar("id"), Flag.withDescription("The consumer group")),
  topic: Flag.String("topic").pipe(Flag.withMetavar("topic"), Flag.withDescription("One topic that it reads")),
  offsetMap: Flag.Literals("offset-map", ["own", "all"]).pipe(
    Flag.withDescription(
      "Which offset maps are believed: those of this library, or all, also the Java Parallel Consumer's"
    ),
    Flag.withDefault("own")
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("Write one line of JSON to stdout"), Flag.withDefault(false))
}

export const explainCommand = <A, E>(client: Layer.Layer<KafkaClient | A, E>) =>
  Command.make(
    "explain",
    flags,
    Effect.fnUntraced(function* ({ group, json, offsetMap, topic }) {
      // before anything is connected
      const options = yield* Effect.mapError(validateExplain({ groupId: group, topic, offsetMap }), asFlag)
      const explanation = yield* Effect.provide(explain(options), client)
      yield* Console.log(json ? explainJson(explanation) : explainTable(explanation).join("\n"))
    })
  ).pipe(
    Command.withDescription(
      "Say where a group stands in a topic: what it has committed, what is done behind that, and what would run again if all of its " +
        "members ended now. Reads only: it does not join the group and commits nothing."
    ),
    Command.withShortDescription("Say where a group stands, and what would run again"),
    Command.withExamples([
      {
        command: "concurrent-kafka explain --group shipping --topic orders",
        description: "Every partition of orders as the group shipping has it"
      },
      {
        command: "concurrent-kafka explain --group shipping --topic orders --offset-map all --json",
        description: "Believing what a Java Parallel Consumer has written, for a program to read"
      }
    ])
  )
