import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import { batchFate, commitOutcome, fromCode, isFatal } from "../src/internal/classify.ts"
import { codeName } from "../src/internal/codes.ts"

const codes: ReadonlyArray<readonly [code: number, reason: KafkaClientError["reason"], fatal: boolean]> = [
  [-1, "Connection", false],
  [2, "CorruptData", true],
  [3, "TopicMissing", false],
  [6, "Connection", false],
  [7, "Timeout", false],
  [14, "Connection", false],
  [15, "Connection", false],
  [16, "Connection", false],
  [23, "ProtocolMismatch", false],
  [24, "Authorization", true],
  [29, "Authorization", true],
  [30, "Authorization", true],
  [35, "UnsupportedClient", true],
  [58, "Authentication", true],
  [76, "MissingCodec", true],
  [82, "FencedInstance", true],
  [9999, "Connection", false]
]

describe("error codes of answers", () => {
  it.each(codes)("%d", (code, reason, fatal) => {
    const error = fromCode(codeName(code), "ask")
    assert.strictEqual(error.reason, reason)
    assert.strictEqual(isFatal(error), fatal)
    assert.include(error.message, codeName(code))
  })
})

const outcomes: ReadonlyArray<readonly [code: number, outcome: string, shown: string | undefined]> = [
  [0, "committed", undefined],
  [-1, "retriable", "UNKNOWN_SERVER_ERROR"],
  [7, "retriable", "REQUEST_TIMED_OUT"],
  [14, "retriable", "COORDINATOR_LOAD_IN_PROGRESS"],
  [15, "retriable", "COORDINATOR_NOT_AVAILABLE"],
  [16, "retriable", "NOT_COORDINATOR"],
  [22, "deferred", "ILLEGAL_GENERATION"],
  [27, "deferred", "REBALANCE_IN_PROGRESS"],
  [113, "deferred", "STALE_MEMBER_EPOCH"],
  [25, "stale", "UNKNOWN_MEMBER_ID"],
  [82, "stale", "FENCED_INSTANCE_ID"],
  [110, "stale", "FENCED_MEMBER_EPOCH"],
  [3, "rejected", "UNKNOWN_TOPIC_OR_PARTITION"],
  [10, "rejected", "REQUEST_TOO_LARGE"],
  [12, "rejected", "OFFSET_METADATA_TOO_LARGE"],
  [24, "rejected", "INVALID_GROUP_ID"],
  [28, "rejected", "REQUEST_TOO_LARGE"],
  [29, "rejected", "NOT_AUTHORIZED"],
  [30, "rejected", "NOT_AUTHORIZED"],
  [12345, "retriable", "ERROR_12345"]
]

describe("outcomes of a commit", () => {
  it.each(outcomes)("%d is %s", (code, outcome, shown) => {
    const result = commitOutcome(codeName(code))
    assert.strictEqual(result.outcome, outcome)
    assert.strictEqual("code" in result ? result.code : undefined, shown)
  })
})

const fates: ReadonlyArray<readonly [code: number, fate: string]> = [
  [0, "done"],
  [46, "before"],
  [10, "split"],
  [18, "split"],
  [32, "split"],
  [87, "split"],
  [45, "bump"],
  [59, "bump"],
  [47, "renew"],
  [90, "renew"],
  [17, "refuse"],
  [21, "refuse"],
  [29, "refuse"],
  [31, "refuse"],
  [35, "refuse"],
  [42, "refuse"],
  [43, "refuse"],
  [44, "refuse"],
  [76, "refuse"],
  [2, "again"],
  [19, "again"],
  [89, "again"],
  [5, "again moved"],
  [3, "again doubtful moved"],
  [6, "again doubtful moved"],
  [9, "again doubtful moved"],
  [56, "again doubtful moved"],
  [74, "again doubtful moved"],
  [75, "again doubtful moved"],
  [100, "again doubtful moved"],
  [-1, "again doubtful"],
  [7, "again doubtful"],
  [13, "again doubtful"],
  [20, "again doubtful"],
  [12345, "again doubtful"]
]

describe("fates of a batch", () => {
  it.each(fates)("%d is %s", (code, fate) => {
    const { doubtful, moved, next } = batchFate(codeName(code))
    assert.strictEqual(`${next}${doubtful ? " doubtful" : ""}${moved ? " moved" : ""}`, fate)
  })

  it("what the answer does not name is in doubt", () => {
    assert.deepStrictEqual(batchFate("NO_ANSWER"), { next: "again", doubtful: true, moved: false })
  })
})
