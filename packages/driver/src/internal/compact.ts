/** What the newer versions of the protocol are made of (KIP-482): lengths as varints, and tagged fields, of which none is known here. */

const uvarint = (value: number): Buffer => {
  const bytes: Array<number> = []
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80)
  bytes.push(value)
  return Buffer.from(bytes)
}

export const noTags: Buffer = Buffer.from([0])

export const int32 = (value: number): Buffer => {
  const b = Buffer.allocUnsafe(4)
  b.writeInt32BE(value)
  return b
}

export const int64 = (value: bigint): Buffer => {
  const b = Buffer.allocUnsafe(8)
  b.writeBigInt64BE(value)
  return b
}

export const text = (value: string | null): Buffer => {
  if (value === null) return uvarint(0)
  const bytes = Buffer.from(value, "utf8")
  return Buffer.concat([uvarint(bytes.length + 1), bytes])
}

/** A topic id, as metadata have it. */
export const uuid = (id: string): Buffer => Buffer.from(id, "hex")

export const array = <A>(all: ReadonlyArray<A>, one: (a: A) => Buffer): Buffer =>
  Buffer.concat([uvarint(all.length + 1), ...all.map(one)])

/** Reads what the others write. */
export class CompactReader {
  readonly buffer: Buffer
  at = 0
  constructor(buffer: Buffer) {
    this.buffer = buffer
  }
  int16(): number {
    return this.buffer.readInt16BE((this.at += 2) - 2)
  }
  int32(): number {
    return this.buffer.readInt32BE((this.at += 4) - 4)
  }
  int64(): bigint {
    return this.buffer.readBigInt64BE((this.at += 8) - 8)
  }
  uvarint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.buffer.readUInt8(this.at++)
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  text(): string | null {
    const length = this.uvarint() - 1
    return length < 0 ? null : this.buffer.toString("utf8", this.at, (this.at += length))
  }
  uuid(): string {
    return this.buffer.toString("hex", this.at, (this.at += 16))
  }
  tags(): void {
    for (let n = this.uvarint(); n > 0; n--) {
      this.uvarint()
      const length = this.uvarint()
      this.at += length
    }
  }
  array<A>(read: () => A): Array<A> {
    const length = this.uvarint() - 1
    const out: Array<A> = []
    for (let i = 0; i < length; i++) out.push(read())
    return out
  }
}
