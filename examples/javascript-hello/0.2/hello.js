// Greets whoever connects: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty one.

// The peer must not decide how much memory a guest uses: of a longer line only the beginning counts.
const LONGEST_LINE = 4096;
// `blockingWriteAndFlush` takes no more than this a call, and the server ends a guest that exceeds it.
const MOST_IN_ONE_WRITE = 4096;

export const handler = {
  handleRequest(connection, input, output) {
    const greeting = toBytes(`Hello ${readName(input) || "world"}!\n`);
    for (let start = 0; start < greeting.length; start += MOST_IN_ONE_WRITE) {
      output.blockingWriteAndFlush(greeting.subarray(start, start + MOST_IN_ONE_WRITE));
    }
  },
};

function readName(input) {
  let line = "";
  while (!line.includes("\n") && line.length < LONGEST_LINE) {
    try {
      line += fromBytes(input.blockingRead(LONGEST_LINE - line.length));
    } catch (error) {
      if (error.tag !== "closed") throw error;
      break;
    }
  }
  return line.split("\n")[0].replace(/^[ \t\r]+|[ \t\r]+$/g, "");
}

// A name need not be UTF-8, and QuickJS has no TextDecoder: a character stands for each byte.
const fromBytes = (bytes) => String.fromCharCode(...bytes);
const toBytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
