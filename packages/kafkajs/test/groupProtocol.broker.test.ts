import { consumerProtocol } from "../../driver/test/suites/consumerProtocol.ts"
import { client } from "./client.ts"

consumerProtocol(client)
