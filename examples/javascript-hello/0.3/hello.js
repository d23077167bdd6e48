// Greets whoever connects: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty one.

// The peer must not decide how much memory a guest uses: of a longer line only the beginning counts.
const LONGEST_LINE = 4096;

export const handler = {
  async handleRequest(connection, input) {
    return greet(connection, input);
  },
};

// What a generator yields is what the peer gets, and its end closes the connection.
async function* greet(connection, input) {
  let line = "";
  for await (const bytes of input) {
    line += fromBytes(bytes);
    if (line.includes("\n") || line.length >= LONGEST_LINE) break;
  }
  if (!line.includes("\n") && line.length < LONGEST_LINE) {
    // A stream that ends does not tell whether the peer ended it or the connection broke.
    const end = await connection.inputEnd().read();
    if (end.tag === "err") return connection.fail(`input broke: ${end.val}`);
  }
  const name = line.slice(0, LONGEST_LINE).split("\n")[0].replace(/^[ \t\r]+|[ \t\r]+$/g, "");
  yield toBytes(`Hello ${name || "world"}!\n`);
}

// A name need not be UTF-8, and QuickJS has no TextDecoder: a character stands for each byte.
const fromBytes = (bytes) => String.fromCharCode(...bytes);
const toBytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
