/** The headers of a record, which a client may decode when somebody asks for them: what is wrong with them comes out here. */
import type { ConsumerRecord, Headers } from "../ConsumerRecord.ts"

/** `undefined` where they cannot be read. */
export const readableHeaders = (record: Pick<ConsumerRecord, "headers">): Headers | undefined => {
  try {
    return record.headers
  } catch {
    return undefined
  }
}
