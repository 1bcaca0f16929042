import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { MemoryKafka } from "@concurrent-kafka/testing/MemoryKafka"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestConsole } from "effect/testing"
import { explainCommand } from "../src/internal/explainCommand.ts"
import { groupId, javaMap, logOf, ownMap, topic } from "./groups.ts"

/** As the process runs it, on the Kafka in memory. */
const explain = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const client = Layer.succeed(KafkaClient, yield* KafkaClient)
    yield* Command.runWith(explainCommand(client), { version: "1.2.3" })(args)
    return (yield* TestConsole.logLines).map(String)
  })
const shipping = ["--group", groupId, "--topic", topic]

const onKafka = Effect.provide(Layer.merge(MemoryKafka.layer(), NodeServices.layer))

/** One partition for each thing that there is to say. */
const everything = Effect.gen(function* () {
  const kafka = yield* logOf(6, 100)
  const commit = (partition: number, offset: bigint, metadata: string) =>
    kafka.setCommitted(groupId, topic, partition, { offset, metadata })
  yield* commit(
    0,
    10n,
    ownMap(0, 10, [
      [12, 40],
      [41, 60]
    ])
  )
  yield* commit(1, 100n, "")
  yield* commit(2, 17n, "pod-7 of marker-customer")
  yield* commit(3, 20n, javaMap(20, [[21, 99]]))
  yield* commit(4, 5n, "")
  yield* kafka.deleteRecordsBefore(topic, 4, 30n)
})

