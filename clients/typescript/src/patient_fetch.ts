/** `fetch` with a deadline for the whole call, and few retries of what may be asked again without harm. */

import { DeadlinePassed, Unreachable } from "./errors.js";
import { type Policy, jitterMs, retryAfterMs } from "./policy.js";

export const TIMEOUT_HEADER = "X-Request-Timeout-Ms";
const MOST_TIMEOUT_MS = 600_000;

/** How an attempt ended: with a response, or with the error to throw; and the rest before another try, if one is safe. */
interface Ending {
  response?: Response;
  error?: unknown;
  restMs?: number | undefined;
}

/**
 * A `fetch` that keeps to `policy`. A request's own `X-Request-Timeout-Ms` is its deadline, and each attempt says what is
 * left of it. Bodies are read to their end before it returns, so the deadline holds for them, too. It throws
 * `DeadlinePassed`, `Unreachable`, or the reason of the request's own signal.
 */
export function patientFetch(policy: Policy): (request: Request) => Promise<Response> {
  return async (request) => {
    const timeoutMs = Number(request.headers.get(TIMEOUT_HEADER) ?? policy.timeoutMs);
    const dueAt = performance.now() + timeoutMs;
    policy.budget.earn();
    for (let attempts = 1; ; attempts++) {
      const remainingMs = dueAt - performance.now();
      if (remainingMs <= 0) throw late(timeoutMs);
      const ending = await attempt(request, remainingMs, timeoutMs);
      if (ending.restMs === undefined || attempts > policy.retries) return settle(ending);
      const restMs = ending.restMs + jitterMs(policy, attempts);
      if (performance.now() + restMs >= dueAt || !policy.budget.spend()) return settle(ending);
      await new Promise((resolve) => setTimeout(resolve, restMs));
      request.signal.throwIfAborted();
    }
  };
}

async function attempt(request: Request, remainingMs: number, timeoutMs: number): Promise<Ending> {
  const headers = new Headers(request.headers);
  headers.set(TIMEOUT_HEADER, String(Math.min(MOST_TIMEOUT_MS, Math.max(1, Math.floor(remainingMs)))));
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(Math.ceil(remainingMs))]);
  let begun = false;
  try {
    const answer = await fetch(request.clone(), { headers, signal });
    begun = true;
    const body = await answer.arrayBuffer();
    const response = new Response(body.byteLength ? body : null, answer);
    return { response, restMs: answer.status === 503 ? retryAfterMs(answer.headers.get("Retry-After")) : undefined };
  } catch (error) {
    if (request.signal.aborted) return { error: request.signal.reason };
    if (signal.aborted) return { error: late(timeoutMs) };
    const unreachable = new Unreachable(`${request.url}: ${cause(error)}`, undefined, { cause: error });
    return { error: unreachable, restMs: begun ? undefined : 0 };
  }
}

function settle(ending: Ending): Response {
  if (ending.response) return ending.response;
  throw ending.error;
}

function late(timeoutMs: number): DeadlinePassed {
  return new DeadlinePassed(`there was no answer within ${timeoutMs} ms`);
}

/** The system's own word for it: of a fetch that failed, Node says only that in the message. */
function cause(error: unknown): string {
  const inner = error instanceof Error ? (error.cause ?? error) : error;
  return inner instanceof Error ? inner.message || inner.name : String(inner);
}
