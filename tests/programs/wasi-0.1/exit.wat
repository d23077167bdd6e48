;; The exit status arrives unchanged, from the middle of a program.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  ;; Ends with the number of the step that came out otherwise.
  (func $is (param $step i32) (param $found i32) (param $expected i32)
    (if (i32.ne (local.get $found) (local.get $expected)) (then (call $exit (local.get $step)))))

  (func (export "_start")
    (call $exit (i32.const 77))
    unreachable))
