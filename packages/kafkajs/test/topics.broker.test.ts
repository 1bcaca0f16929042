import { topics } from "../../driver/test/suites/topics.ts"
import { client } from "./client.ts"

topics(client)
