// Greets each peer: `Hello NAME!` for the line that the peer sends, `Hello world!` for an empty
// one.

// The peer must not decide how much memory a guest uses: only the beginning of a longer line
// counts.
const LONGEST_LINE = 4096;
// `blockingWriteAndFlush` takes no more than this a call, and the server ends a guest that exceeds
// it.
const MOST_IN_ONE_WRITE = 4096;

export const handler = {
  handleRequest(connection, input, output) {
    try {
      writeAll(output, toBytes(`Hello ${readName(input) || "world"}!\n`));
    } catch (error) {
      // Throwing a string returns the contract's err(message). Throwing anything else is a trap.
      throw streamError(error) ?? String(error);
    }
  },
};

function readName(input) {
  let line = "";
  while (!line.includes("\n") && line.length < LONGEST_LINE) {
    try {
      line += fromBytes(input.blockingRead(LONGEST_LINE - line.length));
    } catch (error) {
      if (error.payload?.tag !== "closed") throw error;
      break; // the peer sends no more
    }
  }
  return line.split("\n")[0].replace(/^[ \t\r]+|[ \t\r]+$/g, "");
}

function writeAll(output, bytes) {
  for (let start = 0; start < bytes.length; start += MOST_IN_ONE_WRITE) {
    output.blockingWriteAndFlush(bytes.subarray(start, start + MOST_IN_ONE_WRITE));
  }
}

// The text of a failed stream operation, which throws an Error with the stream-error of `wasi:io`
// as its payload.
function streamError({ payload }) {
  if (payload?.tag === "closed") return "the peer has gone away";
  if (payload?.tag === "last-operation-failed") return payload.val.toDebugString();
}

// A name need not be UTF-8, and QuickJS has no TextDecoder: a character stands for each byte.
const fromBytes = (bytes) => String.fromCharCode(...bytes);
const toBytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