describe("concurrent-kafka explain", () => {
  it.effect("prints a line for each partition, and says what a number does not", () =>
    Effect.gen(function* () {
      yield* everything
      const [text, ...rest] = yield* explain(...shipping)
      assert.deepStrictEqual(rest, [])
      assert.deepStrictEqual(text!.split("\n"), [
        "shipping is 423 records behind the end of orders: 47 of them done, 376 would run if all members ended now",
        "",
        "partition  start  end  committed  lag  done  gaps  ranges  oldest  would run  offset map",
        "        0      0  100         10   90    47     3       2      10         43  ours, to 59",
        "        1      0  100        100    0     0     0       0       -          0  -",
        "        2      0  100         17   83     0     0       0      17         83  not used: notBase64",
        "        3      0  100         20   80     0     0       0      20         80  not used: unchecked",
        "        4     30  100          5   70     0     0       0      30         70  -",
        "        5      0  100          -  100     0     0       0       0        100  -",
        "    total                         423    47     3       2                376",
        "",
        "orders/0: gaps: 10-11, 40",
        "orders/2: the metadata beside 17 is no offset map but a text of something else; everything from there on would run",
        'orders/3: the metadata beside 20 has no check of ours, as those of the Java Parallel Consumer; only offsetMap "all" ' +
          "believes it (--offset-map all); everything from there on would run",
        "orders/4: retention has deleted records in front of 30, and 25 offsets of them were not done; it would go on at 30",
        "orders/5: nothing is committed yet; it would begin at the start of the log, 0"
      ])
    }).pipe(onKafka)
  )

  it.effect("--offset-map all believes the Java Parallel Consumer", () =>
    Effect.gen(function* () {
      yield* everything
      const [text] = yield* explain(...shipping, "--offset-map", "all")
      assert.include(
        text,
        "\n        3      0  100         20   80    78     1       1      20          2  Parallel Consumer, to 98\n"
      )
      assert.include(text, "\norders/3: gaps: 20\n")
    }).pipe(onKafka)
  )

  it.effect("shows some of many gaps, and how many more there are", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(1, 100)
      const runs = Array.from({ length: 20 }, (_, i) => [2 * i + 1, 2 * i + 2] as const)
      yield* kafka.setCommitted(groupId, topic, 0, { offset: 0n, metadata: ownMap(0, 0, runs) })
      const [text] = yield* explain(...shipping)
      assert.include(text, "\norders/0: gaps: 0, 2, 4, 6, 8, 10, 12, 14, and 12 more ranges")
    }).pipe(onKafka)
  )

  it.effect("says so where all is done, and where the log ends too early", () =>
    Effect.gen(function* () {
      const kafka = yield* logOf(1, 100)
      yield* kafka.setCommitted(groupId, topic, 0, { offset: 100n })
      const [text] = yield* explain(...shipping)
      assert.strictEqual(text!.split("\n")[0], "shipping has done all of orders")
      assert.notInclude(text, "total")
      yield* kafka.truncateTo(topic, 0, 1n)
      const [, cut] = yield* explain(...shipping)
      assert.include(
        cut,
        "shipping is 1 record behind the end of orders: 0 of them done, 1 would run if all members ended now"
      )
      assert.match(cut!, /\norders\/0: the log ends at 1, before what is committed: it was truncated or made anew/)
    }).pipe(onKafka)
  )

  it.effect("--json: the same as one line, offsets as texts", () =>
    Effect.gen(function* () {
      yield* everything
      const [line, ...rest] = yield* explain(...shipping, "--json")
      assert.deepStrictEqual(rest, [])
      const found = JSON.parse(line!) as Record<string, unknown> & { readonly partitions: ReadonlyArray<unknown> }
      assert.deepInclude(found, {
        groupId,
        topic,
        offsetMap: "own",
        total: { lag: 423, lost: 25, done: 47, gaps: 3, gapRanges: 2, wouldRun: 376 }
      })
      assert.deepStrictEqual(found.partitions[0], {
        partition: 0,
        start: "0",
        end: "100",
        committed: "10",
        begins: "10",
        why: "committed",
        lag: 90,
        lost: 0,
        map: { _tag: "Used", writer: "own", until: "60" },
        done: 47,
        gapRanges: [
          ["10", "12"],
          ["40", "41"]
        ],
        gaps: 3,
        oldest: "10",
        wouldRun: 43
      })
    }).pipe(onKafka)
  )

  it.effect("prints no key, no value and nothing of what other tools have written", () =>
    Effect.gen(function* () {
      yield* everything
      yield* explain(...shipping)
      yield* explain(...shipping, "--json")
      const all = [...(yield* TestConsole.logLines), ...(yield* TestConsole.errorLines)].map(String).join("\n")
      for (const marker of ["key-", "value-", "marker-customer", "pod-7"]) assert.notInclude(all, marker)
    }).pipe(onKafka)
  )

  it.effect("fails without a line on stdout where there is no such group", () =>
    Effect.gen(function* () {
      yield* logOf(1, 1)
      const error = yield* Effect.flip(explain(...shipping, "--json"))
      assert.match(error.message, /^the group shipping has committed nothing of orders/)
      assert.deepStrictEqual(yield* TestConsole.logLines, [])
    }).pipe(onKafka)
  )

  it.effect.each<readonly [ReadonlyArray<string>, RegExp]>([
    [["--group", groupId], /--topic/],
    [["--topic", topic], /--group/],
    [[...shipping, "--offset-map", "off"], /--offset-map/],
    [[...shipping, "--nonsense"], /--nonsense/]
  ])("bad arguments %o are named", ([args, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(explain(...args))
      assert.deepInclude(error, { _tag: "ShowHelp" })
      assert.match((yield* TestConsole.errorLines).map(String).join("\n"), expected)
    }).pipe(onKafka)
  )

  it.effect.each<readonly [ReadonlyArray<string>, string]>([
    [["--group", "", "--topic", topic], 'option --group: "" is not accepted; accepted: a text that is not empty'],
    [
      ["--group", groupId, "--topic", "a b"],
      'option --topic: "a b" is not accepted; accepted: a topic: 1 to 249 characters out of a-z A-Z 0-9 . _ -'
    ]
  ])("arguments %o are refused by their flag", ([args, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(explain(...args))
      assert.strictEqual(error.message, expected)
    }).pipe(onKafka)
  )
})
