/**
 * Which records behind the committed offset are done, as text in the metadata of a commit: so that the next owner of a partition
 * does not handle them again.
 *
 * The format is that of the Java Parallel Consumer, with a check behind the body that says whose map it is, which that library does not
 * look at. Both can serve one group in turn.
 *
 * Invariants, with their tests in `test/offsetMap.test.ts`:
 * - what is written without its check is what the Java library writes ("golden vectors");
 * - whatever is read, an answer comes, and no map is used whose check is wrong ("a million inputs");
 * - a map that was cut says the same as the whole one, up to where it was cut ("a cut map").
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import { fromBase64 } from "./internal/base64.ts"
import { checkBytes, checkOf } from "./internal/mapCheck.ts"
import {
  type Broken,
  type Content,
  inflatedMagic,
  Magic,
  maxInflated,
  readBits,
  readRuns
} from "./internal/mapForms.ts"
import { writeMap } from "./internal/mapWriter.ts"

/**
 * What is done of a partition, relative to a committed offset.
 *
 * @since 0.1.0
 * @category models
 */
export interface OffsetMap {
  /** The committed offset that the map lies beside. */
  readonly base: bigint
  /** So many offsets, from the base on, are spoken of. What lies beyond is not done. */
  readonly length: number
  /** What is done: pairs of `from` and `to` (without `to`) in one list, relative to the base, ascending, apart from each other. */
  readonly runs: ReadonlyArray<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export declare namespace OffsetMap {
  /**
   * A compressor of the Zstandard format. `decompress` throws for what it cannot read and for what becomes longer than `limit` bytes.
   */
  interface Zstd {
    readonly compress: (bytes: Uint8Array) => Uint8Array
    readonly decompress: (bytes: Uint8Array, limit: number) => Uint8Array
  }

  /** Whose a map must be. */
  interface Place {
    readonly topic: string
    readonly partition: number
    /** The committed offset beside which the map lies. */
    readonly base: bigint
  }

  interface DecodeOptions extends Place {
    /** `"own"`: only maps with our check. `"all"`: also those of the Java Parallel Consumer, which have none. */
    readonly trust: "own" | "all"
    /** Where the log ends: a map that speaks of what lies there or beyond is not used. Default: not looked at. */
    readonly end?: bigint | undefined
    readonly zstd?: Zstd | undefined
  }

  interface EncodeOptions extends Place {
    /** As in `OffsetMap`. */
    readonly runs: ReadonlyArray<number>
    /** The most characters; Kafka takes 4,096 by default. Java: `offset.metadata.max.bytes`. */
    readonly limit: number
    readonly zstd?: Zstd | undefined
  }

  interface Encoded {
    /** Empty when there is nothing to say, or no room to say it. */
    readonly metadata: string
    /** So many offsets are spoken of: all, unless the map was cut. */
    readonly length: number
    readonly cut: boolean
  }

  /**
   * Why a map is not used.
   *
   * - `notBase64`, `tooLong`, `unknownMagic`: it is no map.
   * - `kafkaStreams`: what Kafka Streams writes about itself.
   * - `unsupported`: a form that is declared and read by nobody, or one of a fork of the Parallel Consumer.
   * - `truncated`, `negative`, `trailing`, `nested`: a map that was damaged.
   * - `zstdMissing`, `zstdFailed`: compressed, and there is nothing to read it with; or it cannot be read, or is too long.
   * - `unchecked`: without our check, and only our own maps are trusted.
   * - `checkWrong`: of another partition or offset (copied to another cluster), or damaged.
   * - `beyondEnd`: it speaks of offsets that the log does not have.
   */
  type Unusable =
    | "notBase64"
    | "tooLong"
    | "unknownMagic"
    | "kafkaStreams"
    | "unsupported"
    | "truncated"
    | "negative"
    | "trailing"
    | "nested"
    | "zstdMissing"
    | "zstdFailed"
    | "unchecked"
    | "checkWrong"
    | "beyondEnd"

  type Decoded =
    /** Nothing was written: everything from the base on is not done. */
    | { readonly _tag: "Empty" }
    | { readonly _tag: "Map"; readonly map: OffsetMap; /** It has our check, which is right. */ readonly own: boolean }
    | { readonly _tag: "Unusable"; readonly why: Unusable }
}

/** more is not looked at: brokers take 4,096 by default */
const maxCharacters = 65_536

const Zstd = Context.Reference<OffsetMap.Zstd | undefined>("@concurrent-kafka/core/OffsetMap/Zstd", {
  defaultValue: () => undefined
})

const empty: OffsetMap.Decoded = { _tag: "Empty" }
const unusable = (why: OffsetMap.Unusable): OffsetMap.Decoded => ({ _tag: "Unusable", why })

const decode = (metadata: string, options: OffsetMap.DecodeOptions): OffsetMap.Decoded => {
  if (metadata === "") return empty
  if (metadata.length > maxCharacters) return unusable("tooLong")
  const payload = fromBase64(metadata)
  if (payload === undefined) return unusable("notBase64")
  if (payload[0] !== Magic.envelope) return readPayload(payload, options)
  // a fork's envelope: something of its own, then a map or nothing
  if (payload.length < 3) return unusable("truncated")
  const inner = 3 + ((payload[1]! << 8) | payload[2]!)
  if (inner > payload.length) return unusable("truncated")
  if (inner === payload.length) return empty
  return payload[inner] === Magic.envelope ? unusable("nested") : readPayload(payload.subarray(inner), options)
}

const readPayload = (payload: Uint8Array, options: OffsetMap.DecodeOptions): OffsetMap.Decoded => {
  const magic = payload[0]
  if (magic === undefined) return unusable("truncated")
  switch (magic) {
    case Magic.bits16:
    case Magic.bits32:
    case Magic.runs16:
    case Magic.runs32:
      return readForm(magic, payload, options)
    case Magic.zstdBits16:
    case Magic.zstdBits32:
    case Magic.zstdRuns16:
    case Magic.zstdRuns32:
      return inflate(inflatedMagic[magic]!, payload, options)
    case Magic.streams1:
    case Magic.streams2:
      return unusable("kafkaStreams")
    case Magic.byteArray:
    case Magic.zstdByteArray:
    case Magic.deltas:
    case Magic.zstdDeltas:
      return unusable("unsupported")
    default:
      return unusable("unknownMagic")
  }
}

const inflate = (magic: number, payload: Uint8Array, options: OffsetMap.DecodeOptions): OffsetMap.Decoded => {
  const { zstd } = options
  if (zstd === undefined) return unusable("zstdMissing")
  let body: Uint8Array
  try {
    body = zstd.decompress(payload.subarray(1), maxInflated)
  } catch {
    return unusable("zstdFailed")
  }
  if (body.length > maxInflated) return unusable("zstdFailed")
  const inflated = new Uint8Array(body.length + 1)
  inflated[0] = magic
  inflated.set(body, 1)
  return readForm(magic, inflated, options)
}

const readForm = (magic: number, payload: Uint8Array, options: OffsetMap.DecodeOptions): OffsetMap.Decoded => {
  const body = payload.subarray(1)
  const content: Content | Broken =
    magic === Magic.bits16 || magic === Magic.bits32
      ? readBits(body, magic === Magic.bits32, checkBytes)
      : readRuns(body, magic === Magic.runs32, checkBytes)
  if (typeof content === "string") return unusable(content)
  const { base, end, partition, topic, trust } = options
  const { behind, length, runs } = content
  if (behind !== undefined) {
    const check = (body[behind]! << 16) | (body[behind + 1]! << 8) | body[behind + 2]!
    if (check !== checkOf(topic, partition, base, payload.subarray(0, 1 + behind))) return unusable("checkWrong")
  } else if (trust === "own") return unusable("unchecked")
  if (end !== undefined && base + BigInt(length) > end) return unusable("beyondEnd")
  return runs.length === 0 ? empty : { _tag: "Map", map: { base, length, runs }, own: behind !== undefined }
}

const encode = (options: OffsetMap.EncodeOptions): OffsetMap.Encoded =>
  writeMap(options.runs, options.limit, options, options.zstd)

function* doneOf(map: OffsetMap): Generator<readonly [from: bigint, to: bigint]> {
  for (let i = 0; i < map.runs.length; i += 2) {
    yield [map.base + BigInt(map.runs[i]!), map.base + BigInt(map.runs[i + 1]!)]
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const OffsetMap: {
  /**
   * What compressed maps are read and written with. Default: nothing, then they cannot be read and are not written. A driver's layer
   * provides it where the runtime has it.
   */
  readonly Zstd: Context.Reference<OffsetMap.Zstd | undefined>
  /**
   * Reads the metadata of a commit, whoever wrote it. Never throws.
   *
   * **Cost**: memory for the runs only, whatever they claim; at most 64 KiB are decompressed.
   */
  readonly decode: (metadata: string, options: OffsetMap.DecodeOptions) => OffsetMap.Decoded
  /**
   * Writes the smallest of the forms: 16 or 32 bits of length and a bit for each offset, or 32 bits for each run; compressed only when
   * none of these is shorter than 200 bytes. What does not fit into `limit` is cut: the longest range from the base that fits.
   */
  readonly encode: (options: OffsetMap.EncodeOptions) => OffsetMap.Encoded
  /** What is done, as offsets: `[from, to)`, ascending. */
  readonly done: (map: OffsetMap) => Iterable<readonly [from: bigint, to: bigint]>
} = { Zstd, decode, encode, done: doneOf }
