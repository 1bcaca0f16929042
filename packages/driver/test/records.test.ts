import type { ConsumerRecord } from "@concurrent-kafka/core/ConsumerRecord"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as zlib from "node:zlib"
import { decompress } from "./codecs.ts"
import { decodeFetch } from "../src/internal/fetchResponse.ts"
import { damagedBatch, decodeRecords, type Source } from "../src/internal/records.ts"
import { encodeBatch } from "./batches.ts"

const transactional = 0x10
const control = 0x20
const marker = (base: bigint, producer: bigint, type: "abort" | "commit") =>
  encodeBatch({
    base,
    last: 0,
    producer,
    attributes: transactional | control,
    records: [{ delta: 0, key: `\0\0\0${type === "abort" ? "\0" : "\u0001"}`, value: "\0\0\0\0\0\0" }]
  })

const decode = (batches: ReadonlyArray<Buffer>, rest: Partial<Source> = {}) =>
  decodeRecords({
    topic: "t",
    partition: 3,
    position: 0n,
    aborted: [],
    batches: Buffer.concat(batches),
    decompress,
    most: Infinity,
    ...rest
  })

const now = (result: ReturnType<typeof decode>) => {
  if (result instanceof Promise) throw new Error("nothing is compressed")
  return result
}

const offsets = (records: ReadonlyArray<ConsumerRecord>) => records.map(({ offset }) => offset)
const text = (value: Uint8Array | null) => (value === null ? null : Buffer.from(value).toString())

const refused = (decodeIt: () => unknown): KafkaClientError => {
  try {
    decodeIt()
  } catch (error) {
    if (error instanceof KafkaClientError) return error
    throw error
  }
  throw new Error("it was decoded")
}

describe("records", () => {
  it("are exactly what was written: null and empty, headers in order with repeated names", () => {
    const { next, records } = now(
      decode([
        encodeBatch({
          base: 10n,
          last: 3,
          records: [
            {
              delta: 0,
              key: "k",
              value: "v",
              time: 5,
              headers: [
                ["b", "1"],
                ["a", ""],
                ["b", null]
              ]
            },
            { delta: 1 },
            { delta: 2, key: "", value: "" },
            { delta: 3, key: "schlüssel", value: "x".repeat(300), time: -7 }
          ]
        })
      ])
    )
    assert.deepStrictEqual(
      records.map(({ headers, key, offset, partition, timestamp, topic, value }) => [
        topic,
        partition,
        offset,
        timestamp,
        text(key),
        text(value),
        headers.map(([name, content]) => [name, text(content)])
      ]),
      [
        [
          "t",
          3,
          10n,
          1005n,
          "k",
          "v",
          [
            ["b", "1"],
            ["a", ""],
            ["b", null]
          ]
        ],
        ["t", 3, 11n, 1000n, null, null, []],
        ["t", 3, 12n, 1000n, "", "", []],
        ["t", 3, 13n, 993n, "schlüssel", "x".repeat(300), []]
      ]
    )
    assert.strictEqual(next, 14n)
  })

  it("have the broker's time where the topic says so", () => {
    const { records } = now(
      decode([
        encodeBatch({
          base: 0n,
          last: 0,
          attributes: 0x08,
          baseTime: 1n,
          maxTime: 99n,
          records: [{ delta: 0, time: 4 }]
        })
      ])
    )
    assert.strictEqual(records[0]!.timestamp, 99n)
  })

  it("keep times and offsets beyond 2^53", () => {
    const base = 2n ** 60n
    const { next, records } = now(
      decode([encodeBatch({ base, last: 1, baseTime: -1n, records: [{ delta: 0 }, { delta: 1, time: 2n ** 50n }] })], {
        position: base + 1n
      })
    )
    assert.deepStrictEqual(offsets(records), [base + 1n])
    assert.strictEqual(records[0]!.timestamp, 2n ** 50n - 1n)
    assert.strictEqual(next, base + 2n)
  })

  it("are as far from the time of their batch as they say, however far that is", () => {
    const times = [2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 56n - 1n, 2n ** 62n + 1n, -(2n ** 63n), 2n ** 63n - 1n]
    const { records } = now(
      decode([
        encodeBatch({
          base: 0n,
          last: times.length - 1,
          baseTime: 0n,
          records: times.map((time, delta) => ({ delta, time }))
        })
      ])
    )
    assert.deepStrictEqual(
      records.map(({ timestamp }) => timestamp),
      times
    )
  })

  it("below the position that was asked for are left out", () => {
    const batch = encodeBatch({ base: 0n, last: 4, records: [0, 1, 2, 3, 4].map((delta) => ({ delta })) })
    assert.deepStrictEqual(offsets(now(decode([batch], { position: 3n })).records), [3n, 4n])
  })
})

