;; Random numbers of any length, limited only by the memory.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 66)
  ;; Ends with the number of the step that came out otherwise.
  (func $is (param $step i32) (param $found i32) (param $expected i32)
    (if (i32.ne (local.get $found) (local.get $expected)) (then (call $exit (local.get $step)))))

  (func (export "_start") (local $at i32) (local $zeros i32)
    (call $is (i32.const 1) (call $random_get (i32.const 65536) (i32.const 4194304)) (i32.const 0))
    ;; 1 MiB of random words: hardly any may be zero.
    (local.set $at (i32.const 65536))
    (loop $next
      (local.set $zeros (i32.add (local.get $zeros) (i32.eqz (i32.load (local.get $at)))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 64))) (i32.const 4259840))))
    (call $is (i32.const 2) (i32.lt_u (local.get $zeros) (i32.const 3)) (i32.const 1))
    ;; The bytes around it are unchanged.
    (call $is (i32.const 3) (i32.load (i32.const 65532)) (i32.const 0))
    (call $is (i32.const 4) (i32.load (i32.const 4259840)) (i32.const 0))
    (call $is (i32.const 5) (call $random_get (i32.const 0) (i32.const 0)) (i32.const 0))
    (call $is (i32.const 6) (call $random_get (i32.const 4325375) (i32.const 1)) (i32.const 0))
    (call $is (i32.const 7) (call $random_get (i32.const 4325375) (i32.const 2)) (i32.const 21))
    (call $is (i32.const 8) (call $random_get (i32.const 0) (i32.const -1)) (i32.const 21))))
