//! What holds for everything that somebody in a container may say at the notify socket; the fuzz target and its corpus
//! ask the same.

/// Hears the words; panics where a promise is broken.
pub(crate) fn hold(words: &[u8]) -> Option<String> {
    let heard = state::ready(words);
    if let Some(line) = &heard {
        assert!(line.starts_with("READY="), "{line:?}");
        assert!(!line.contains(char::is_control), "one line, which says one thing: {line:?}");
        assert!(words.starts_with(line.as_bytes()), "nothing is added: {line:?}");
    }
    heard
}