describe("the position after an answer", () => {
  it("is behind the last batch's own end, however much compaction has removed", () => {
    const { next, records } = now(
      decode([
        encodeBatch({ base: 0n, last: 499, records: [{ delta: 2 }, { delta: 400 }] }),
        encodeBatch({ base: 500n, last: 499, records: [] })
      ])
    )
    assert.deepStrictEqual(offsets(records), [2n, 400n])
    assert.strictEqual(next, 1000n)
  })

  it("is before a batch that the answer has cut", () => {
    const whole = encodeBatch({ base: 0n, last: 0, records: [{ delta: 0 }] })
    const cut = encodeBatch({ base: 1n, last: 0, records: [{ delta: 0, value: "long enough to be cut" }] })
    for (const size of [1, 60, 61, cut.length - 1]) {
      assert.strictEqual(now(decode([whole, cut.subarray(0, size)])).next, 1n)
    }
  })

  it("does not move when nothing came", () => {
    assert.strictEqual(now(decode([], { position: 5n })).next, 5n)
  })
})

describe("transactions under read_committed", () => {
  const data = (base: bigint, producer: bigint) =>
    encodeBatch({ base, last: 0, producer, attributes: transactional, records: [{ delta: 0 }] })

  it("control records are left out and passed", () => {
    const { next, records } = now(decode([data(0n, 7n), marker(1n, 7n, "commit")]))
    assert.deepStrictEqual(offsets(records), [0n])
    assert.strictEqual(next, 2n)
  })

  it("of two interleaved producers only the one that was aborted is left out, and only until its marker", () => {
    const { next, records } = now(
      decode(
        [
          data(0n, 1n),
          data(1n, 2n),
          data(2n, 1n),
          marker(3n, 1n, "abort"),
          data(4n, 2n),
          marker(5n, 2n, "commit"),
          data(6n, 1n),
          marker(7n, 1n, "commit"),
          data(8n, 2n),
          marker(9n, 2n, "abort")
        ],
        {
          aborted: [
            { producerId: 2n, firstOffset: 8n },
            { producerId: 1n, firstOffset: 0n }
          ]
        }
      )
    )
    assert.deepStrictEqual(offsets(records), [1n, 4n, 6n])
    assert.strictEqual(next, 10n)
  })

  it("an aborted transaction whose beginning was fetched before is left out as well", () => {
    const { records } = now(
      decode([data(10n, 1n), marker(11n, 1n, "abort"), data(12n, 1n)], {
        position: 10n,
        aborted: [{ producerId: 1n, firstOffset: 4n }]
      })
    )
    assert.deepStrictEqual(offsets(records), [12n])
  })

  it("what the same producer writes outside of a transaction is not", () => {
    const plain = encodeBatch({ base: 0n, last: 0, producer: 1n, records: [{ delta: 0 }] })
    const { records } = now(decode([plain], { aborted: [{ producerId: 1n, firstOffset: 0n }] }))
    assert.deepStrictEqual(offsets(records), [0n])
  })
})

