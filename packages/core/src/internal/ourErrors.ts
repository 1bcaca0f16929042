/** Errors of this library whose messages are made of settings, codes and positions, never of a record. */
import { DecodeError, EncodeError } from "../Codec.ts"
import { HandlerTimeout } from "../Handler.ts"
import { KafkaClientError } from "../KafkaClient.ts"
import { PublishError } from "../KafkaProducer.ts"
import { SessionsLost } from "./suspects.ts"

/** The message of one of ours. Of any other error none: it may quote the record. Never throws. */
export const messageOfOurs = (error: unknown): string | undefined => {
  try {
    return error instanceof DecodeError ||
      error instanceof EncodeError ||
      error instanceof HandlerTimeout ||
      error instanceof SessionsLost ||
      error instanceof PublishError ||
      error instanceof KafkaClientError
      ? error.message
      : undefined
  } catch {
    return undefined
  }
}
