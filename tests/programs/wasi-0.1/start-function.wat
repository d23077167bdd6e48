;; A module may call the host before its start, where the call needs nothing but its memory.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  ;; Ends with the number of the step that came out otherwise.
  (func $is (param $step i32) (param $found i32) (param $expected i32)
    (if (i32.ne (local.get $found) (local.get $expected)) (then (call $exit (local.get $step)))))

  (data (i32.const 8) "\20\00\00\00\06\00\00\00")
  (data (i32.const 32) "early\n")
  (func $early
    (call $is (i32.const 1) (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)) (i32.const 0)))
  (start $early)
  (func (export "_start")
    (call $is (i32.const 2) (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)) (i32.const 0))))