describe("compressed batches", () => {
  const spec = {
    base: 5n,
    last: 1,
    records: [
      { delta: 0, value: "a" },
      { delta: 1, value: "b" }
    ]
  }

  it("gzip, in order with batches that are not compressed", async () => {
    const result = await decode([
      encodeBatch({ base: 4n, last: 0, records: [{ delta: 0 }] }),
      encodeBatch({ ...spec, attributes: 1, compress: zlib.gzipSync }),
      encodeBatch({ base: 7n, last: 0, records: [{ delta: 0 }] }),
      encodeBatch({ ...spec, base: 8n, attributes: 1, compress: zlib.gzipSync })
    ])
    assert.deepStrictEqual(offsets(result.records), [4n, 5n, 6n, 7n, 8n, 9n])
    assert.strictEqual(result.next, 10n)
  })

  it("zstd, by Node's own zlib, small and large", async () => {
    const large = Array.from({ length: 500 }, (_, delta) => ({ delta, value: String(Math.random()).repeat(10) }))
    const result = await decode([
      encodeBatch({ ...spec, attributes: 4, compress: zlib.zstdCompressSync }),
      encodeBatch({ base: 7n, last: 499, records: large, attributes: 4, compress: zlib.zstdCompressSync })
    ])
    assert.strictEqual(result.records.length, 502)
    assert.strictEqual(text(result.records[501]!.value), large[499]!.value)
  })

  it.each([
    ["a codec that nobody knows", 2, "MissingCodec"],
    ["bytes that the codec cannot read", 1, "CorruptData"]
  ] as const)("%s: the batch is named", async (_, attributes, reason) => {
    const error = await Promise.resolve(decode([encodeBatch({ ...spec, attributes })])).then(
      () => undefined,
      (e: unknown) => e as KafkaClientError
    )
    assert.strictEqual(error?.reason, reason)
    assert.include(error?.detail, "t/3")
  })
})

