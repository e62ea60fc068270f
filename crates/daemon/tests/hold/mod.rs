//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each of the two takes what it is for")]

use daemon::config::Config;
use daemon::words::{Assembly, Word, packets, read};

/// A configuration is read, or refused in one line that names the file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse("a.toml", text) {
        let told = error.to_string();
        assert!(told.starts_with("a.toml:") && !told.contains('\n'), "{told:?}");
    }
}

/// What the guard hears is a word, which is the same when it is said once more, or it is refused; so is what is cut into
/// packets otherwise than we do.
pub fn word(bytes: &[u8]) {
    const LARGEST: usize = 1 << 16;
    let mut assembly = Assembly::up_to(LARGEST);
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let (packet, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        match assembly.push(packet) {
            Ok(Some(whole)) => assert!(whole.len() <= LARGEST),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    let Ok(word) = read::<Word>(bytes) else { return };
    let said = serde_json::to_vec(&word).unwrap();
    assert_eq!(read::<Word>(&said).unwrap(), word);
    let mut assembly = Assembly::up_to(said.len());
    let heard = packets(&said).iter().find_map(|packet| assembly.push(packet).unwrap());
    assert_eq!(heard, Some(said));
}
