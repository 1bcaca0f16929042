/** Record batches as the protocol's text has them (magic 2), for tests of what is read and for writing what kafkajs cannot. */

const varint = (value: number | bigint): Buffer => {
  let rest = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n))
  const bytes: Array<number> = []
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  return Buffer.from([...bytes, Number(rest)])
}

type Bytes = string | Uint8Array | null

const bytes = (value: Bytes): Buffer => {
  if (value === null) return varint(-1)
  const content = Buffer.from(value as string)
  return Buffer.concat([varint(content.length), content])
}

export interface RecordSpec {
  readonly delta: number
  readonly key?: Bytes
  readonly value?: Bytes
  readonly time?: number | bigint
  readonly headers?: ReadonlyArray<readonly [string, Bytes]>
}

const encodeRecord = ({ delta, headers = [], key = null, time = 0, value = null }: RecordSpec): Buffer => {
  const body = Buffer.concat([
    Buffer.from([0]),
    varint(time),
    varint(delta),
    bytes(key),
    bytes(value),
    varint(headers.length),
    ...headers.flatMap(([name, content]) => [bytes(name), bytes(content)])
  ])
  return Buffer.concat([varint(body.length), body])
}

export interface BatchSpec {
  readonly base: bigint
  readonly last: number
  readonly records: ReadonlyArray<RecordSpec>
  readonly attributes?: number
  readonly producer?: bigint
  readonly baseTime?: bigint
  readonly maxTime?: bigint
  readonly compress?: (plain: Buffer) => Buffer
  readonly magic?: number
}

/** Castagnoli */
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1
  return n
})
const crc32c = (data: Buffer): number => {
  let crc = 0xffffffff
  for (const byte of data) crc = (crc >>> 8) ^ table[(crc ^ byte) & 255]!
  return (crc ^ 0xffffffff) >>> 0
}

export const encodeBatch = (spec: BatchSpec): Buffer => {
  const plain = Buffer.concat(spec.records.map(encodeRecord))
  const body = spec.compress ? spec.compress(plain) : plain
  const batch = Buffer.alloc(61 + body.length)
  batch.writeBigInt64BE(spec.base, 0)
  batch.writeInt32BE(batch.length - 12, 8)
  batch.writeInt32BE(-1, 12)
  batch.writeInt8(spec.magic ?? 2, 16)
  batch.writeInt16BE(spec.attributes ?? 0, 21)
  batch.writeInt32BE(spec.last, 23)
  batch.writeBigInt64BE(spec.baseTime ?? 1000n, 27)
  batch.writeBigInt64BE(spec.maxTime ?? 2000n, 35)
  batch.writeBigInt64BE(spec.producer ?? -1n, 43)
  batch.writeInt16BE(-1, 51)
  batch.writeInt32BE(-1, 53)
  batch.writeInt32BE(spec.records.length, 57)
  body.copy(batch, 61)
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
  return batch
}