describe("an answer that is decoded in pieces", () => {
  const zeros = (base: bigint, bytes: number) =>
    encodeBatch({
      base,
      last: 0,
      attributes: 4,
      compress: zlib.zstdCompressSync,
      records: [{ delta: 0, value: Buffer.alloc(bytes) }]
    })

  it("ends behind the batch with which it has become too much, and unpacks no other", async () => {
    let unpacked = 0
    const counting: typeof decompress = async (...args) => {
      const plain = await decompress(...args)
      unpacked += plain.length
      return plain
    }
    const batches = [0n, 1n, 2n, 3n].map((base) => zeros(base, 1000))
    const piece = (most: number, position = 0n) => decode(batches, { most, position, decompress: counting })
    const first = await piece(1500)
    assert.deepStrictEqual([offsets(first.records), first.next, first.isWhole], [[0n, 1n], 2n, false])
    assert.isAtLeast(first.weight, 2000)
    assert.isBelow(unpacked, 2100)
    // one at least, and all that weighs nothing
    const second = await piece(1, 2n)
    assert.deepStrictEqual([offsets(second.records), second.next, second.isWhole], [[2n], 3n, false])
    const third = await piece(1, 3n)
    assert.deepStrictEqual([offsets(third.records), third.next, third.isWhole], [[3n], 4n, true])
  })

  it("counts what stands around small records: they take far more than their bytes", () => {
    const small = (base: bigint) =>
      encodeBatch({ base, last: 99, records: Array.from({ length: 100 }, (_, delta) => ({ delta })) })
    const { isWhole, next } = now(decode([small(0n), small(100n)], { most: 10_000 }))
    assert.deepStrictEqual([next, isWhole], [100n, false])
  })

  it.each([
    ["aborted", [0n, 4n, 5n]],
    ["committed", [0n, 1n, 2n, 4n, 5n]]
  ] as const)("a transaction is %s as a whole, wherever it and what follows it are cut", (how, expected) => {
    const own = (base: bigint) =>
      encodeBatch({ base, last: 0, producer: 7n, attributes: transactional, records: [{ delta: 0 }] })
    const plain = (base: bigint) => encodeBatch({ base, last: 0, records: [{ delta: 0 }] })
    const end = marker(3n, 7n, how === "aborted" ? "abort" : "commit")
    // the same producer goes on with one that is committed
    const batches = [plain(0n), own(1n), own(2n), end, own(4n), plain(5n), marker(6n, 7n, "commit")]
    const aborted = how === "aborted" ? [{ producerId: 7n, firstOffset: 1n }] : []
    const seen: Array<bigint> = []
    for (let position = 0n, isWhole = false; !isWhole;) {
      const piece = now(decode(batches, { aborted, most: 1, position }))
      assert.isAtMost(piece.records.length, 1)
      seen.push(...offsets(piece.records))
      ;({ isWhole, next: position } = piece)
      if (isWhole) assert.strictEqual(position, 7n)
    }
    assert.deepStrictEqual(seen, [...expected])
  })

  const Producer = Schema.Literals([1, 2])
  const Written = Schema.Struct({
    what: Schema.Literals(["data", "data", "data", "plain", "commit", "abort", "compacted"]),
    producer: Producer,
    records: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
    codec: Schema.Literals([0, 0, 4])
  })
  const Pieces = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2500 })))

  it.effect.prop(
    "cut anywhere, the pieces are the whole, whether the rest is of the same answer or of another",
    [Schema.Array(Written).check(Schema.isMaxLength(30)), Pieces, Schema.Boolean],
    ([log, pieces, isFetchedAgain]) =>
      Effect.promise(async () => {
        const written: Array<{ readonly last: bigint; readonly batch: Buffer }> = []
        const aborted: Array<{ producerId: bigint; firstOffset: bigint; lastOffset: bigint }> = []
        const open = new Map<bigint, { first: bigint; readonly offsets: Array<bigint> }>()
        const expected: Array<bigint> = []
        let base = 0n
        for (const { codec, producer: id, records, what } of log) {
          const producer = BigInt(id)
          let size = records
          if (what === "commit" || what === "abort") {
            size = 1
            const transaction = open.get(producer)
            open.delete(producer)
            if (what === "commit") expected.push(...(transaction?.offsets ?? []))
            else if (transaction !== undefined) {
              aborted.push({ producerId: producer, firstOffset: transaction.first, lastOffset: base })
            }
            written.push({ last: base, batch: marker(base, producer, what) })
          } else {
            const left = what === "compacted" ? 0 : records
            const own = Array.from({ length: left }, (_, i) => base + BigInt(i))
            if (what === "plain") expected.push(...own)
            else {
              const transaction = open.get(producer) ?? { first: base, offsets: [] }
              open.set(producer, transaction)
              transaction.offsets.push(...own)
            }
            const batch = encodeBatch({
              base,
              last: records - 1,
              producer,
              attributes: codec | (what === "plain" ? 0 : transactional),
              ...(codec === 0 ? {} : { compress: zlib.zstdCompressSync }),
              records: own.map((_, delta) => ({ delta, value: "x".repeat(300) }))
            })
            written.push({ last: base + BigInt(records - 1), batch })
          }
          base += BigInt(size)
        }
        // what is still open is behind the last stable offset, and would not be there; here it counts as committed
        for (const { offsets: own } of open.values()) expected.push(...own)
        expected.sort((a, b) => (a < b ? -1 : 1))

        /** As a broker answers: from the batch of the position on, with the aborted transactions that reach into it. */
        const answer = (from: bigint) => ({
          batches: Buffer.concat(written.filter(({ last }) => last >= from).map(({ batch }) => batch)),
          aborted: aborted.filter(({ lastOffset }) => lastOffset >= from)
        })
        const seen: Array<bigint> = []
        let position = 0n
        let from = answer(0n)
        let isWhole = false
        for (let turns = 0; !isWhole; turns++) {
          assert.isBelow(turns, 100, "it does not come forward")
          const most = pieces[turns] ?? Infinity
          const piece = await decode([], { ...from, most, position })
          seen.push(...offsets(piece.records))
          if (!piece.isWhole) assert.isAbove(Number(piece.next), Number(position))
          position = piece.next
          isWhole = piece.isWhole
          if (isFetchedAgain) from = answer(position)
        }
        assert.deepStrictEqual(seen, expected)
        assert.strictEqual(position, base)
      })
  )
})

