import { assert, describe, it } from "@effect/vitest"
import { cellsOf, linesOf, missingOf } from "../scripts/clientTable.ts"
import type { Report } from "../scripts/clientTable.ts"

const test = (suite: string, title: string, status: string, skipped?: string) => ({
  ancestorTitles: [suite, "inside"],
  title,
  status,
  meta: skipped === undefined ? {} : { skipped }
})

const report: Report = {
  testResults: [
    {
      assertionResults: [
        test("one: topics", "come", "passed"),
        test("one: topics", "go", "failed"),
        test("one: topics", "stay", "skipped", "they cannot"),
        test("one: groups", "split: 1", "passed"),
        test("of no client: topics", "come", "passed"),
        test("a suite of nobody", "come", "passed")
      ]
    },
    { assertionResults: [test("two: topics", "come", "skipped"), test("two: topics", "go", "skipped")] }
  ]
}
const clients = ["one", "two"]

describe("the table of suites and clients", () => {
  it("counts what was run, what failed and what was skipped", () => {
    assert.deepStrictEqual(
      cellsOf(report, clients).map(({ client, failed, run, skipped, suite }) => [
        suite,
        client,
        run,
        failed,
        skipped.length
      ]),
      [
        ["groups", "one", 1, 0, 0],
        ["topics", "one", 2, 1, 1],
        ["topics", "two", 0, 0, 2]
      ]
    )
  })

  it("has a row for each suite, a column for each client, and the reasons of skips", () => {
    assert.deepStrictEqual(linesOf(cellsOf(report, clients), clients), [
      "suite   one                         two",
      "groups  1 run                       -",
      "topics  2 run, 1 failed, 1 skipped  0 run, 2 skipped",
      "only for one: groups",
      'skipped on one, they cannot: 1 of "topics"',
      'skipped on two, left out of this run, by a pattern or for want of a Kafka: 2 of "topics"'
    ])
  })

  it("has a column for what is run on less than a client, and says of no suite that it is only for the others", () => {
    const memory = { suite: "topics", client: "memory", run: 3, failed: 0, skipped: [] }
    assert.deepStrictEqual(linesOf([...cellsOf(report, ["one"]), memory], ["one"], ["memory"]).slice(0, 4), [
      "suite   one                         memory",
      "groups  1 run                       -",
      "topics  2 run, 1 failed, 1 skipped  3 run",
      'skipped on one, they cannot: 1 of "topics"'
    ])
  })

  it("names what was not run on a client that was tried, and says nothing of one that was not", () => {
    const wanted = [
      { promise: "topics", named: "topics", title: "co" },
      { promise: "topics", named: "topics", title: "stay" },
      // there is one, in another suite
      { promise: "topics", named: "topics", title: "split" },
      { promise: "topics", named: "topics, consumer protocol", title: "come" },
      { promise: "groups", named: "groups", title: "split: 1" },
      { promise: "groups", named: "groups", title: "split: 2" }
    ]
    assert.deepStrictEqual(missingOf(report, new Map(clients.map((client) => [client, wanted]))), [
      { client: "one", promise: "topics", test: "topics: stay" },
      { client: "one", promise: "topics", test: "topics: split" },
      { client: "one", promise: "topics", test: "topics, consumer protocol: come" },
      { client: "one", promise: "groups", test: "groups: split: 2" }
    ])
  })
})
