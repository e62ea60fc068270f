//! What holds for config.json whatever it contains; the fuzz target and the corpus test ask the same.

use spec::{Invalid, Spec};

/// Parses, checks and writes a document again; panics where a promise is broken.
pub(crate) fn hold(bytes: &[u8]) -> Result<Spec, Invalid> {
    let told = Spec::parse(bytes).and_then(|spec| {
        let written = spec.to_pretty();
        let again = Spec::parse(written.as_bytes());
        assert_eq!(again.as_ref(), Ok(&spec), "what we write we read: {written}");
        assert_eq!(again.map(|again| again.to_pretty()), Ok(written), "and write the same");
        spec.check().map(|()| spec)
    });
    if let Err(invalid) = &told {
        let line = invalid.to_string();
        assert!(!line.is_empty() && !line.chars().any(char::is_control), "one printable line: {line:?}");
        assert!(line.len() < 8192, "no wall of text: {line}");
    }
    told
}