describe("bytes that are no batch", () => {
  const good = encodeBatch({ base: 0n, last: 1, records: [{ delta: 0, key: "k", value: "secret" }, { delta: 1 }] })
  const changed = (at: number, value: number) => {
    const copy = Buffer.from(good)
    copy[at] = value
    return copy
  }

  it.each([
    ["an older message format", changed(16, 1)],
    ["a length below the header's", changed(11, 3)],
    ["a record longer than the batch", changed(61, 0xfe)],
    ["a key longer than its record", changed(65, 0x7e)],
    ["more records than there are bytes", changed(60, 9)],
    ["fewer records than it has", changed(60, 1)],
    ["fewer records than none", changed(57, 0xff)]
  ])("%s is refused, with its place and without its content", (_, batch) => {
    const error = refused(() => decode([batch]))
    assert.strictEqual(error.reason, "CorruptData")
    assert.include(error.detail, "offset 0 of t/3")
    assert.notInclude(`${error.detail} ${String(error.cause)}`, "secret")
  })

  it("a marker that ends before it says whose transaction it ends is refused like a record", () => {
    const empty = encodeBatch({ base: 0n, last: 0, producer: 1n, attributes: transactional | control, records: [] })
    const error = refused(() => decode([empty], { aborted: [{ producerId: 1n, firstOffset: 0n }] }))
    assert.strictEqual(error.reason, "CorruptData")
    assert.include(error.detail, "offset 0 of t/3")
  })
})

describe("a batch that was changed on its way", () => {
  const batches = [3n, 5n, 6n].map((base) =>
    encodeBatch({ base, last: 0, records: [{ delta: 0, key: "k", value: "some value" }] })
  )
  const whole = Buffer.concat(batches)

  it("is found by its checksum, whichever bit it was, and none that was not is", () => {
    assert.isUndefined(damagedBatch(whole))
    const second = batches[0]!.length
    // what the checksum is of, and the checksum
    for (let at = second + 17; at < second + batches[1]!.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const copy = Buffer.from(whole)
        copy[at]! ^= 1 << bit
        const found = { offset: 5n, what: "a wrong checksum" }
        assert.deepStrictEqual(damagedBatch(copy), found, `bit ${bit} of byte ${at - second}`)
      }
    }
  })

  it("is found by its format, which the checksum does not cover", () => {
    const second = batches[0]!.length
    for (let bit = 0; bit < 8; bit++) {
      const copy = Buffer.from(whole)
      copy[second + 16]! ^= 1 << bit
      const format = copy.readInt8(second + 16)
      assert.deepStrictEqual(damagedBatch(copy), { offset: 5n, what: `message format ${format}, which is none` })
    }
  })

  it("is found by its length, wherever that ends before the batch", () => {
    const second = batches[0]!.length
    const lengths = [...Array(batches[1]!.length - 12).keys(), -1, -12, -2_000_000]
    for (const length of lengths) {
      const copy = Buffer.from(whole)
      copy.writeInt32BE(length, second + 8)
      const what = length < 49 ? "a wrong length" : "a wrong checksum"
      assert.deepStrictEqual(damagedBatch(copy), { offset: 5n, what }, `length ${length}`)
    }
  })

  it("is not found where the answer was cut behind the first batch", () => {
    for (let length = batches[0]!.length; length < whole.length; length++) {
      assert.isUndefined(damagedBatch(whole.subarray(0, length)))
    }
  })

  it("is found by the length of the first batch when that goes on behind the answer: brokers cut none of those", () => {
    const found = { offset: 3n, what: "no end within the answer" }
    for (let length = 17; length < batches[0]!.length; length++) {
      assert.deepStrictEqual(damagedBatch(whole.subarray(0, length)), found, `${length} bytes`)
    }
    const copy = Buffer.from(whole)
    for (const length of [whole.length - 11, 1_000_000, 0x7fff_ffff]) {
      copy.writeInt32BE(length, 8)
      assert.deepStrictEqual(damagedBatch(copy), found, `length ${length}`)
    }
    // less than a batch begins with tells nothing
    for (let length = 0; length < 17; length++) assert.isUndefined(damagedBatch(whole.subarray(0, length)))
  })
})

