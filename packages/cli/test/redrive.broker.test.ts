/** The command as a process, on a real Kafka. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import * as Kafka from "../../../test/kafka/kafka.ts"
import { assertWholeAndInOrder, lastLine, onKafka } from "./process.ts"

const kafka = onKafka(inject("brokers"))

describe("concurrent-kafka redrive on a real Kafka", () => {
  it("sends what matches and nothing else, as it was, and after a dry run that changes nothing", async () => {
    const { from, to } = await kafka.topics("filter", 200, 7)
    const flags = ["--from", from, "--to", to, "--error", "ShipError", "--json"]
    const dry = await kafka.run([...flags, "--dry-run"])
    assert.strictEqual(dry.code, 0, dry.stderr)
    assert.deepInclude(lastLine(dry), { ended: "done", dryRun: true, total: 200, sent: 180, filtered: 20 })
    assert.strictEqual(await kafka.ends(to), 0)
    const groupId = String(lastLine(dry)["groupId"])
    await kafka.withAdmin(async (admin) => {
      const { groups } = await admin.listGroups()
      for (const group of [groupId, ...groups.map((group) => group.groupId).filter((id) => id.startsWith(groupId))]) {
        const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [from] })
        assert.isTrue(
          offsets?.partitions.every(({ offset }) => offset === "-1"),
          group
        )
      }
    })

    const real = await kafka.run(flags)
    assert.strictEqual(real.code, 0, real.stderr)
    assert.deepInclude(lastLine(real), { ended: "done", dryRun: false, total: 200, sent: 180, filtered: 20 })
    assert.strictEqual(real.stdout.split("\n").length, 2)
    const found = await kafka.readAll(to)
    assert.strictEqual(found.length, 180)
    for (const { headers } of found) assert.sameMembers(Object.keys(headers), ["trace", "x-dead-letter-hops"])

    const again = await kafka.run(flags)
    assert.deepInclude(lastLine(again), { ended: "done", total: 0, sent: 0 })
    assert.strictEqual(await kafka.ends(to), 180)
  })

  it("stops on SIGINT with what it has sent committed, and goes on from there: nothing lost, nothing twice, order kept", async () => {
    const { from, to } = await kafka.topics("resume", 3_000, 40)
    const flags = ["--from", from, "--to", to, "--json", "--concurrency", "2"]
    const first = await kafka.run(flags, async ({ interrupt, isRunning }) => {
      while (isRunning() && (await kafka.ends(to)) < 100);
      interrupt()
    })
    assert.strictEqual(first.code, 130, first.stderr)
    const { ended, sent } = lastLine(first)
    assert.strictEqual(ended, "stopped")
    assert.strictEqual(await kafka.ends(to), sent)
    assert.isBelow(Number(sent), 3_000)

    const second = await kafka.run(flags)
    assert.strictEqual(second.code, 0, second.stderr)
    assert.strictEqual(Number(lastLine(second)["sent"]), 3_000 - Number(sent))
    const found = await kafka.readAll(to)
    assert.strictEqual(found.length, 3_000)
    assertWholeAndInOrder(found, 3_000, 40)
  })

  it("ends with 1 where a topic is missing, and with 2 on bad arguments", async () => {
    const { from } = await kafka.topics("missing", 1, 1)
    const missing = await kafka.run(["--from", from, "--to", `${from}-nowhere`])
    assert.strictEqual(missing.code, 1)
    assert.include(missing.stderr, `error: there is no topic ${from}-nowhere`)
    assert.notInclude(await kafka.withAdmin((admin) => admin.listTopics()), `${from}-nowhere`)
    const bad = await kafka.run(["--from", from])
    assert.strictEqual(bad.code, 2)
    assert.include(bad.stderr, "--to")
    const same = await kafka.run(["--from", from, "--to", from])
    assert.strictEqual(same.code, 2)
    assert.include(same.stderr, "another topic than from")
    assert.strictEqual(same.stdout, "")
  })
})

describe.skipIf(!inject("own"))("concurrent-kafka redrive, when the broker goes away", () => {
  it.live("says what it waits for, goes on when it is back, and loses nothing", () =>
    Effect.gen(function* () {
      const broker = yield* Kafka.start({ own: true })
      const own = onKafka(broker.brokers)
      const ended = yield* Effect.promise(async () => {
        const { from, to } = await own.topics("outage", 3_000, 40)
        const flags = ["--from", from, "--to", to, "--json", "--concurrency", "2"]
        const ended = await own.run(flags, async ({ isRunning, stderr }) => {
          while (isRunning() && (await own.ends(to)) < 100);
          await Effect.runPromise(broker.kill(0))
          while (isRunning() && !stderr().includes("waiting: ")) await new Promise((resolve) => setTimeout(resolve, 50))
          await Effect.runPromise(broker.restart(0))
        })
        assertWholeAndInOrder(await own.readAll(to), 3_000, 40)
        return ended
      })
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.match(ended.stderr, /waiting: .*\n(.*\n)*going on/)
      assert.deepInclude(lastLine(ended), { ended: "done", total: 3_000, failed: 0 })
    }).pipe(Effect.scoped)
  )
})
