//! The ways in which people and machines have damaged PEM files so far.

use super::search::unbase64;

/// The ways in which a PEM file gets damaged, each with its name.
pub fn damaged(pem: &str) -> Vec<(String, Vec<u8>)> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let first = pem.lines().next().unwrap();
    let label = first.trim_start_matches("-----BEGIN ").trim_end_matches("-----");
    let utf16: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut texts: Vec<(&str, String)> = vec![
        ("joined by spaces", pem.replace('\n', " ")),
        ("joined", pem.replace('\n', "")),
        ("joined by two characters", pem.replace('\n', "\\n")),
        ("joined by carriage returns", pem.replace('\n', "\r")),
        ("in quotes", format!("\"{pem}\"")),
        ("in quotes, joined", format!("'{}'", pem.replace('\n', " "))),
        ("with a name", format!("KEY={pem}")),
        ("indented", pem.lines().map(|line| format!("    {line}\n")).collect()),
        (
            "body joined by spaces",
            format!("{first}\n{}\n-----END {label}-----\n", body.split_at(64).0.to_owned() + " " + &body[64..]),
        ),
        ("cut in the body", pem[..pem.len() / 2].to_owned()),
        ("cut in the END line", pem[..pem.len() - 8].to_owned()),
        ("cut before it", pem[..pem.rfind("-----END").unwrap()].to_owned()),
        ("without BEGIN", pem.split_once('\n').unwrap().1.to_owned()),
        ("without both", body.clone()),
        (
            "without both, wrapped",
            pem.lines().filter(|line| !line.starts_with('-')).map(|line| format!("{line}\n")).collect(),
        ),
        ("one character less", pem.replace(&body[40..41], "")),
        ("one character more", pem.replacen(&body[40..50], &format!("{}A", &body[40..50]), 1)),
        ("a star", pem.replacen(&body[40..44], "****", 1)),
        ("a zero byte", pem.replacen(&body[40..44], "\0", 1)),
        ("not ASCII", pem.replacen(&body[40..44], "éàü", 1)),
        ("a mark in the middle", format!("{pem}\u{feff}{pem}")),
        ("twice without a line break", pem.trim_end().repeat(2)),
        ("twice", pem.repeat(2)),
        ("another END", pem.replace("-----END ", "-----END X")),
        ("content in the label", format!("-----BEGIN {}-----\n{body}\n-----END X-----\n", &body[..40])),
        (
            "content as the only label",
            format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", &body[..40], &body[40..]),
        ),
        ("content in the END line", pem.replace(&format!("END {label}"), &format!("END {}", &body[..40]))),
        ("content behind END", format!("{}{body}\n", pem.trim_end())),
        ("content before BEGIN", format!("{body}{pem}")),
        ("a header", pem.replacen('\n', &format!("\nX-Key: {body}\n"), 1)),
        ("encrypted, says a header", pem.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)),
        ("four dashes", pem.replace("-----", "----")),
        ("small letters", pem.to_lowercase()),
        ("backwards", body.chars().rev().collect()),
    ];
    for other in [
        "CERTIFICATE",
        "TRUSTED CERTIFICATE",
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "DSA PRIVATE KEY",
        "PUBLIC KEY",
        "CERTIFICATE REQUEST",
        "PKCS7",
        "X509 CRL",
        "SECRET",
    ] {
        texts.push(("another label", pem.replace(label, other)));
    }
    let mut all: Vec<(String, Vec<u8>)> =
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    all.push(("in UTF-16".into(), [b"\xff\xfe".as_slice(), &utf16].concat()));
    all.push(("in DER".into(), unbase64(&body)));
    all.push(("half of DER".into(), unbase64(&body[..body.len() / 2])));
    // Single characters changed: still PEM, with other content.
    for place in (0..body.len()).step_by(body.len() / 12) {
        let other = if body.as_bytes()[place] == b'A' { "B" } else { "A" };
        let flipped = format!("{}{other}{}", &body[..place], &body[place + 1..]);
        all.push((
            format!("another character {place}"),
            format!("{first}\n{flipped}\n-----END {label}-----\n").into_bytes(),
        ));
    }
    all
}
