/** Rankings of a Frontrow service: typed from its own OpenAPI document, with a deadline, and an order at all times. */

import createClient, { type Client } from "openapi-fetch";

import { NoRanking, UnreadableAnswer, failure } from "./errors.js";
import { TIMEOUT_HEADER, patientFetch } from "./patient_fetch.js";
import { type Policy, policyOf } from "./policy.js";
import type { components, paths } from "./schema.js";

export * from "./errors.js";
export { type Policy, RetryBudget } from "./policy.js";

export type RankRequest = components["schemas"]["RankRequest"];
export type Candidate = RankRequest["candidates"][number];
export type RankResponse = components["schemas"]["RankResponse"];
export type SentEvent = components["schemas"]["SentEvent"];
export type Receipt = components["schemas"]["Receipt"];

/** `timeoutMs` is for the whole call, retries and rests included. */
export interface RankOptions {
  visitorId?: string;
  priority?: "critical" | "normal" | "sheddable";
  requestId?: string;
  variant?: "control" | "treatment";
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** A ranking, and the revision of the code that made it. */
export type Ranking = RankResponse & { code_version: string };

/** Ids to show, in this order: those of `ranking`, or as they were given where there was none, and then why. */
export interface Order {
  ids: string[];
  degraded: boolean;
  ranking?: Ranking;
  reason?: NoRanking;
}

export class FrontrowClient {
  /** The generated client, for everything else that the service has. */
  readonly api: Client<paths>;

  constructor(url: string, policy: Partial<Policy> = {}) {
    this.api = createClient<paths>({ baseUrl: url, fetch: patientFetch(policyOf(policy)) });
  }

  /** Rank candidates. Throws `NoRanking` or `Rejected`. */
  async rank(body: RankRequest, options: RankOptions = {}): Promise<Ranking> {
    const answer = this.api.POST("/v1/rank", {
      params: { header: headersOf(options) },
      body,
      signal: options.signal ?? null,
    });
    const { data, response } = await success(answer);
    return { ...(data as RankResponse), code_version: response.headers.get("X-Code-Version") ?? "" };
  }

  /** An order to show, at the deadline at the latest: the candidates as given, where no ranking came in time. */
  async order(body: RankRequest, options: RankOptions = {}): Promise<Order> {
    try {
      const ranking = await this.rank(body, options);
      return { ids: ranking.ranking.map((one) => one.id), degraded: ranking.degraded, ranking };
    } catch (reason) {
      if (!(reason instanceof NoRanking)) throw reason;
      const ids = body.candidates.map((one) => (typeof one === "string" ? one : one.id));
      return { ids: ids.slice(0, body.top_k ?? ids.length), degraded: true, reason };
    }
  }

  /** Tell what visitors did. Each event gets a time of its own, by which the service knows what it has already. */
  async sendEvents(events: SentEvent[]): Promise<Receipt> {
    const now = Date.now();
    const answer = this.api.POST("/v1/events", { body: events.map((one) => ({ ...one, at: one.at ?? now })) });
    return (await success(answer)).data as Receipt;
  }
}

/** Who cannot be read is nobody in particular to the service, and might not even be fit for a header. */
const VISITOR_ID = /^[A-Za-z0-9._:@=+-]{1,128}$/;

function headersOf(options: RankOptions): Record<string, string> {
  const headers = {
    "X-Visitor-Id": VISITOR_ID.test(options.visitorId ?? "") ? options.visitorId : undefined,
    "X-Priority": options.priority,
    "X-Request-Id": options.requestId ?? crypto.randomUUID(),
    "X-Variant": options.variant,
    [TIMEOUT_HEADER]: options.timeoutMs?.toString(),
  };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)) as Record<string, string>;
}

/** The answer, if it is one that was asked for. */
async function success<A extends { data?: unknown; error?: unknown; response: Response }>(asked: Promise<A>): Promise<A> {
  try {
    const answer = await asked;
    if (!answer.response.ok) throw failure(answer.response, answer.error);
    if (typeof answer.data !== "object") throw new UnreadableAnswer(`${answer.response.status} without an answer`);
    return answer;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UnreadableAnswer(error.message, undefined, { cause: error });
    throw error;
  }
}
