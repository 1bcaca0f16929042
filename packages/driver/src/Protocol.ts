/**
 * The parts of the protocol that are written and read here and not by the library, and what error codes mean.
 *
 * @since 0.1.0
 */
export { fromCode, isFatal, reasonOf } from "./internal/classify.ts"
export { codeName } from "./internal/codes.ts"
export { type AbortedTransaction, decodeFetch, type Fetched, type FetchedPartition } from "./internal/fetchResponse.ts"
export { decodeMetadata, encodeMetadata, metadataKey, metadataVersion } from "./internal/metadataRequest.ts"
export { isOverLimit, tooLarge, unpackedBytes, unpackedLimit } from "./internal/unpacking.ts"
export {
  type Exchange,
  offsetCommitKey,
  offsetCommitOf,
  offsetFetchKey,
  offsetFetchOf
} from "./internal/offsetRequests.ts"
export {
  decodeInitProducerId,
  decodeProduce,
  encodeInitProducerId,
  encodeProduce,
  initProducerIdKey,
  initProducerIdVersions,
  type PartitionBatch,
  type Produced,
  produceKey,
  type ProducerIdentity,
  produceVersions,
  versionIn
} from "./internal/produceRequest.ts"
