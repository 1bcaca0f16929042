/** The command as a process, on a real Kafka. */
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import { Kafka, logLevel } from "kafkajs"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { afterAll, beforeAll, inject } from "vitest"

const brokers = [...inject("brokers")]
const bin = join(import.meta.dirname, "..", "src", "internal", "bin.ts")
const kafka = new Kafka({ brokers, logLevel: logLevel.NOTHING })
const admin = kafka.admin()
const producer = kafka.producer()
const id = randomUUID().slice(0, 8)

beforeAll(async () => {
  await admin.connect()
  await producer.connect()
})
afterAll(async () => {
  await producer.disconnect()
  await admin.disconnect()
})

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs it to its end; sends SIGINT as soon as that is so. */
const run = (args: ReadonlyArray<string>, interruptWhen?: () => Promise<boolean>): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, "redrive", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, KAFKA_BOOTSTRAP_SERVERS: brokers.join(",") }
    })
    let stdout = ""
    let stderr = ""
    let isRunning = true
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.once("error", reject)
    child.once("close", (code) => {
      isRunning = false
      resolve({ code, stdout, stderr })
    })
    const watch = async (isSo: () => Promise<boolean>) => {
      while (isRunning && !(await isSo()));
      child.kill("SIGINT")
    }
    if (interruptWhen !== undefined) watch(interruptWhen).catch(reject)
  })

const bytes = (text: string) => Buffer.from(text)

/** `count` dead letters of `keys` keys; the value says the key and the place in its order. */
const dead = (count: number, keys: number) =>
  Array.from({ length: count }, (_, i) => {
    const letter = DeadLetter.make({
      topic: "",
      record: {
        topic: "orders",
        partition: 0,
        offset: BigInt(i),
        timestamp: 5n,
        key: bytes(`k${i % keys}`),
        value: bytes(`k${i % keys}:${Math.floor(i / keys)}`),
        headers: [["trace", bytes(`t${i}`)]]
      },
      groupId: "shipping",
      attempts: 3,
      cause: Cause.fail({ _tag: i % 10 === 0 ? "DecodeError" : "ShipError" }),
      firstFailedAt: 1,
      lastFailedAt: 2
    })
    return {
      key: Buffer.from(letter.key ?? []),
      value: Buffer.from(letter.value ?? []),
      headers: Object.fromEntries((letter.headers ?? []).map(([name, value]) => [name, Buffer.from(value ?? [])]))
    }
  })

const topics = async (name: string, count: number, keys: number) => {
  const from = `cli-${name}-${id}.dead-letter`
  const to = `cli-${name}-${id}`
  await admin.createTopics({
    topics: [
      { topic: from, numPartitions: 3, replicationFactor: 1 },
      { topic: to, numPartitions: 4, replicationFactor: 1 }
    ]
  })
  await producer.send({ topic: from, messages: dead(count, keys) })
  return { from, to }
}

const ends = async (topic: string) =>
  (await admin.fetchTopicOffsets(topic)).reduce((sum, { offset }) => sum + Number(offset), 0)

interface Read {
  readonly partition: number
  readonly key: string
  readonly value: string
  readonly headers: Readonly<Record<string, string>>
}

/** Everything in a topic, per partition in its order. */
const readAll = async (topic: string): Promise<ReadonlyArray<Read>> => {
  const wanted = await ends(topic)
  const consumer = kafka.consumer({ groupId: `cli-reader-${randomUUID()}` })
  const found: Array<Read> = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    consumer
      .run({
        eachMessage: ({ message, partition }) => {
          const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)])
          found.push({
            partition,
            key: String(message.key),
            value: String(message.value),
            headers: Object.fromEntries(headers) as Record<string, string>
          })
          if (found.length === wanted) resolve()
          return Promise.resolve()
        }
      })
      .catch(reject)
  })
  await consumer.disconnect()
  return found
}

