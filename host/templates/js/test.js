// Calls the handler without WebAssembly, with streams that stand in for the host's: node --test

import assert from "node:assert";
import test from "node:test";
import { handler } from "./handler.js";

function answer(...pieces) {
  const written = [];
  const input = {
    blockingRead(most) {
      if (pieces.length === 0) throw Object.assign(new Error(), { payload: { tag: "closed" } });
      const piece = Buffer.from(pieces.shift(), "latin1");
      if (piece.length > most) pieces.unshift(piece.subarray(most).toString("latin1"));
      return piece.subarray(0, most);
    },
  };
  const output = {
    blockingWriteAndFlush(bytes) {
      assert.ok(bytes.length <= 4096);
      written.push(...bytes);
    },
  };
  handler.handleRequest({}, input, output);
  return Buffer.from(written).toString("latin1");
}

test("a name is greeted", () => {
  assert.strictEqual(answer("bo", "b\n"), "Hello bob!\n");
  assert.strictEqual(answer("bob"), "Hello bob!\n");
});

test("nobody is the world", () => {
  assert.strictEqual(answer(), "Hello world!\n");
});

test("an endless name is cut", () => {
  assert.strictEqual(answer("x".repeat(100000)).length, 4096 + "Hello !\n".length);
});
