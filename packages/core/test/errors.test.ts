import { assert, describe, it } from "@effect/vitest"
import { format } from "effect/Formatter"
import { inspect } from "node:util"
import { CommitterDied } from "../src/CommitterDied.ts"
import { ConsumerError } from "../src/ConsumerError.ts"
import { HandlerTimeout } from "../src/Handler.ts"
import { InvalidOptions } from "../src/InvalidOptions.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"

const at = { topic: "orders", partition: 3 }

describe("errors say what happened and what to do", () => {
  const reasons: ReadonlyArray<readonly [ConsumerError["reason"], RegExp]> = [
    [{ _tag: "AlreadyRunning" }, /one handler at a time/],
    [{ _tag: "Ended" }, /build the layer anew/],
    [{ _tag: "TopicsDiffer", handler: ["a", "b"], session: ["c"] }, /handles a, b but the session reads c/],
    [
      { _tag: "Options", error: new InvalidOptions({ option: "onFailure.deadLetter", value: "a", accepted: "b" }) },
      /onFailure.deadLetter.*"a" is not accepted/
    ],
    [{ _tag: "Stopped", ...at, offset: 2n ** 60n, cause: "x" }, /orders\/3 offset 1152921504606846976.*uncommitted/],
    [{ _tag: "NoStart", ...at, why: "notCommitted" }, /orders\/3 has no committed offset and startFrom is "fail"/],
    [{ _tag: "NoStart", ...at, why: "outOfRange" }, /orders\/3 is outside of its log and onOutOfRange is "fail"/],
    [{ _tag: "CommitRefused", code: "NOT_AUTHORIZED" }, /NOT_AUTHORIZED.*permissions/],
    [{ _tag: "NotOwned", ...at }, /orders\/3 is not owned/],
    [
      { _tag: "Client", error: new KafkaClientError({ reason: "Authentication", detail: "wrong password" }) },
      /Authentication: wrong password/
    ],
    [{ _tag: "Defect", cause: new Error("secret") }, /fault of the consumer itself/]
  ]
  for (const [reason, message] of reasons) {
    it(`ConsumerError ${reason._tag}${"why" in reason ? ` ${reason.why}` : ""}`, () => {
      const error = new ConsumerError({ reason })
      assert.match(error.message, message)
      assert.instanceOf(error, Error)
      assert.strictEqual(error._tag, "ConsumerError")
    })
  }

  it("ConsumerError is printed with the name of what a handler threw, and has it whole for who asks", () => {
    const cause = new AggregateError([new TypeError("secret"), { _tag: "Refused", secret: "secret" }], "secret")
    for (const reason of [
      { _tag: "Stopped", ...at, offset: 7n, cause },
      { _tag: "Defect", cause }
    ] as const) {
      const error = new ConsumerError({ reason })
      // made anew of the same reason, as who passes it on may
      for (const one of [
        error,
        new ConsumerError({ reason: error.reason }),
        new ConsumerError({ reason: Object.freeze({ ...reason }) })
      ]) {
        assert.strictEqual("cause" in one.reason && one.reason.cause, cause)
      }
      for (const text of [inspect(error, { depth: 9 }), JSON.stringify(error), format(error), format(error.reason)]) {
        assert.notInclude(text, "secret")
      }
      for (const text of [inspect(error, { depth: 9 }), JSON.stringify(error), format(error.reason)]) {
        assert.include(text, "TypeError at ")
        assert.include(text, "Refused")
      }
    }
  })

  it("KafkaClientError: what heals by itself is retryable", () => {
    const retryable = ["Connection", "Timeout", "ProtocolMismatch", "TopicMissing"]
    for (const reason of [
      "Connection",
      "Timeout",
      "Authentication",
      "Authorization",
      "TopicMissing",
      "ProtocolMismatch",
      "FencedInstance",
      "MissingCodec",
      "CorruptData",
      "UnsupportedClient",
      "Closed"
    ] as const) {
      const error = new KafkaClientError({ reason, detail: "d" })
      assert.strictEqual(error.isRetryable, retryable.includes(reason), reason)
      assert.strictEqual(error.message, `${reason}: d`)
    }
  })

  it("InvalidOptions shows texts quoted, numbers as they are, and nothing of objects", () => {
    const message = (value: unknown) => new InvalidOptions({ option: "o", value, accepted: "a" }).message
    assert.include(message("text"), 'option o: "text" is')
    assert.include(message(-1), "option o: -1 is")
    assert.include(message(undefined), "option o: undefined is")
    assert.include(message({ password: "p" }), "option o: the given object is")
    assert.include(message(null), "option o: null is")
  })

  it("the others", () => {
    assert.include(new CommitterDied({ cause: "x" }).message, "delivered again")
    assert.include(new HandlerTimeout({ afterMillis: 250 }).message, "250 ms")
  })
})
