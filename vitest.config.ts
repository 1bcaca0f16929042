import { defineConfig } from "vitest/config"

const brokerTests = [
  "packages/*/test/**/*.broker.test.ts",
  "examples/*/test/**/*.broker.test.ts",
  "test/**/*.broker.test.ts"
]

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts", "test/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...brokerTests]
        }
      },
      {
        test: {
          name: "broker",
          include: brokerTests,
          exclude: ["**/node_modules/**"],
          globalSetup: ["test/kafka/globalSetup.ts"],
          // the files share one Kafka and two cores: side by side they would only make each other late
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000
        }
      }
    ],
    coverage: {
      provider: "v8",
      include: ["packages/core/src/**/*.ts"],
      reporter: ["text-summary", "json-summary", "html"],
      thresholds: { branches: 90 }
    }
  }
})
