/** The tables of the README and the runbook, held against the code. */
import { healthCodes } from "@concurrent-kafka/core/Health"
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import {
  consumerFamilies,
  loopFamilies,
  messagingFamilies,
  partitionFamilies,
  topicFamilies
} from "../src/internal/families.ts"

const root = join(import.meta.dirname, "..", "..", "..")
const readme = readFileSync(join(root, "packages", "observability", "README.md"), "utf8")
const runbook = readFileSync(join(root, "docs", "runbook.md"), "utf8")

/** Rows of the table below a comment: the name in the first cell, the type in the second, the text in the last. */
const table = (marker: string) => {
  const [, below = ""] = readme.split(`<!-- ${marker} -->\n`)
  const [text = ""] = below.split("\n\n")
  return text
    .split("\n")
    .slice(2)
    .map((row) => {
      const cells = row.slice(2, -2).split(" | ")
      return { name: cells[0]!.replaceAll("`", ""), type: cells[1]!.trim(), text: cells.at(-1)!.trim() }
    })
}

describe("the documents", () => {
  it("name every metric with its type and what it says, and no other", () => {
    for (const [marker, families] of [
      ["consumer metrics", consumerFamilies],
      ["messaging metrics", messagingFamilies]
    ] as const) {
      assert.deepStrictEqual(
        table(marker),
        Object.values(families).map(({ description, id, type }) => ({
          name: id,
          type: type.toLowerCase(),
          text: description!
        }))
      )
    }
    assert.deepStrictEqual(
      table("loop metrics").map(({ name, text }) => [name, text]),
      Object.values(loopFamilies).map(({ description, id }) => [id, description])
    )
    const names = table("partition metrics").map(({ name }) => name)
    for (const [prefix, suffix, families] of [
      ["concurrent_kafka_partition_", "", partitionFamilies],
      ["concurrent_kafka_topic_", "", topicFamilies.sum],
      ["concurrent_kafka_topic_worst_", "", topicFamilies.worst],
      ["concurrent_kafka_topic_worst_", "_partition", topicFamilies.where]
    ] as const) {
      assert.deepStrictEqual(
        Object.values(families).map(({ id }) => id),
        names.map((name) => `${prefix}${name}${suffix}`)
      )
    }
  })

  it("have for each code of health what it means, what to look at and what to do", () => {
    const sections = runbook.split("\n## ").slice(1)
    assert.sameMembers(
      sections.map((section) => section.split("\n")[0]),
      [...healthCodes]
    )
    for (const section of sections) {
      for (const heading of ["**Means** ", "**Look at** ", "**Do** "]) {
        assert.include(section, `\n\n${heading}`, section.split("\n")[0])
      }
    }
  })

  it("name in the runbook only metrics that there are", () => {
    const all = [
      ...Object.values(consumerFamilies),
      ...Object.values(messagingFamilies),
      ...Object.values(loopFamilies),
      ...Object.values(partitionFamilies),
      ...Object.values(topicFamilies).flatMap((families) => Object.values(families))
    ].map(({ id }) => id)
    const named = [...runbook.matchAll(/`([a-z0-9]+(?:_[a-z0-9]+)+)`/g)].map(([, name = ""]) => name)
    assert.isAbove(named.length, 10)
    for (const name of named) assert.isTrue(all.includes(name) || all.includes(`concurrent_kafka_${name}`), name)
  })
})