const assertWholeAndInOrder = (found: ReadonlyArray<Read>, count: number, keys: number) => {
  for (let key = 0; key < keys; key++) {
    const mine = found.filter((record) => record.key === `k${key}`)
    assert.strictEqual(new Set(mine.map(({ partition }) => partition)).size, 1)
    const expected = Array.from({ length: Math.ceil((count - key) / keys) }, (_, n) => `k${key}:${n}`)
    assert.deepStrictEqual([...new Set(mine.map(({ value }) => value))], expected)
  }
}

const lastLine = ({ stdout }: Ended): Record<string, unknown> =>
  JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>

describe("concurrent-kafka redrive on a real Kafka", () => {
  it("sends what matches and nothing else, as it was, and after a dry run that changes nothing", async () => {
    const { from, to } = await topics("filter", 200, 7)
    const flags = ["--from", from, "--to", to, "--error", "ShipError", "--json"]
    const dry = await run([...flags, "--dry-run"])
    assert.strictEqual(dry.code, 0, dry.stderr)
    assert.deepInclude(lastLine(dry), { ended: "done", dryRun: true, total: 200, sent: 180, filtered: 20 })
    assert.strictEqual(await ends(to), 0)
    const groupId = String(lastLine(dry)["groupId"])
    const { groups } = await admin.listGroups()
    for (const group of [groupId, ...groups.map((group) => group.groupId).filter((id) => id.startsWith(groupId))]) {
      const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [from] })
      assert.isTrue(
        offsets?.partitions.every(({ offset }) => offset === "-1"),
        group
      )
    }

    const real = await run(flags)
    assert.strictEqual(real.code, 0, real.stderr)
    assert.deepInclude(lastLine(real), { ended: "done", dryRun: false, total: 200, sent: 180, filtered: 20 })
    assert.strictEqual(real.stdout.split("\n").length, 2)
    const found = await readAll(to)
    assert.strictEqual(found.length, 180)
    for (const { headers } of found) assert.sameMembers(Object.keys(headers), ["trace", "x-dead-letter-hops"])

    const again = await run(flags)
    assert.deepInclude(lastLine(again), { ended: "done", total: 0, sent: 0 })
    assert.strictEqual(await ends(to), 180)
  })

  it("stops on SIGINT with what it has sent committed, and goes on from there: nothing lost, nothing twice, order kept", async () => {
    const { from, to } = await topics("resume", 3_000, 40)
    const flags = ["--from", from, "--to", to, "--json", "--concurrency", "2"]
    const first = await run(flags, async () => (await ends(to)) >= 100)
    assert.strictEqual(first.code, 130, first.stderr)
    const { ended, sent } = lastLine(first)
    assert.strictEqual(ended, "stopped")
    assert.strictEqual(await ends(to), sent)
    assert.isBelow(Number(sent), 3_000)

    const second = await run(flags)
    assert.strictEqual(second.code, 0, second.stderr)
    assert.strictEqual(Number(lastLine(second)["sent"]), 3_000 - Number(sent))
    const found = await readAll(to)
    assert.strictEqual(found.length, 3_000)
    assertWholeAndInOrder(found, 3_000, 40)
  })

  it("ends with 1 where a topic is missing, and with 2 on bad arguments", async () => {
    const { from } = await topics("missing", 1, 1)
    const missing = await run(["--from", from, "--to", `${from}-nowhere`])
    assert.strictEqual(missing.code, 1)
    assert.include(missing.stderr, `error: there is no topic ${from}-nowhere`)
    assert.notInclude(await admin.listTopics(), `${from}-nowhere`)
    const bad = await run(["--from", from])
    assert.strictEqual(bad.code, 2)
    assert.include(bad.stderr, "--to")
    const same = await run(["--from", from, "--to", from])
    assert.strictEqual(same.code, 2)
    assert.include(same.stderr, "another topic than from")
    assert.strictEqual(same.stdout, "")
  })
})
