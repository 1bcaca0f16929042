/** Writes so many records a second, to each partition in turn; a value begins with the time of writing and the record's number. */
import kafkajs from "kafkajs"
import { setTimeout } from "node:timers/promises"

export interface Writer {
  readonly written: () => number
  readonly stop: () => Promise<void>
}

export const startWriter = async (
  brokers: ReadonlyArray<string>,
  topic: string,
  partitions: number,
  rate: number
): Promise<Writer> => {
  const producer = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).producer()
  await producer.connect()
  let written = 0
  let running = true
  const sends: Array<Promise<unknown>> = []
  const loop = (async () => {
    const began = performance.now()
    while (running) {
      const due = ((performance.now() - began) * rate) / 1000
      const messages: Array<{ readonly value: string; readonly partition: number }> = []
      for (; written < due; written++) {
        messages.push({ value: `${now()} ${written}`, partition: written % partitions })
      }
      if (messages.length > 0) sends.push(producer.send({ topic, acks: 1, messages }))
      await setTimeout(Math.max(2, 1000 / rate))
    }
  })()
  return {
    written: () => written,
    stop: async () => {
      if (!running) return
      running = false
      await loop
      await Promise.all(sends)
      await producer.disconnect()
    }
  }
}

/** The same clock for all processes of a machine, in milliseconds and their fractions. */
export const now = (): number => performance.timeOrigin + performance.now()

const text = new TextDecoder()

export const parse = (value: Uint8Array | null): { readonly at: number; readonly number: number } => {
  const [at, number] = text.decode(value ?? new Uint8Array()).split(" ")
  return { at: Number(at), number: Number(number) }
}
