use super::*;
use crate::system::random::Random;

const BODY: &str = "MIIBAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\nGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0\n";

fn block(label: &str) -> String {
    format!("-----BEGIN {label}-----\n{BODY}-----END {label}-----\n")
}

fn kinds(text: &str) -> Result<Vec<(Kind, usize)>, String> {
    let parsed = blocks(text.as_bytes());
    parsed
        .map(|blocks| blocks.iter().map(|block| (block.kind, block.line)).collect())
        .map_err(|fault| fault.to_string())
}

#[test]
fn files_that_openssl_reads_are_read() {
    let one = block("CERTIFICATE");
    for (text, lines) in [
        (one.clone(), vec![1]),
        (format!("{one}\u{feff}{one}"), vec![1, 5]),
        (format!("\u{feff}\u{feff}{one}"), vec![1]),
        (format!("\u{feff}{one}"), vec![1]),
        (one.replace('\n', "\r\n"), vec![1]),
        (one.replace('\n', " \t\n"), vec![1]),
        (one.trim_end().to_owned(), vec![1]),
        (format!("{one}{one}"), vec![1, 5]),
        (format!("subject=CN = a\nissuer=CN = b\n\n{one}\n# a comment ----- with dashes\n{one}text"), vec![4, 10]),
        (one.replace("Z\nG", "Z\n\nG"), vec![1]),
        (one.replace("CERTIFICATE", "X509 CERTIFICATE"), vec![1]),
        (format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", BODY.replace('\n', "")), vec![1]),
    ] {
        let expected = lines.into_iter().map(|line| (Kind::Certificate, line)).collect();
        assert_eq!(kinds(&text), Ok(expected), "{text}");
    }
}

#[test]
fn each_fault_of_a_file_is_reported_with_its_line() {
    let one = block("CERTIFICATE");
    for (text, fault) in [
        (one.replace('\n', " "), "line 1: a BEGIN or END line has other text"),
        (one.replace('\n', "\r"), "line 1: a BEGIN or END line has other text"),
        (one.replace('\n', "\\n"), "line 1: has \\n as two characters"),
        (one.replace("Z\nG", "Z\\nG"), "line 2: has \\n as two characters"),
        (one.replace("Z\nG", "Z G"), "line 2: has spaces within base64"),
        (format!("{}{one}", one.trim_end()), "line 4: an END line and a BEGIN line are on one line"),
        (format!("x {one}"), "line 1: a BEGIN or END line has something before it"),
        (one.replace("-----BEGIN", "  -----BEGIN"), "line 1: a BEGIN or END line has something before it"),
        (one.replace("-----BEGIN", "----BEGIN"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("-----BEGIN", "------BEGIN"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("-----BEGIN", "—BEGIN"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("E-----\nM", "E----\nM"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("E-----\nM", "E------\nM"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("E-----\nM", "E\nM"), "line 1: a BEGIN or END line does not have exactly five"),
        (one.replace("-----END", "----END"), "line 4: a BEGIN or END line does not have exactly five"),
        (one.replace("BEGIN", "begin"), "line 1: a BEGIN or END line must be in capital letters"),
        (one.replace("CERTIFICATE", "Certificate"), "line 1: the BEGIN line is malformed"),
        (format!("{one}{}", block("CERTIFICAT")), "line 5: the BEGIN line is malformed"),
        (format!("{one}{}", block("CERITFICATE")), "line 5: the BEGIN line is malformed"),
        (format!("{one}{}", block(" CERTIFICATE")), "line 5: the BEGIN line is malformed"),
        (format!("{one}MI{}\nAAAA\n", "A".repeat(62)), "line 5: is base64 without a BEGIN line before it"),
        (one.replace("END CERTIFICATE", "END X509 CRL"), "line 4: the END line names another kind"),
        (one.replace("-----END CERTIFICATE-----\n", ""), "line 3: the END line is missing for the BEGIN in line 1"),
        (one.replace("-----END CERTIFICATE-----\n", &one), "line 4: the END line is missing for the BEGIN in line 1"),
        (one.replace("-----BEGIN CERTIFICATE-----\n", ""), "line 3: an END line has no BEGIN line"),
        (one.replace("MII", "M*I"), "line 2: is not base64"),
        (one.replace("MII", "M=I"), "line 2: is not base64"),
        (one.replace("M0\n", "M0==\nMII\n"), "line 4: is not base64"),
        (one.replace("M0\n", "M\n"), "line 4: the base64 since the BEGIN in line 1 is incomplete"),
        (one.replace("M0\n", "M0=\n"), "line 4: the base64 since the BEGIN in line 1 is incomplete"),
        (one.replace(BODY, ""), "line 2: the block since the BEGIN in line 1 is empty"),
    ] {
        match kinds(&text) {
            Ok(found) if fault.is_empty() => assert_eq!(found, [(Kind::Other, 1)], "{text}"),
            Ok(found) => panic!("{text}: {found:?}"),
            Err(found) => assert!(!fault.is_empty() && found.starts_with(fault), "{text}: {found}"),
        }
    }
}

#[test]
fn base64_is_decoded() {
    let text = block("PRIVATE KEY");
    let decoded = |text: &str| blocks(text.as_bytes()).unwrap().remove(0).der.to_vec();
    let whole: Vec<u8> = [0x30, 0x82].into_iter().chain(1..=0x34).collect();
    assert_eq!(decoded(&text), whole);
    assert_eq!(decoded(&text.replace("MjM0", "MjM=")), whole[..whole.len() - 1]);
    assert_eq!(decoded(&text.replace("MjM0", "Mg==")), whole[..whole.len() - 2]);
    let all: Vec<Option<u8>> = (0..=255).map(sextet).collect();
    let characters: Vec<u8> = all.iter().flatten().copied().collect();
    assert_eq!((characters.len(), all[usize::from(b'A')], all[usize::from(b'/')]), (64, Some(0), Some(63)));
}

#[test]
fn a_passphrase_is_seen_in_both_formats() {
    let older = format!(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{BODY}-----END RSA PRIVATE KEY-----\n"
    );
    let read = |text: &str| blocks(text.as_bytes()).unwrap().remove(0);
    assert!(read(&older).encrypted && read(&older).kind == Kind::Pkcs1Key);
    assert_eq!(read(&block("ENCRYPTED PRIVATE KEY")).kind, Kind::EncryptedKey);
}

/// No text makes the parser panic, and its messages do not contain any part of the text.
#[test]
fn messages_about_damaged_files_reveal_no_content() {
    let mut random = Random::new(14);
    let good = format!("text\n{}{}", block("PRIVATE KEY"), block("EC PARAMETERS"));
    for _ in 0..20_000 {
        let mut text = good.clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            match random.below(5) {
                0 => text[at] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(text.remove(at)),
                2 => text.truncate(at.max(8)),
                3 => text.insert(at, random.one_of(b"\n -\\")),
                _ => text.extend_from_within(at..),
            }
        }
        if let Err(fault) = blocks(&text) {
            let told = fault.to_string();
            assert!(!told.contains("MIIB") && !told.contains("AgME") && !told.contains("IiMk"), "{told}");
        }
    }
}

/// Regression: parsing took quadratic time, because each block had a buffer for the whole file,
/// which was wiped.
#[test]
fn the_buffer_of_a_block_has_room_for_that_block_only() {
    let one = block("X509 CRL");
    let many = one.repeat((4 << 20) / one.len());
    assert_eq!(blocks(many.as_bytes()).unwrap().len(), many.len() / one.len());
    let begin = one.find('\n').unwrap() + 1;
    assert_eq!(until_end(&many.as_bytes()[begin..]), BODY.len());
}
