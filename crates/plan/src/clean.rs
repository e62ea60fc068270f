//! The one form of a path: no empty part, no `.`, and no `..`, which does not climb above where the path begins.

/// As if it began at `/`, as Go's path.Clean has it: how paths inside the container are compared and made.
pub(crate) fn absolute(path: &str) -> String {
    format!("/{}", relative(path))
}

/// The same without a slash at either end: below whatever it is joined to.
pub(crate) fn relative(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{absolute, relative};

    #[test]
    fn no_path_climbs_out() {
        for (path, cleaned) in
            [("etc", "etc"), ("/a/../../etc/", "etc"), ("//a/./b", "a/b"), ("..", ""), ("", ""), ("/", "")]
        {
            assert_eq!(relative(path), cleaned, "{path}");
            assert_eq!(absolute(path), format!("/{cleaned}"), "{path}");
        }
    }
}
