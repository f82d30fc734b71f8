// What is asked and what is answered: Fastify checks the one with Ajv and writes the other by a compiled serializer.
const percent = { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?$" };
const followers = { type: "integer", minimum: 0, maximum: 4_294_967_295 };
const text = { type: "string" };

export const querystring = {
  type: "object",
  additionalProperties: false,
  properties: {
    category: { enum: ["beauty", "tech", "lifestyle", "food", "travel", "gaming"] },
    platform: { enum: ["tiktok", "youtube", "instagram", "facebook"] },
    minFollowers: followers,
    maxFollowers: followers,
    minEngagement: percent,
    maxEngagement: percent,
    minScore: { type: "integer", minimum: 0, maximum: 100 },
    sort: {
      enum: ["score", "-score", "followers", "-followers", "engagement", "-engagement"],
      default: "-score",
    },
    limit: { type: "integer", minimum: 1, maximum: 100, default: 20 },
    offset: { type: "integer", minimum: 0, maximum: 10_000, default: 0 },
    cursor: { type: "string", maxLength: 1_024 },
  },
};

const preview = {
  type: "object",
  properties: {
    id: text,
    platform: text,
    username: text,
    displayName: text,
    avatarUrl: { type: ["string", "null"] },
    followers: { type: "integer" },
    category: { type: ["string", "null"] },
    tier: text,
    score: { type: "integer" },
    previewOnly: { type: "boolean" },
  },
};

export const answer = {
  type: "object",
  properties: {
    success: { type: "boolean" },
    data: { type: "array", items: preview },
    pagination: {
      type: "object",
      properties: {
        total: { type: "integer" },
        totalIsEstimate: { type: "boolean" },
        limit: { type: "integer" },
        offset: { type: "integer" },
        hasMore: { type: "boolean" },
        nextCursor: { type: ["string", "null"] },
      },
    },
  },
};
