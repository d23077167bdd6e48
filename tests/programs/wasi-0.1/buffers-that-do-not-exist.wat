;; Buffers are checked before anything is read or written: what is wrong with them costs no byte of the input.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; Ends with the number of the step that came out otherwise.
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
    ;; Two whose lengths together have no number: EINVAL.
    (call $buffer (i32.const 64) (i32.const 1))
    (i32.store (i32.const 8) (i32.const 64))
    (i32.store (i32.const 12) (i32.const -1))
    (call $is (i32.const 3) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 32)) (i32.const 28))
    (call $is (i32.const 4) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 32)) (i32.const 28))
    ;; More of them than a call takes, and a list of them beyond the memory.
    (call $is (i32.const 5) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 32)) (i32.const 28))
    (call $is (i32.const 6) (call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 32)) (i32.const 21))
    ;; No place for the result.
    (call $buffer (i32.const 128) (i32.const 3))
    (call $is (i32.const 7) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 65533)) (i32.const 21))
    (call $is (i32.const 8) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 65533)) (i32.const 21))
    ;; Nothing at all is read at once, and is no end.
    (call $is (i32.const 9) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 10) (i32.load (i32.const 32)) (i32.const 0))
    ;; The input is whole, and fills one buffer after the other.
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
    ;; The end, as often as it is asked for.
    (call $buffer (i32.const 128) (i32.const 2))
    (call $is (i32.const 15) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0))
    (call $is (i32.const 16) (i32.load (i32.const 32)) (i32.const 0))
    (call $is (i32.const 17) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0))
    ;; One is for reading, the other for writing.
    (call $is (i32.const 18) (call $fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))
    (call $is (i32.const 19) (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))
    (call $is (i32.const 20) (call $fd_read (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 8))))
