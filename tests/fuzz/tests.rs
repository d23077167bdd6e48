//! Every target over its seeds and over mutations of them.

use super::*;
use crate::system::random::Random;
use std::{collections::BTreeSet, fs, panic, path::PathBuf};

/// Each input is made from this and its number alone, so that a failure can be made again.
const SEED: u64 = 0x6675_7a7a;

const MUTATIONS: u64 = 3000;

/// The longest input that is mutated, in bytes.
const LONGEST: usize = 8 << 10;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("handoff-message", handoff_message),
    ("proxy-header", proxy_header),
    ("pem", pem),
    ("configuration", configuration),
    ("admin-request", admin_request),
    ("cache-entry", cache_entry),
    ("plugin", plugin),
    ("http-framing", http_framing),
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz"))
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The texts between quotes of a dictionary, as far as they are written without escapes.
fn words(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder().join("dictionaries").join(name)).unwrap_or_default();
    let words = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    words.filter(|word| !word.contains('\\')).map(|word| word.as_bytes().to_vec()).collect()
}

fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    input.truncate(LONGEST);
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.one_of(&[1, 2, 4, 16, 64])).min(input.len());
        match random.below(8) {
            0 if at < end => input[at] ^= 1 << random.below(8),
            1 if at < end => input[at] = random.one_of(b"\0\"\\{}[]()<>,:;=#%*-_.+/ \t\r\n09aZ\x7f\x80\xc3\xff"),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => input.insert(at, random.next_u64().to_le_bytes()[0]),
            5 => {
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            6 if !words.is_empty() => drop(input.splice(at..at, words[random.below(words.len())].clone())),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..other.len().min(from + LONGEST)]);
            }
        }
    }
    input
}

fn keeps_its_promise(name: &str, target: Target, input: &[u8], origin: &str) {
    panic::catch_unwind(|| target(input))
        .unwrap_or_else(|_| panic!("{name}, {origin}: {:?}", String::from_utf8_lossy(input)));
}

#[test]
fn every_target_keeps_its_promise_over_its_seeds_and_mutations_of_them() {
    for (name, target) in TARGETS {
        let (seeds, words) = (seeds(name), words(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        keeps_its_promise(name, target, b"", "nothing");
        for (number, seed) in seeds.iter().enumerate() {
            keeps_its_promise(name, target, seed, &format!("seed {number} by name"));
        }
        for number in 0..MUTATIONS {
            let mut random = Random::new(SEED ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
            keeps_its_promise(
                name,
                target,
                &mutated(&mut random, &seeds, &words),
                &format!("mutation {number} of {SEED:#x}"),
            );
        }
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest: toml::Table = fs::read_to_string(folder().join("Cargo.toml")).unwrap().parse().unwrap();
    let binaries: BTreeSet<_> =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(binaries, TARGETS.iter().map(|(name, _)| *name).collect());
}
