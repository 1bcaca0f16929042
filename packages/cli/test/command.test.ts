import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, PublishError } from "@concurrent-kafka/core/KafkaProducer"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { TestConsole } from "effect/testing"
import { redriveCommand } from "../src/internal/redriveCommand.ts"
import {
  assertWholeAndInOrder,
  cut,
  finish,
  from,
  letterOf,
  letters,
  passUntil,
  prepare,
  stored,
  to,
  values
} from "./support.ts"

/** As the process runs it, on the Kafka in memory. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const client = Layer.mergeAll(
      Layer.succeed(KafkaClient, yield* KafkaClient),
      Layer.succeed(KafkaProducer, yield* KafkaProducer)
    )
    yield* Command.runWith(redriveCommand(client), { version: "1.2.3" })(args)
  })

const redrive = (...args: ReadonlyArray<string>) => run("--from", from, "--to", to, ...args)

const stdout = Effect.map(TestConsole.logLines, (lines) => lines.map(String))
const stderr = Effect.map(TestConsole.errorLines, (lines) => lines.map(String))

const onKafka = Effect.provide(Layer.merge(MemoryKafka.layer(), NodeServices.layer))

describe("concurrent-kafka redrive", () => {
  it.effect("says what it does, how far it is, and what it has done", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(40, 4))
      yield* finish(redrive())
      assertWholeAndInOrder(kafka, 40, 4)
      assert.deepStrictEqual(yield* stdout, ["40 records sent to orders, 0 did not match"])
      const lines = yield* stderr
      assert.strictEqual(lines[0], `${from} -> ${to}, as group redrive.${from}.${to}`)
      assert.strictEqual(lines[1], "0 of 40 passed, 0 sent")
      assert.strictEqual(lines.at(-1), "40 of 40 passed, 40 sent")
      yield* finish(redrive())
      assert.strictEqual((yield* stdout).at(-1), "nothing to do: the group has committed up to the end")
    }).pipe(onKafka)
  )

  it.effect("--json: the result as the only line on stdout", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(40, 4))
      yield* finish(redrive("--json", "--offset-to", "9", "--group", "g"))
      const [line, ...rest] = yield* stdout
      assert.deepStrictEqual(rest, [])
      assert.deepStrictEqual(JSON.parse(line!), {
        ended: "done",
        from,
        to,
        groupId: "g",
        dryRun: false,
        total: 40,
        sent: 10,
        filtered: 30,
        failed: 0
      })
    }).pipe(onKafka)
  )

  it.effect("each flag is the filter of its name", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      const at = (time: string) => Date.parse(time)
      yield* kafka.produce(from, [
        letterOf({
          value: "a",
          topic: "orders",
          partition: 1,
          offset: 10n,
          error: "A",
          at: at("2026-01-01T00:00:00Z")
        }),
        letterOf({
          value: "b",
          topic: "payments",
          partition: 2,
          offset: 11n,
          error: "B",
          at: at("2026-01-02T00:00:00Z")
        }),
        letterOf({ value: "c", topic: "orders", partition: 2, offset: 12n, error: "B", at: at("2026-01-03T12:30:00Z") })
      ])
      for (const [flags, expected] of [
        [
          ["--topic", "orders"],
          ["a", "c"]
        ],
        [
          ["--partition", "2"],
          ["b", "c"]
        ],
        [
          ["--offset-from", "11"],
          ["b", "c"]
        ],
        [
          ["--offset-to", "11"],
          ["a", "b"]
        ],
        [
          ["--error", "B"],
          ["b", "c"]
        ],
        [
          ["--since", "2026-01-02T00:00:00Z"],
          ["b", "c"]
        ],
        [["--since", "2026-01-03T13:30:00+01:00"], ["c"]],
        [["--until", "2026-01-02T00:00:00Z"], ["a"]],
        [["--error", "B", "--topic", "orders"], ["c"]]
      ] as const) {
        yield* kafka.recreateTopic(to, { partitions: 4 })
        yield* finish(redrive(...flags))
        assert.deepStrictEqual(values(kafka, to).toSorted(), [...expected], flags.join(" "))
      }
    }).pipe(onKafka)
  )

  it.effect("--dry-run sends nothing", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(40, 4))
      yield* finish(redrive("--dry-run", "--error", "ShipError"))
      assert.deepStrictEqual(yield* stdout, [
        "dry run: 40 records would be sent to orders, 0 do not match; nothing was sent or committed"
      ])
      assert.deepStrictEqual(stored(kafka, to), [])
      assert.deepStrictEqual(kafka.commitsUnsafe(), [])
    }).pipe(onKafka)
  )

  it.effect("stopped, it has committed what it has sent and says how to go on", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare()
      yield* kafka.produce(from, letters(90, 5))
      const producer = yield* KafkaProducer
      const slow = {
        ...producer,
        send: (...args: Parameters<typeof producer.send>) => Effect.andThen(Effect.sleep(100), producer.send(...args))
      }
      const fiber = yield* Effect.forkChild(Effect.provideService(redrive(), KafkaProducer, slow))
      yield* passUntil("it has sent some", () => stored(kafka, to).length >= 20)
      yield* cut(fiber)
      const sent = stored(kafka, to).length
      assert.deepStrictEqual(yield* stdout, [
        `stopped: ${sent} records sent to orders; the same command goes on from there`
      ])
      yield* finish(redrive())
      assert.strictEqual((yield* stdout).at(-1), `${90 - sent} records sent to orders, 0 did not match`)
      assertWholeAndInOrder(kafka, 90, 5)
      assert.strictEqual((yield* Fiber.await(fiber))._tag, "Failure")
    }).pipe(onKafka)
  )

  it.effect("fails with the place of the record that was refused, and says how much was sent", () =>
    Effect.gen(function* () {
      const kafka = yield* prepare(1)
      yield* kafka.produce(from, letters(3, 1))
      const producer = yield* KafkaProducer
      let sends = 0
      const refusing = {
        ...producer,
        send: (...args: Parameters<typeof producer.send>) =>
          ++sends === 2
            ? Effect.fail(new PublishError({ reason: "refused", code: "MESSAGE_TOO_LARGE", detail: "too large" }))
            : producer.send(...args)
      }
      const error = yield* finish(Effect.flip(Effect.provideService(redrive("--json"), KafkaProducer, refusing)))
      assert.strictEqual(error.message, `${from}/0 offset 1 was not sent: too large (MESSAGE_TOO_LARGE)`)
      assert.deepInclude(JSON.parse((yield* stdout)[0]!), { ended: "failed", sent: 1, failed: 1 })
    }).pipe(onKafka)
  )

  it.effect.each<readonly [ReadonlyArray<string>, RegExp]>([
    [["--from", from], /--to/],
    [["--from", from, "--to", to, "--since", "12"], /--since.*a time such as/],
    [["--from", from, "--to", to, "--since", "2026-13-01"], /--since/],
    [["--from", from, "--to", to, "--offset-from", "x"], /--offset-from.*an offset/],
    [["--from", from, "--to", to, "--offset-from", "-1"], /--offset-from/],
    [["--from", from, "--to", to, "--partition", "-1"], /--partition/],
    [["--from", from, "--to", to, "--concurrency", "0"], /--concurrency.*at least 1/],
    [["--from", from, "--to", to, "--nonsense"], /--nonsense/]
  ])("bad arguments %o are named", ([args, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(run(...args))
      assert.strictEqual(error._tag, "ShowHelp")
      assert.match((yield* stderr).join("\n"), expected)
    }).pipe(onKafka)
  )

  it.effect.each<readonly [ReadonlyArray<string>, string]>([
    [["--offset-from", "5", "--offset-to", "3"], "option --offset-to: 3 is not accepted; accepted: at least 5"],
    [["--topic", ""], 'option --topic: "" is not accepted; accepted: the name of a topic'],
    [["--group", ""], 'option --group: "" is not accepted; accepted: a text that is not empty'],
    [
      ["--since", "2026-02-02T00:00Z", "--until", "2026-02-01T00:00Z"],
      'option --until: "2026-02-01T00:00:00.000Z" is not accepted; accepted: a time later than --since'
    ]
  ])("arguments that do not go together %o are named by their flag", ([args, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(redrive(...args))
      assert.strictEqual(error.message, expected)
      assert.deepStrictEqual(yield* stdout, [])
    }).pipe(onKafka)
  )

  it.effect("is refused where both topics are the same", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(run("--from", from, "--to", from))
      assert.match(error.message, /option --to: "orders.dead-letter" is not accepted; accepted: another topic/)
      assert.deepStrictEqual(yield* stdout, [])
    }).pipe(onKafka)
  )
})
