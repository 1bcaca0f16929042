export { onKafka, type OnKafka } from "../../driver/test/harness.ts"
