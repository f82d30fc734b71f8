// The peer: pool search as a Fastify service with Prisma would serve it, answering as Millpond does. See README.md.
import cluster from "node:cluster";
import { createHash, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./generated/index.js";
import { querystring, answer } from "./schemas.mjs";

const PROCESSES = Number(process.env.PEER_PROCESSES ?? 2);
const CONNECTIONS = Number(process.env.PEER_CONNECTIONS ?? 20) / PROCESSES;
const KEY_CACHE_MS = 2_000;
const TOTAL_EXACT_MAX = 10_000;
const CURSOR_VERSION = 3;

if (cluster.isPrimary) {
  let listening = 0;
  for (let i = 0; i < PROCESSES; i++) cluster.fork();
  cluster.on("listening", (_, address) => {
    if (++listening === PROCESSES) console.log(`ready port=${address.port}`);
  });
  cluster.on("exit", () => process.exit(1));
  // It ends with whoever started it.
  process.stdin.on("end", () => process.exit(0)).resume();
} else {
  await serve();
}

async function serve() {
  const adapter = new PrismaPg({ connectionString: address(), max: CONNECTIONS });
  const prisma = new PrismaClient({ adapter });
  const app = Fastify({ logger: false });
  app.addHook("onRequest", admission(prisma));
  app.get("/api/v1/partners/pool/search", { schema: { querystring, response: { 200: answer } } }, (request) =>
    search(prisma, request.query, request.headers["x-peer-total"] === "bounded"),
  );
  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 1024 });
}

/** Without what other clients say in it: node-postgres takes `sslmode=prefer`, which may do without TLS, for `require`. */
function address() {
  const url = new URL(process.env.DATABASE_URL);
  url.search = "";
  return url.toString();
}

/** Who calls, and how often in this clock minute. Credentials that were right are remembered as long as Millpond does. */
function admission(prisma) {
  const known = new Map();
  const windows = new Map();
  return async (request, reply) => {
    const { "x-partner-id": code, "x-api-key": key } = request.headers;
    if (!code || !key) return refuse(reply, 401, "UNAUTHORIZED");
    const name = `${code}\0${key}`;
    const now = Date.now();
    let caller = known.get(name);
    if (!caller || caller.until < now) {
      caller = await authenticate(prisma, code, key, now);
      if (!caller) return refuse(reply, 401, "UNAUTHORIZED");
      known.set(name, caller);
    }
    const minute = Math.floor(now / 60_000);
    let window = windows.get(code);
    if (window?.minute !== minute) windows.set(code, (window = { minute, used: 0 }));
    if (++window.used > caller.limit) return refuse(reply, 429, "RATE_LIMITED");
  };
}

async function authenticate(prisma, code, key, now) {
  const hash = createHash("sha256").update(key).digest();
  const partner = await prisma.partner.findUnique({
    where: { code },
    include: { subscription: true, keys: { where: { revokedAt: null } } },
  });
  const works = (one) => (!one.expiresAt || one.expiresAt > now) && timingSafeEqual(one.secretHash, hash);
  if (!partner?.isActive || partner.subscription?.status !== "active" || !partner.keys.some(works)) return null;
  return { limit: partner.rateLimitPerMinute, until: now + KEY_CACHE_MS };
}

function refuse(reply, status, code) {
  return reply.status(status).send({ success: false, error: { code, message: code } });
}

const shown = {
  id: true,
  platform: true,
  username: true,
  displayName: true,
  avatarUrl: true,
  followers: true,
  category: true,
  tier: true,
  score: true,
  engagement: true,
};

async function search(prisma, query, isBounded) {
  const { limit, offset } = query;
  const descending = query.sort.startsWith("-");
  const key = descending ? query.sort.slice(1) : query.sort;
  const where = filter(query);
  // With `take`, Prisma counts the rows of a limited subquery: no more than are told exactly are looked at.
  const counted = isBounded ? { where, take: TOTAL_EXACT_MAX + 1 } : { where };
  const [total, rows] = await Promise.all([
    prisma.influencer.count(counted),
    prisma.influencer.findMany({
      where: query.cursor ? { AND: [where, after(query.cursor, key, descending)] } : where,
      orderBy: order(key, descending).map(([field, direction]) => ({ [field]: direction })),
      skip: offset,
      take: limit + 1,
      select: shown,
    }),
  ]);
  const hasMore = rows.length > limit;
  if (hasMore) rows.pop();
  return {
    success: true,
    data: rows.map(preview),
    pagination: {
      total,
      totalIsEstimate: total > TOTAL_EXACT_MAX ? true : undefined,
      limit,
      offset,
      hasMore,
      nextCursor: hasMore ? cursor(rows[rows.length - 1]) : null,
    },
  };
}

function filter(query) {
  const where = { visibility: "PUBLIC", deletedAt: null };
  if (query.platform) where.platform = query.platform;
  if (query.category) where.category = query.category;
  const bounds = (field, gte, lte) => {
    if (gte !== undefined || lte !== undefined) where[field] = { gte, lte };
  };
  bounds("followers", query.minFollowers, query.maxFollowers);
  bounds("engagement", query.minEngagement, query.maxEngagement);
  bounds("score", query.minScore, undefined);
  return where;
}

/** Whoever is equal in the key goes by score, then followers, then id; ascending is the exact reverse. */
function order(key, descending) {
  const fields = [...new Set([key, "score", "followers"])].map((field) => [field, descending ? "desc" : "asc"]);
  return [...fields, ["id", descending ? "asc" : "desc"]];
}

/** What comes after a place in an order. */
function after(text, key, descending) {
  const bytes = Buffer.from(text, "base64url");
  const [score, followers, engagement, id] = JSON.parse(bytes.subarray(1).toString());
  const place = { score, followers, engagement: (engagement / 10_000).toFixed(4), id };
  const equal = {};
  const steps = order(key, descending).map(([field, direction]) => {
    const step = { ...equal, [field]: { [direction === "desc" ? "lt" : "gt"]: place[field] } };
    equal[field] = place[field];
    return step;
  });
  return { OR: steps };
}

function cursor(row) {
  const engagement = Math.round(Number(row.engagement) * 10_000);
  const fields = JSON.stringify([row.score, Number(row.followers), engagement, row.id, 0]);
  return Buffer.concat([Buffer.from([CURSOR_VERSION]), Buffer.from(fields)]).toString("base64url");
}

function preview(row) {
  return {
    id: influencerId(row.id),
    platform: row.platform,
    username: row.username,
    displayName: row.displayName,
    avatarUrl: row.avatarUrl,
    followers: Number(row.followers),
    category: row.category,
    tier: row.tier.toLowerCase(),
    score: row.score,
    previewOnly: true,
  };
}

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/** A TypeID: 128 bits as 26 characters of five bits, the first of three. */
function influencerId(uuid) {
  const bytes = Buffer.from(uuid.replaceAll("-", ""), "hex");
  let text = "at_inf_";
  // Two bits of nothing stand before the first byte.
  let [value, bits] = [0, 2];
  for (const byte of bytes) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(value >> (bits - 5)) & 31];
    value &= (1 << bits) - 1;
  }
  return text;
}
