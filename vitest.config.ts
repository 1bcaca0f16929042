import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const brokerTests = [
  "packages/*/test/**/*.broker.test.ts",
  "examples/*/test/**/*.broker.test.ts",
  "test/**/*.broker.test.ts"
]
/** They wait for what a browser shows: by themselves, so that other tests do not take its time. */
const browserTests = ["test/browser/**/*.test.ts"]
/** They compare rates and times: side by side with others on two cores they would measure those. */
const measuringTests = ["commits", "longHandlers", "rebalance", "shutdown", "thousandPartitions"].map(
  (name) => `test/integration/${name}.broker.test.ts`
)

/**
 * They take longer than others: begun last they would be waited for alone. Beside those that wait for a broker to come back, those
 * that work are begun one after another, so that they do not make each other late.
 */
const longest = [
  "packages/kafkajs/test/outage.broker",
  "packages/platformatic/test/outage.broker",
  "test/kafka/kafka.broker",
  "test/integration/outage.broker",
  "packages/cli/test/redrive.broker",
  "test/integration/parallelConsumer.broker",
  "packages/platformatic/test/groupProtocol.broker",
  // of those without a broker the ones that wait
  "packages/testing/test/contract",
  "packages/observability/test/loopWatch"
]

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = longest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`))
      return at < 0 ? longest.length : at
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

const onKafka = {
  globalSetup: ["test/kafka/globalSetup.ts"],
  testTimeout: 60_000,
  hookTimeout: 60_000
}

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts", "test/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...brokerTests, ...browserTests],
          // more than a slow machine needs: the longest takes a second or two, and the default of 5 s has ended it under load
          testTimeout: 60_000,
          // of two cores it would use one
          maxWorkers: 2,
          // loading effect anew for each of a hundred files takes a third of the time; nothing here changes what is global
          isolate: false
        }
      },
      {
        test: {
          ...onKafka,
          name: "broker",
          include: brokerTests,
          exclude: ["**/node_modules/**", ...measuringTests],
          // they wait more than they work: for sessions to end, for brokers to come back
          maxWorkers: 4,
          // as above
          isolate: false
        }
      },
      {
        test: {
          name: "browser",
          include: browserTests,
          exclude: ["**/node_modules/**"],
          testTimeout: 60_000,
          hookTimeout: 60_000
        }
      },
      {
        test: {
          ...onKafka,
          name: "measuring",
          include: measuringTests,
          exclude: ["**/node_modules/**"],
          fileParallelism: false
        }
      }
    ],
    sequence: { sequencer: LongestFirst },
    coverage: {
      provider: "v8",
      include: ["packages/core/src/**/*.ts"],
      reporter: ["text-summary", "json-summary", "html"],
      thresholds: { branches: 90 }
    }
  }
})
