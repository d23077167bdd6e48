// Answers `GET /?name=bob` with `Hello bob!`, and sends back what is posted, a piece at a time.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  if (request.method === "POST") return new Response(request.body);
  const name = new URL(request.url).searchParams.get("name") ?? "world";
  return new Response(`Hello ${name}!\n`, { headers: { "content-type": "text/plain" } });
}
