// Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty
// one.

// The peer must not decide how much memory a guest uses: only the beginning of a longer line
// counts.
const LONGEST_LINE = 4096;

export const handler = {
  async handleRequest(connection, input) {
    return answer(connection, input);
  },
};

// The peer receives the values that a generator yields; its end closes the connection.
async function* answer(connection, input) {
  try {
    yield toBytes(`Hello ${(await readName(connection, input)) || "world"}!\n`);
  } catch (error) {
    // Without this, an exception here would look like an ordinary end.
    connection.fail(String(error));
  }
}

async function readName(connection, input) {
  let line = "";
  for await (const bytes of input) {
    line += fromBytes(bytes.subarray(0, LONGEST_LINE - line.length));
    if (line.includes("\n") || line.length === LONGEST_LINE) return nameIn(line);
  }
  // A stream that ends does not tell whether the peer ended it or the connection broke.
  const end = await connection.inputEnd().read();
  if (end.tag === "err") throw `input broke: ${end.val}`;
  return nameIn(line);
}

const nameIn = (line) => line.split("\n")[0].replace(/^[ \t\r]+|[ \t\r]+$/g, "");

// A name need not be UTF-8, and QuickJS has no TextDecoder: a character stands for each byte.
const fromBytes = (bytes) => String.fromCharCode(...bytes);
const toBytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
