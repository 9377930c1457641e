/** When a call is tried again: arithmetic alone. The Python client has the same, and says where it comes from. */

/** A bucket of retries that calls fill: in any stretch of n calls at most `share * n + spare` retries. */
export class RetryBudget {
  #retries: number;

  constructor(
    readonly share = 0.1,
    readonly spare = 10,
  ) {
    this.#retries = spare;
  }

  /** Note a call, before its first attempt. */
  earn(): void {
    this.#retries = Math.min(this.spare, this.#retries + this.share);
  }

  /** Take a retry, if there is one. */
  spend(): boolean {
    if (this.#retries < 1) return false;
    this.#retries -= 1;
    return true;
  }
}

/** What all calls of a client share. `timeoutMs` is for a whole call, and `retries` the most that one call makes. */
export interface Policy {
  timeoutMs: number;
  retries: number;
  backoffMs: number;
  mostBackoffMs: number;
  budget: RetryBudget;
  chance: () => number;
}

export function policyOf(given: Partial<Policy>): Policy {
  const usual = { timeoutMs: 1_000, retries: 1, backoffMs: 20, mostBackoffMs: 1_000, chance: Math.random };
  return { ...usual, budget: new RetryBudget(), ...given };
}

/** Full jitter: a rest from 0 to a ceiling that doubles. `retry` counts from 1. */
export function jitterMs(policy: Policy, retry: number): number {
  return policy.chance() * Math.min(policy.mostBackoffMs, policy.backoffMs * 2 ** (retry - 1));
}

/** What `Retry-After` asks for, seconds or a date; undefined where there is none that can be read. */
export function retryAfterMs(text: string | null, now = Date.now()): number | undefined {
  if (text === null) return undefined;
  if (/^[0-9]+$/.test(text)) return 1e3 * Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
