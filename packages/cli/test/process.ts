/** The commands as processes, and what a plain client sees of their topics. */
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import { Kafka, logLevel } from "kafkajs"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { createTopic } from "../../driver/test/operator.ts"

const bin = join(import.meta.dirname, "..", "src", "internal", "bin.ts")

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

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

export interface Read {
  readonly partition: number
  readonly key: string
  readonly value: string
  readonly headers: Readonly<Record<string, string>>
}

export const assertWholeAndInOrder = (found: ReadonlyArray<Read>, count: number, keys: number) => {
  for (let key = 0; key < keys; key++) {
    const mine = found.filter((record) => record.key === `k${key}`)
    assert.strictEqual(new Set(mine.map(({ partition }) => partition)).size, 1)
    const expected = Array.from({ length: Math.ceil((count - key) / keys) }, (_, n) => `k${key}:${n}`)
    assert.deepStrictEqual([...new Set(mine.map(({ value }) => value))], expected)
  }
}

export const lastLine = ({ stdout }: Ended): Record<string, unknown> =>
  JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>

/** What can be done while it runs. */
export interface Running {
  readonly interrupt: () => void
  readonly stderr: () => string
  readonly isRunning: () => boolean
}

export const onKafka = (brokers: ReadonlyArray<string>) => {
  const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING })
  const id = randomUUID().slice(0, 8)

  const withAdmin = async <A>(use: (admin: ReturnType<typeof kafka.admin>) => Promise<A>): Promise<A> => {
    const admin = kafka.admin()
    await admin.connect()
    try {
      return await use(admin)
    } finally {
      await admin.disconnect()
    }
  }

  const ends = (topic: string) =>
    withAdmin(async (admin) =>
      (await admin.fetchTopicOffsets(topic)).reduce((sum, { offset }) => sum + Number(offset), 0)
    )

  const runCommand = (
    command: "explain" | "redrive",
    args: ReadonlyArray<string>,
    meanwhile?: (running: Running) => Promise<void>
  ): Promise<Ended> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [bin, command, ...args], {
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
      const running: Running = {
        interrupt: () => void child.kill("SIGINT"),
        stderr: () => stderr,
        isRunning: () => isRunning
      }
      meanwhile?.(running).catch((error: unknown) => {
        child.kill("SIGKILL")
        reject(error instanceof Error ? error : new Error(String(error)))
      })
    })

  return {
    withAdmin,
    ends,

    /** Runs `redrive` to its end. */
    run: (args: ReadonlyArray<string>, meanwhile?: (running: Running) => Promise<void>): Promise<Ended> =>
      runCommand("redrive", args, meanwhile),

    /** Runs `explain` to its end. */
    explain: (args: ReadonlyArray<string>): Promise<Ended> => runCommand("explain", args),

    /** Commits with metadata, as a tool that is no consumer of ours. */
    commit: async (
      groupId: string,
      topic: string,
      partitions: ReadonlyArray<{ readonly partition: number; readonly offset: string; readonly metadata: string }>
    ): Promise<void> => {
      const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100 })
      const joined = new Promise<void>((resolve) => void consumer.on(consumer.events.GROUP_JOIN, () => resolve()))
      await consumer.connect()
      await consumer.subscribe({ topic })
      await consumer.run({ autoCommit: false, eachBatch: () => Promise.resolve() })
      await joined
      await consumer.commitOffsets(partitions.map((p) => ({ topic, ...p })))
      await consumer.disconnect()
    },

    /** A dead-letter topic with `count` records of `keys` keys, and an empty one. */
    topics: (name: string, count: number, keys: number) =>
      withAdmin(async (admin) => {
        const from = `cli-${name}-${id}.dead-letter`
        const to = `cli-${name}-${id}`
        await createTopic(admin, from, 3)
        await createTopic(admin, to, 4)
        const producer = kafka.producer()
        await producer.connect()
        await producer.send({ topic: from, messages: dead(count, keys) })
        await producer.disconnect()
        return { from, to }
      }),

    /** Everything in a topic, per partition in its order. */
    readAll: async (topic: string): Promise<ReadonlyArray<Read>> => {
      const wanted = await ends(topic)
      // it ends with its fetch
      const consumer = kafka.consumer({ groupId: `cli-reader-${randomUUID()}`, maxWaitTimeInMs: 100 })
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
  }
}
