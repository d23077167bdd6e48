;; Buffers are checked before any byte is read or written: an invalid buffer consumes no input.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; Exits with the number of the step that failed.
  (func $is (param $step i32) (param $found i32) (param $expected i32)
    (if (i32.ne (local.get $found) (local.get $expected)) (then (call $exit (local.get $step)))))

  (data (i32.const 64) "out")
  ;; A list of one buffer at 0.
  (func $buffer (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length)))
  (func (export "_start")
    (call $buffer (i32.const 65530) (i32.const 7))
    (call $is (i32.const 1) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 21))
    (call $is (i32.const 2) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 21))
    ;; Two buffers whose total length overflows: EINVAL.
    (call $buffer (i32.const 64) (i32.const 1))
    (i32.store (i32.const 8) (i32.const 64))
    (i32.store (i32.const 12) (i32.const -1))
    (call $is (i32.const 3) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 32)) (i32.const 28))
    (call $is (i32.const 4) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 32)) (i32.const 28))
    ;; More buffers than a call takes, and a list of them beyond the memory.
    (call $is (i32.const 5) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 32)) (i32.const 28))
    (call $is (i32.const 6) (call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 32)) (i32.const 21))
    ;; The result would lie beyond the memory.
    (call $buffer (i32.const 128) (i32.const 3))
    (call $is (i32.const 7) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 65533)) (i32.const 21))
    (call $is (i32.const 8) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 65533)) (i32.const 21))
    ;; A read of zero bytes returns at once, and is not an end.
    (call $is (i32.const 9) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 10) (i32.load (i32.const 32)) (i32.const 0))
    ;; The input is complete, and fills one buffer after the other.
    (call $buffer (i32.const 128) (i32.const 2))
    (i32.store (i32.const 8) (i32.const -1))
    (i32.store (i32.const 12) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 130))
    (i32.store (i32.const 20) (i32.const 100))
    (call $is (i32.const 11) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 12) (i32.load (i32.const 32)) (i32.const 6))
    (i32.store (i32.const 20) (i32.const 4))
    (call $is (i32.const 13) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 14) (i32.load (i32.const 32)) (i32.const 6))
    ;; The end, however often the program reads it.
    (call $buffer (i32.const 128) (i32.const 2))
    (call $is (i32.const 15) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 16) (i32.load (i32.const 32)) (i32.const 0))
    (call $is (i32.const 17) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0))
    ;; Descriptor 0 is for reading, 1 for writing.
    (call $is (i32.const 18) (call $fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))
    (call $is (i32.const 19) (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))
    (call $is (i32.const 20) (call $fd_read (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))))