describe("messages of the formats before Kafka 0.11", () => {
  /** As the protocol's text has them: no record batch, each with a checksum of its own. */
  const message = (offset: bigint, magic: 0 | 1, value: string): Buffer => {
    const time = magic === 1 ? Buffer.from("0000018bcfe56800", "hex") : Buffer.alloc(0)
    const lengths = Buffer.from([255, 255, 255, 255, 0, 0, 0, value.length])
    const covered = Buffer.concat([Buffer.from([magic, 0]), time, lengths, Buffer.from(value)])
    const head = Buffer.alloc(16)
    head.writeBigInt64BE(offset, 0)
    head.writeInt32BE(4 + covered.length, 8)
    head.writeUInt32BE(zlib.crc32(covered), 12)
    return Buffer.concat([head, covered])
  }

  it.each([
    ["0", [message(7n, 0, "some value"), message(8n, 0, "another one that is longer than the first")]],
    ["1", [message(7n, 1, "some value"), message(8n, 1, "another one that is longer than the first")]],
    ["0", [message(7n, 0, "")]]
  ] as const)("are no damage, and refused by what they are (%s)", (format, messages) => {
    assert.isUndefined(damagedBatch(Buffer.concat(messages)))
    const error = refused(() => decode(messages))
    assert.strictEqual(error.reason, "CorruptData")
    assert.include(error.detail, `the batch at offset 7 of t/3 has message format ${format}`)
  })

  it("are damaged like others", () => {
    const good = message(7n, 1, "some value")
    for (let at = 12; at < good.length; at++) {
      const copy = Buffer.from(good)
      copy[at]! ^= 4
      assert.strictEqual(damagedBatch(copy)?.offset, 7n, `byte ${at}`)
    }
  })
})

describe("the answer to a fetch", () => {
  it("is read in all versions that kafkajs asks with", () => {
    for (let version = 4; version <= 11; version++) {
      const int16 = (n: number) => Buffer.from([(n >> 8) & 255, n & 255])
      const int32 = (n: number) => {
        const b = Buffer.alloc(4)
        b.writeInt32BE(n)
        return b
      }
      const int64 = (n: bigint) => {
        const b = Buffer.alloc(8)
        b.writeBigInt64BE(n)
        return b
      }
      const partition = (id: number, code: number, aborted: ReadonlyArray<Buffer>, batches: string) => [
        int32(id),
        int16(code),
        int64(100n),
        int64(90n),
        ...(version >= 5 ? [int64(1n)] : []),
        aborted.length === 0 ? int32(-1) : int32(aborted.length / 2),
        ...aborted,
        ...(version >= 11 ? [int32(-1)] : []),
        int32(batches.length),
        Buffer.from(batches)
      ]
      const payload = Buffer.concat([
        int32(17),
        ...(version >= 7 ? [int16(0), int32(0)] : []),
        int32(2),
        int16(1),
        Buffer.from("t"),
        int32(2),
        ...partition(0, 0, [int64(5n), int64(6n)], "abc"),
        ...partition(1, 3, [], ""),
        int16(2),
        Buffer.from("uu"),
        int32(1),
        ...partition(9, 0, [], "d")
      ])
      const fetched = decodeFetch(payload, version)
      assert.strictEqual(fetched.clientSideThrottleTime, version >= 8 ? 17 : 0)
      assert.deepStrictEqual(
        fetched.partitions.map((p) => ({ ...p, batches: p.batches.toString() })),
        [
          {
            topic: "t",
            partition: 0,
            errorCode: 0,
            highWatermark: 100n,
            lastStable: 90n,
            aborted: [{ producerId: 5n, firstOffset: 6n }],
            batches: "abc"
          },
          { topic: "t", partition: 1, errorCode: 3, highWatermark: 100n, lastStable: 90n, aborted: [], batches: "" },
          { topic: "uu", partition: 9, errorCode: 0, highWatermark: 100n, lastStable: 90n, aborted: [], batches: "d" }
        ]
      )
    }
  })
})
