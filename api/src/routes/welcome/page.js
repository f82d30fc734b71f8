"use strict";
const at = (id) => document.getElementById(id);
const code = location.hash.slice(1);

function fail(text) {
  at("problem").textContent = text;
  at("problem").hidden = false;
}

async function reveal() {
  at("show").disabled = true;
  at("problem").hidden = true;
  try {
    const answer = await fetch("/api/v1/welcome/key", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
    });
    const body = await answer.json();
    if (answer.ok) {
      at("partner").textContent = body.data.partnerId;
      at("key").textContent = body.data.apiKey;
      at("ask").hidden = true;
      at("shown").hidden = false;
      history.replaceState(null, "", location.pathname);
      return;
    }
    if (answer.status === 400) {
      fail("This link does not work any more: it was used, or its seven days are over. " +
        "Ask whoever looks after you for another key.");
      return;
    }
    fail("That did not work. Try again in a minute.");
  } catch {
    fail("The server cannot be reached. Try again in a minute.");
  }
  at("show").disabled = false;
}

at("show").addEventListener("click", reveal);
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(at("key").textContent);
  at("copy").textContent = "Copied";
});
if (!code) {
  at("ask").hidden = true;
  fail("The link is not complete: open it as it stands in the mail.");
}
