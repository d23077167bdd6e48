;; Lists 300 files through a buffer of 30 bytes, which holds one entry and a part of the next: each
;; comes once.
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  ;; Ends with the number of the step that came out otherwise.
  (func $is (param $step i32) (param $found i32) (param $expected i32)
    (if (i32.ne (local.get $found) (local.get $expected)) (then (call $exit (local.get $step)))))

  (data (i32.const 16) "f000")
  (func $name (param $number i32)
    (i32.store8 (i32.const 17) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 100))))
    (i32.store8 (i32.const 18) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $number) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 19) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10)))))
  (func $digit (param $at i32) (result i32) (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
  ;; Lists through a buffer of that length, and counts each file in a byte of its own at 4096.
  (func $list (param $length i32) (local $cookie i64) (local $filled i32) (local $at i32) (local $name i32) (local $others i32) (local $cell i32)
    (memory.fill (i32.const 4096) (i32.const 0) (i32.const 300))
    (loop $more
      (call $is (i32.const 3) (call $fd_readdir (i32.const 3) (i32.const 1024) (local.get $length) (local.get $cookie) (i32.const 0)) (i32.const 0))
      (local.set $filled (i32.load (i32.const 0)))
      (local.set $at (i32.const 1024))
      (block $cut (loop $entry
        (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (i32.add (i32.const 1024) (local.get $filled))))
        (local.set $name (i32.add (local.get $at) (i32.const 24)))
        (br_if $cut (i32.gt_u (i32.add (local.get $name) (i32.load offset=16 (local.get $at))) (i32.add (i32.const 1024) (local.get $filled))))
        (local.set $cookie (i64.load (local.get $at)))
        (if (i32.eq (i32.load8_u (local.get $name)) (i32.const 46))
          (then
            (call $is (i32.const 4) (i32.load8_u offset=20 (local.get $at)) (i32.const 3))
            (local.set $others (i32.add (local.get $others) (i32.const 1))))
          (else
            (call $is (i32.const 5) (i32.load8_u offset=20 (local.get $at)) (i32.const 4))
            (local.set $cell (i32.add (i32.const 4096) (i32.add (i32.mul (call $digit (i32.add (local.get $name) (i32.const 1))) (i32.const 100))
              (i32.add (i32.mul (call $digit (i32.add (local.get $name) (i32.const 2))) (i32.const 10)) (call $digit (i32.add (local.get $name) (i32.const 3)))))))
            (i32.store8 (local.get $cell) (i32.add (i32.load8_u (local.get $cell)) (i32.const 1)))))
        (local.set $at (i32.add (local.get $name) (i32.load offset=16 (local.get $at))))
        (br $entry)))
      (br_if $more (i32.eq (local.get $filled) (local.get $length))))
    ;; The entries `.` and `..`.
    (call $is (i32.const 6) (local.get $others) (i32.const 2))
    (local.set $at (i32.const 0))
    (loop $each
      (call $is (i32.const 7) (i32.load8_u (i32.add (i32.const 4096) (local.get $at))) (i32.const 1))
      (br_if $each (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 300)))))
  (func (export "_start") (local $number i32)
    (loop $make
      (call $name (local.get $number))
      (call $is (i32.const 1) (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 5)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 0))
      (call $is (i32.const 2) (call $fd_close (i32.load (i32.const 0))) (i32.const 0))
      (br_if $make (i32.lt_u (local.tee $number (i32.add (local.get $number) (i32.const 1))) (i32.const 300))))
    (call $list (i32.const 30))
    (call $list (i32.const 28))
    (call $list (i32.const 55))
    (call $list (i32.const 2000))
    ;; After the end the listing is empty.
    (call $is (i32.const 8) (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 100) (i64.const 302) (i32.const 0)) (i32.const 0))
    (call $is (i32.const 9) (i32.load (i32.const 0)) (i32.const 0))
    (call $is (i32.const 10) (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const -1) (i64.const 0) (i32.const 0)) (i32.const 21))
    (call $is (i32.const 11) (call $fd_readdir (i32.const 0) (i32.const 1024) (i32.const 100) (i64.const 0) (i32.const 0)) (i32.const 54))))
