/** kafkajs alone, as its own documents would have it used; and `pool`, the loop that is written by hand to handle many at once. */
import kafkajs from "kafkajs"
import type { Job, System } from "./job.ts"

const plain = async (
  { brokers, done, groupId, topic }: Job,
  config: kafkajs.ConsumerRunConfig
): Promise<{ readonly commits: undefined }> => {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 250 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: true, ...config })
  await done
  await consumer.disconnect()
  return { commits: undefined }
}

const sleep = (millis: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, millis)
  })

/** At most so many at once, in turn: what p-limit does, at a tenth of its price. */
const limiter = (most: number): ((work: () => Promise<void>) => Promise<void>) => {
  const waiting: Array<(() => void) | undefined> = []
  let head = 0
  let running = 0
  const next = (): void => {
    running--
    const start = waiting[head]
    if (start === undefined) return
    waiting[head++] = undefined
    if (head === waiting.length) {
      waiting.length = 0
      head = 0
    }
    start()
  }
  return (work) =>
    new Promise((resolve, reject) => {
      const start = (): void => {
        running++
        work().then(resolve, reject).finally(next)
      }
      if (running < most) start()
      else waiting.push(start)
    })
}

export const bare = {
  eachMessage: (job) =>
    plain(job, {
      eachMessage: async ({ message, partition }) => {
        job.began(message.value, partition)
        if (job.work.millis !== undefined) await sleep(job.work.millis)
        job.ended()
      }
    }),
  eachBatch: (job) =>
    plain(job, {
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          job.began(message.value, batch.partition)
          job.ended()
        }
      }
    }),
  pool: (job) => {
    const limit = limiter(job.work.concurrency ?? 100)
    return plain(job, {
      partitionsConsumedConcurrently: 12,
      eachBatch: async ({ batch }) => {
        await Promise.all(
          batch.messages.map((message) =>
            limit(async () => {
              job.began(message.value, batch.partition)
              await sleep(job.work.millis ?? 0)
              job.ended()
            })
          )
        )
      }
    })
  }
} satisfies Record<string, System>
