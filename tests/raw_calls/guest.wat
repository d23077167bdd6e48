(module
  ;; A guest that calls its imports as a script from its connection says, with raw arguments that nothing checks, and sends the
  ;; peer an entry about each call. `guest.rs` puts the imports in, and has `wit-component` make a component of it.
  ;;
  ;; Memory, of two pages at first:
  ;;   0x0040  the return area of the guest's own calls
  ;;   0x0100  sixteen registers of 32 bits
  ;;   0x0300  the message and the result of the handler
  ;;   0x1000  the script: operations of 40 bytes
  ;;   0x4000  the usual return area, set to 0xaa before each operation
  ;;   0x5000  the entry
  ;;   0x7000  handles for `poll`
  ;;   0x8000  data
  ;;   0x19000 what `cabi_realloc` hands out
{imports}
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 0x19000))
  ;; What is wrong with `cabi_realloc` and with the function that runs after the handler.
  (global $fault (mut i32) (i32.const 0))
  (global $fault-of-post-return (mut i32) (i32.const 0))
  ;; Digests of the arguments of `cabi_realloc` and of all entries.
  (global $requests (mut i64) (i64.const 0))
  (global $entries (mut i64) (i64.const 0))
  (global $input (mut i32) (i32.const 0))
  (global $output (mut i32) (i32.const 0))
  ;; Whether entries are sent, whether the output is there, and whether an error was kept.
  (global $sends (mut i32) (i32.const 1))
  (global $open (mut i32) (i32.const 1))
  (global $failed (mut i32) (i32.const 0))
  ;; The handles below 64 of pollables that are never ready.
  (global $never (mut i64) (i64.const 0))

  (func $mixed (param $digest i64) (param $word i64) (result i64)
    (i64.mul (i64.rotl (i64.xor (local.get $digest) (local.get $word)) (i64.const 5)) (i64.const 0x9e3779b97f4a7c15)))

  (func $bytes-of-memory (result i32)
    (i32.shl (memory.size) (i32.const 16)))

  ;; Whether so many bytes from there are in memory.
  (func $within (param $at i32) (param $bytes i32) (result i32)
    (i64.le_u
      (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $bytes)))
      (i64.extend_i32_u (call $bytes-of-memory))))

  ;; Clears so many bytes from there, as far as they are in memory.
  (func $clear (param $at i32) (param $bytes i32)
    (if (i32.ge_u (local.get $at) (call $bytes-of-memory)) (then (return)))
    (if (i32.eqz (call $within (local.get $at) (local.get $bytes)))
      (then (local.set $bytes (i32.sub (call $bytes-of-memory) (local.get $at)))))
    (memory.fill (local.get $at) (i32.const 0) (local.get $bytes)))

  (func $digest-of-memory (result i64)
    (local $at i32) (local $end i32) (local $even i64) (local $odd i64)
    (local.set $end (call $bytes-of-memory))
    (loop $next
      (local.set $even (call $mixed (local.get $even) (i64.load (local.get $at))))
      (local.set $odd (call $mixed (local.get $odd) (i64.load offset=8 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i64.xor (local.get $even) (i64.rotl (local.get $odd) (i64.const 31))))

  (func $cabi_realloc (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32) (local $end i64)
    (global.set $requests (call $mixed (global.get $requests)
      (i64.or (i64.shl (i64.extend_i32_u (local.get $old)) (i64.const 32)) (i64.extend_i32_u (local.get $old-size)))))
    (global.set $requests (call $mixed (global.get $requests)
      (i64.or (i64.shl (i64.extend_i32_u (local.get $align)) (i64.const 32)) (i64.extend_i32_u (local.get $size)))))
    (if (i32.eq (global.get $fault) (i32.const 1)) (then (return (i32.const 0))))
    (if (i32.eq (global.get $fault) (i32.const 2)) (then (return (call $bytes-of-memory))))
    (if (i32.eq (global.get $fault) (i32.const 3)) (then (unreachable)))
    (if (i32.eq (global.get $fault) (i32.const 4)) (then (drop (call $monotonic-clock.now))))
    (if (i32.eq (global.get $fault) (i32.const 5)) (then (call $drop-pollable (i32.const 99))))
    (if (i32.eq (global.get $fault) (i32.const 6)) (then (return (i32.sub (call $bytes-of-memory) (i32.const 4)))))
    (if (i32.eq (global.get $fault) (i32.const 7)) (then (return (i32.const -4))))
    (if (i32.eq (global.get $fault) (i32.const 9)) (then (return (i32.const 0x8000))))
    (if (i32.eq (global.get $fault) (i32.const 10)) (then (call $wall-clock.now (i32.const 0x40))))
    ;; Not a fault: memory grows at each call.
    (if (i32.eq (global.get $fault) (i32.const 11)) (then (drop (memory.grow (i32.const 1)))))
    (local.set $at (i32.and
      (i32.sub (i32.add (global.get $heap) (local.get $align)) (i32.const 1))
      (i32.sub (i32.const 0) (local.get $align))))
    (local.set $end (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $size))))
    (if (i64.gt_u (i64.add (local.get $end) (i64.const 1)) (i64.extend_i32_u (call $bytes-of-memory)))
      (then
        (if (i32.eq (i32.const -1)
            (memory.grow (i32.wrap_i64 (i64.add (i64.const 1) (i64.shr_u
              (i64.sub (local.get $end) (i64.extend_i32_u (call $bytes-of-memory))) (i64.const 16))))))
          (then (unreachable)))))
    (global.set $heap (i32.wrap_i64 (local.get $end)))
    (if (i32.eq (global.get $fault) (i32.const 8)) (then (return (i32.add (local.get $at) (i32.const 1)))))
    (memory.copy (local.get $at) (local.get $old) (local.get $old-size))
    (local.get $at))

  (func (export "cabi_post_uninterruptible:server/handler@0.2.0#handle-request") (param $result i32)
    (if (i32.eq (global.get $fault-of-post-return) (i32.const 1)) (then (unreachable)))
    (if (i32.eq (global.get $fault-of-post-return) (i32.const 2)) (then (drop (call $monotonic-clock.now))))
    (if (i32.eq (global.get $fault-of-post-return) (i32.const 3)) (then (call $drop-pollable (i32.const 99))))
    (if (i32.eq (global.get $fault-of-post-return) (i32.const 4)) (then (call $wall-clock.now (i32.const 0x40)))))

  ;; Reads so many bytes of the input. Traps at its end.
  (func $receive (param $to i32) (param $bytes i32)
    (local $came i32)
    (loop $more
      (if (i32.eqz (local.get $bytes)) (then (return)))
      (call $blocking-read (global.get $input) (i64.extend_i32_u (local.get $bytes)) (i32.const 0x40))
      (if (i32.load8_u (i32.const 0x40)) (then (unreachable)))
      (local.set $came (i32.load (i32.const 0x48)))
      (memory.copy (local.get $to) (i32.load (i32.const 0x44)) (local.get $came))
      (local.set $to (i32.add (local.get $to) (local.get $came)))
      (local.set $bytes (i32.sub (local.get $bytes) (local.get $came)))
      (br $more)))

  (func $send-entry
    (local $at i32)
    (local.set $at (i32.const 0x5000))
    (loop $next
      (global.set $entries (call $mixed (global.get $entries) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x5060))))
    (if (i32.eqz (global.get $open)) (then (return)))
    (if (global.get $sends)
      (then
        (memory.fill (i32.const 0x40) (i32.const 0) (i32.const 16))
        (call $blocking-write-and-flush (global.get $output) (i32.const 0x5000) (i32.const 0x60) (i32.const 0x40))
        (call $note-error)))
    ;; Otherwise it would depend on time how much the host holds back.
    (memory.fill (i32.const 0x40) (i32.const 0) (i32.const 16))
    (call $flush (global.get $output) (i32.const 0x40))
    (call $note-error))

  ;; Keeps the first error of the guest's own calls in the last register, and drops others.
  (func $note-error
    (if (i32.eqz (i32.load8_u (i32.const 0x40))) (then (return)))
    (if (i32.load8_u (i32.const 0x44)) (then (return)))
    (if (global.get $failed) (then (call $drop-error (i32.load (i32.const 0x48))) (return)))
    (global.set $failed (i32.const 1))
    (i32.store (i32.const 0x13c) (i32.load (i32.const 0x48))))

  ;; The bit of a handle in `$never`.
  (func $bit (param $handle i32) (result i64)
    (if (result i64) (i32.lt_u (local.get $handle) (i32.const 64))
      (then (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $handle))))
      (else (i64.const 0))))

  (func $is-never (param $handle i32) (result i32)
    (i64.ne (i64.const 0) (i64.and (global.get $never) (call $bit (local.get $handle)))))

  (func $mark (param $handle i32) (param $never i32)
    (global.set $never (i64.and (global.get $never) (i64.xor (i64.const -1) (call $bit (local.get $handle)))))
    (if (local.get $never) (then
      (global.set $never (i64.or (global.get $never) (call $bit (local.get $handle)))))))

  ;; Whether none of these pollables would ever be ready.
  (func $all-never (param $at i32) (param $count i32) (result i32)
    (if (i32.or (i32.eqz (local.get $count)) (i32.gt_u (local.get $count) (i32.const 16))) (then (return (i32.const 0))))
    (if (i32.eqz (call $within (local.get $at) (i32.shl (local.get $count) (i32.const 2)))) (then (return (i32.const 0))))
    (loop $next
      (if (i32.eqz (call $is-never (i32.load (local.get $at)))) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))
    (i32.const 1))

  ;; An argument of the operation: as it stands, a register, or counted from the end of memory.
  (func $argument (param $operation i32) (param $which i32) (result i64)
    (local $base i32) (local $value i64)
    (local.set $base (i32.load8_u offset=1 (i32.add (local.get $operation) (local.get $which))))
    (local.set $value (i64.load offset=8 (i32.add (local.get $operation) (i32.shl (local.get $which) (i32.const 3)))))
    (if (i32.eq (local.get $base) (i32.const 1))
      (then (return (i64.load32_u offset=0x100
        (i32.shl (i32.and (i32.wrap_i64 (local.get $value)) (i32.const 15)) (i32.const 2))))))
    (if (i32.eq (local.get $base) (i32.const 2))
      (then (return (i64.add (i64.extend_i32_u (call $bytes-of-memory)) (local.get $value)))))
    (local.get $value))

  ;; Calls an import, and returns its core result.
  (func $call (param $code i32) (param $a i64) (param $b i64) (param $c i64) (param $d i64) (result i64)
{calls}
    ;; The guest's own operations.
    (if (i32.eq (local.get $code) (i32.const 200))
      (then (i32.store (i32.wrap_i64 (local.get $a)) (i32.wrap_i64 (local.get $b)))))
    (if (i32.eq (local.get $code) (i32.const 201))
      (then (memory.fill (i32.wrap_i64 (local.get $a)) (i32.wrap_i64 (local.get $b)) (i32.wrap_i64 (local.get $c)))))
    (if (i32.eq (local.get $code) (i32.const 202))
      (then (return (i64.extend_i32_u (memory.grow (i32.wrap_i64 (local.get $a)))))))
    (if (i32.eq (local.get $code) (i32.const 203))
      (then (global.set $fault (i32.wrap_i64 (local.get $a)))))
    (if (i32.eq (local.get $code) (i32.const 204))
      (then (global.set $fault-of-post-return (i32.wrap_i64 (local.get $a)))))
    (if (i32.eq (local.get $code) (i32.const 205)) (then (unreachable)))
    (if (i32.eq (local.get $code) (i32.const 206))
      (then (drop (call $call (local.get $code) (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (i64.const 0))

  ;; Does one operation, and sends its entry.
  (func $do (param $operation i32)
    (local $code i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $result i64)
    (local $return i32) (local $has-return i32) (local $list i32) (local $mask i32) (local $heap i32) (local $skips i32)
    (local $source i32)
    (local.set $code (i32.load8_u (local.get $operation)))
    (local.set $a (call $argument (local.get $operation) (i32.const 0)))
    (local.set $b (call $argument (local.get $operation) (i32.const 1)))
    (local.set $c (call $argument (local.get $operation) (i32.const 2)))
    (local.set $d (call $argument (local.get $operation) (i32.const 3)))
    (local.set $list (i32.const -1))
    (local.set $heap (global.get $heap))
    (memory.fill (i32.const 0x4000) (i32.const 0xaa) (i32.const 64))
{facts}
    (if (local.get $skips)
      (then)
      (else (local.set $result
        (call $call (local.get $code) (local.get $a) (local.get $b) (local.get $c) (local.get $d)))))
    (if (i32.eq (local.get $code) (i32.const {drop-pollable}))
      (then (call $mark (i32.wrap_i64 (local.get $a)) (i32.const 0))))
    (if (i32.eq (local.get $code) (i32.const {drain}))
      (then (call $mark (i32.wrap_i64 (local.get $result)) (i32.const 1))))
    (if (i32.or (i32.eq (local.get $code) (i32.const {instant})) (i32.eq (local.get $code) (i32.const {duration})))
      (then (call $mark (i32.wrap_i64 (local.get $result)) (i64.gt_u (local.get $a) (i64.const 1000000000)))))
    (if (i32.and
        (i32.eq (local.get $code) (i32.const {drop-output}))
        (i32.eq (i32.wrap_i64 (local.get $a)) (global.get $output)))
      (then (global.set $open (i32.const 0))))
    (if (local.get $has-return)
      (then (if (i32.eqz (call $within (local.get $return) (i32.const 32)))
        (then (local.set $has-return (i32.const 0))))))
    ;; What differs from run to run is cleared: bytes of a list, a list of some length, a value in the return area, a result.
    (if (i32.eq (local.get $mask) (i32.const 1))
      (then (call $clear (i32.load (local.get $return)) (i32.load offset=4 (local.get $return)))))
    (if (i32.eq (local.get $mask) (i32.const 2))
      (then
        (call $clear (i32.load (local.get $return)) (i32.const 256))
        (call $clear (local.get $return) (i32.const 8))
        (global.set $requests (i64.const 0))
        (global.set $heap (local.get $heap))))
    (if (i32.eq (local.get $mask) (i32.const 3))
      (then (call $clear (local.get $return) (i32.const 16))))
    (if (i32.eq (local.get $mask) (i32.const 4)) (then (local.set $result (i64.const 0x5555))))
    ;; The register.
    (local.set $source (i32.load8_u offset=6 (local.get $operation)))
    (if (i32.eq (local.get $source) (i32.const 1))
      (then (i32.store offset=0x100
        (i32.shl (i32.and (i32.load8_u offset=5 (local.get $operation)) (i32.const 15)) (i32.const 2))
        (i32.wrap_i64 (local.get $result)))))
    (if (i32.and (i32.ge_u (local.get $source) (i32.const 2)) (local.get $has-return))
      (then (i32.store offset=0x100
        (i32.shl (i32.and (i32.load8_u offset=5 (local.get $operation)) (i32.const 15)) (i32.const 2))
        (i32.load (i32.add (local.get $return)
          (i32.shl (i32.and (i32.sub (local.get $source) (i32.const 2)) (i32.const 3)) (i32.const 2)))))))
    ;; The entry.
    (memory.fill (i32.const 0x5000) (i32.const 0) (i32.const 0x60))
    (i32.store8 (i32.const 0x5000) (local.get $code))
    (i32.store8 (i32.const 0x5001) (local.get $skips))
    (i32.store (i32.const 0x5004) (memory.size))
    (i64.store (i32.const 0x5008) (local.get $result))
    (if (local.get $has-return)
      (then
        (memory.copy (i32.const 0x5010) (local.get $return) (i32.const 32))
        (if (i32.ge_s (local.get $list) (i32.const 0))
          (then
            (local.set $list (i32.load (i32.add (local.get $return) (local.get $list))))
            (if (call $within (local.get $list) (i32.const 32))
              (then (memory.copy (i32.const 0x5030) (local.get $list) (i32.const 32))))))))
    (i64.store (i32.const 0x5050) (call $digest-of-memory))
    (i64.store (i32.const 0x5058) (global.get $requests))
    (call $send-entry))

  (func (export "uninterruptible:server/handler@0.2.0#handle-request") (param $connection i32) (param $in i32) (param $out i32)
      (result i32)
    (local $at i32) (local $end i32) (local $flags i32) (local $shift i64) (local $digit i32)
    (global.set $input (local.get $in))
    (global.set $output (local.get $out))
    ;; The greeting goes out when the guest waits. From then on the reactor watches the connection.
    (i64.store (i32.const 0x300) (i64.const 0x0a79646165723a)) ;; ":ready\n", and a zero
    (call $blocking-write-and-flush (global.get $output) (i32.const 0x300) (i32.const 8) (i32.const 0x40))
    ;; The number of operations, and flags: 1 for an error at the end with the digest of all entries, 2 for no entries.
    (call $receive (i32.const 0x310) (i32.const 8))
    (local.set $at (i32.const 0x1000))
    (local.set $end (i32.add (local.get $at) (i32.mul (i32.load (i32.const 0x310)) (i32.const 40))))
    (local.set $flags (i32.load (i32.const 0x314)))
    (call $receive (local.get $at) (i32.sub (local.get $end) (local.get $at)))
    (memory.fill (i32.const 0x19000) (i32.const 0) (i32.const 0x7000))
    (global.set $heap (i32.const 0x19000))
    (global.set $requests (i64.const 0))
    (memory.fill (i32.const 0x40) (i32.const 0) (i32.const 16))
    (i32.store (i32.const 0x100) (local.get $connection))
    (i32.store (i32.const 0x104) (local.get $in))
    (i32.store (i32.const 0x108) (local.get $out))
    (if (i32.and (local.get $flags) (i32.const 2)) (then (global.set $sends (i32.const 0))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        ;; Returns with a pointer to any result.
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 207))
          (then (return (i32.wrap_i64 (call $argument (local.get $at) (i32.const 0))))))
        (call $do (local.get $at))
        (local.set $at (i32.add (local.get $at) (i32.const 40)))
        (br $next)))
    (memory.fill (i32.const 0x300) (i32.const 0) (i32.const 32))
    (if (i32.or (i32.and (local.get $flags) (i32.const 1)) (i32.eqz (i32.and (global.get $open) (global.get $sends))))
      (then
        (local.set $shift (i64.const 60))
        (local.set $at (i32.const 0x310))
        (loop $next
          (local.set $digit (i32.and (i32.wrap_i64 (i64.shr_u (global.get $entries) (local.get $shift))) (i32.const 15)))
          (i32.store8 (local.get $at) (i32.add (local.get $digit)
            (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $shift (i64.sub (local.get $shift) (i64.const 4)))
          (br_if $next (i64.ge_s (local.get $shift) (i64.const 0))))
        (i32.store (i32.const 0x300) (i32.const 1))
        (i32.store (i32.const 0x304) (i32.const 0x310))
        (i32.store (i32.const 0x308) (i32.const 16))))
    (i32.const 0x300)))
