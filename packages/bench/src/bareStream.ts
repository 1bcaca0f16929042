/** The stream of @platformatic/kafka alone, as its own documents would have it used, by its event and by a loop. */
import { Consumer, type MessagesStream } from "@platformatic/kafka"
import type { Job, System } from "./job.ts"

const stream =
  (
    groupProtocol: "classic" | "consumer",
    read: (messages: MessagesStream<Buffer, Buffer, Buffer, Buffer>, job: Job) => void
  ): System =>
  async (job) => {
    const consumer = new Consumer({
      clientId: "bench",
      bootstrapBrokers: [...job.brokers],
      groupId: job.groupId,
      groupProtocol,
      autocommit: true,
      maxWaitTime: 250
    })
    const messages = await consumer.consume({ topics: [job.topic], mode: "committed", fallbackMode: "earliest" })
    read(messages, job)
    await job.done
    await messages.close()
    await consumer.close()
    return { commits: undefined }
  }

const byEvent = (messages: MessagesStream<Buffer, Buffer, Buffer, Buffer>, { began, ended }: Job): void => {
  messages.on("data", (message) => {
    began(message.value, message.partition)
    ended()
  })
}

const byLoop = (messages: MessagesStream<Buffer, Buffer, Buffer, Buffer>, { began, ended }: Job): void => {
  void (async () => {
    for await (const message of messages) {
      began(message.value, message.partition)
      ended()
    }
  })()
}

export const bare = {
  stream: stream("classic", byEvent),
  streamLoop: stream("classic", byLoop),
  streamConsumer: stream("consumer", byEvent)
} satisfies Record<string, System>
