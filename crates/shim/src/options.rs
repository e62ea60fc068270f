//! What a caller wants of the runtime: `containerd.runc.v1.Options`, or TOML of the same names inside
//! `runtimeoptions.v1.Options`, which is what CRI sends to a handler that is not called runc's.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message as _};
use containerd_shim_protos::shim::oci;

/// Those that mean something here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) shim_cgroup: String,
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    pub(crate) binary_name: String,
    /// Where state is kept, without the namespace.
    pub(crate) root: String,
    pub(crate) systemd_cgroup: bool,
}

/// Names under which our engine goes: a caller that asks for one of these runtimes gets us.
const ALIASES: [&str; 5] = ["", "cofferdam", "runc", "crun", "youki"];

impl Options {
    /// Reads what came with a request; none is all defaults. The error says what is wrong with it.
    pub(crate) fn of(any: Option<&Any>) -> Result<Self, String> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else { return Ok(Self::default()) };
        match last_segment(&any.type_url) {
            "containerd.runc.v1.Options" => {
                let told = oci::Options::parse_from_bytes(&any.value);
                Ok(Self::from(told.map_err(|why| format!("options: {why}"))?))
            }
            "runtimeoptions.v1.Options" => Self::enclosed(&any.value),
            other => Err(format!("options: unsupported type {other:?}")),
        }
    }

    /// Whether the runtime that is asked for by name is us.
    pub(crate) fn check_name(&self) -> Result<(), String> {
        let name = self.binary_name.rsplit('/').next().unwrap_or_default();
        if ALIASES.contains(&name) {
            return Ok(());
        }
        Err(format!(
            "options: BinaryName: there is no runtime {:?} here: the engine is inside",
            self.binary_name
        ))
    }

    /// `type_url` = 1, `config_path` = 2, `config_body` = 3.
    fn enclosed(value: &[u8]) -> Result<Self, String> {
        let (mut path, mut body) = (String::new(), Vec::new());
        let mut stream = CodedInputStream::from_bytes(value);
        let mut read = || -> Result<(), containerd_shim_protos::protobuf::Error> {
            while let Some(tag) = stream.read_raw_tag_or_eof()? {
                match tag {
                    18 => path = stream.read_string()?,
                    26 => body = stream.read_bytes()?,
                    10 => drop(stream.read_string()?),
                    _ => break,
                }
            }
            Ok(())
        };
        read().map_err(|why| format!("options: {why}"))?;
        if body.is_empty() && !path.is_empty() {
            body = std::fs::read(&path).map_err(|why| format!("options: ConfigPath {path}: {why}"))?;
        }
        let text = String::from_utf8(body).map_err(|_| "options: ConfigBody: is not UTF-8".to_owned())?;
        Self::toml(&text)
    }

    /// Lines of `Name = value`. Tables are of somebody else's, and passed over.
    fn toml(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                break;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("options: ConfigBody: {line:?} is not understood");
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let (name, value) = (name.trim().trim_matches('"').to_ascii_lowercase(), value.trim());
            let text = || quoted(value).ok_or_else(wrong);
            let truth = || value.parse::<bool>().map_err(|_| wrong());
            let number = || value.parse::<u32>().map_err(|_| wrong());
            match name.as_str() {
                "nopivotroot" => options.no_pivot_root = truth()?,
                "nonewkeyring" => options.no_new_keyring = truth()?,
                "shimcgroup" => options.shim_cgroup = text()?,
                "iouid" => options.io_uid = number()?,
                "iogid" => options.io_gid = number()?,
                "binaryname" => options.binary_name = text()?,
                "root" => options.root = text()?,
                "systemdcgroup" => options.systemd_cgroup = truth()?,
                "criupath" | "criuimagepath" | "criuworkpath" | "taskapiaddress" | "taskapiversion" => {}
                _ => return Err(format!("options: ConfigBody: there is no option {name:?}")),
            }
        }
        Ok(options)
    }
}

impl From<oci::Options> for Options {
    fn from(told: oci::Options) -> Self {
        Self {
            no_pivot_root: told.no_pivot_root,
            no_new_keyring: told.no_new_keyring,
            shim_cgroup: told.shim_cgroup,
            io_uid: told.io_uid,
            io_gid: told.io_gid,
            binary_name: told.binary_name,
            root: told.root,
            systemd_cgroup: told.systemd_cgroup,
        }
    }
}

/// A type's name: a URL may have anything before it.
pub(crate) fn last_segment(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

/// A TOML string of one line, basic or literal.
fn quoted(value: &str) -> Option<String> {
    if let Some(literal) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return (!literal.contains('\'')).then(|| literal.to_owned());
    }
    // JSON's strings are TOML's, but for two escapes that nobody writes in a path.
    serde_json::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(url: &str, value: Vec<u8>) -> Any {
        Any { type_url: url.to_owned(), value, ..Any::default() }
    }

    #[test]
    fn options_come_in_two_ways() -> Result<(), Box<dyn std::error::Error>> {
        let told =
            oci::Options { systemd_cgroup: true, io_uid: 7, root: "/r".into(), ..oci::Options::default() };
        let wanted = Options { systemd_cgroup: true, io_uid: 7, root: "/r".into(), ..Options::default() };
        for prefix in ["", "types.containerd.io/", "type.googleapis.com/"] {
            let url = format!("{prefix}containerd.runc.v1.Options");
            assert_eq!(Options::of(Some(&any(&url, told.write_to_bytes()?)))?, wanted);
        }
        let text = b"# a comment\nSystemdCgroup = true\nIoUid = 7\nRoot = \"/r\"\n\n[more]\nx = 1\n";
        let mut value = vec![26, u8::try_from(text.len())?];
        value.extend(text);
        assert_eq!(Options::of(Some(&any("runtimeoptions.v1.Options", value)))?, wanted);
        assert_eq!(Options::of(None)?, Options::default());
        assert_eq!(Options::of(Some(&Any::default()))?, Options::default());
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(Options::of(Some(&any("runhcs.v1.Options", Vec::new()))).is_err());
        for line in ["SystemdCgroup = maybe", "Nonsense = 1", "just words", "Root = unquoted"] {
            assert!(Options::toml(line).is_err(), "{line}");
        }
    }

    #[test]
    fn we_are_whoever_runs_containers() {
        for (name, is_us) in [("", true), ("/usr/sbin/runc", true), ("crun", true), ("no-runc", false)] {
            let options = Options { binary_name: name.to_owned(), ..Options::default() };
            assert_eq!(options.check_name().is_ok(), is_us, "{name}");
        }
        let options = Options { binary_name: "no-runc".to_owned(), ..Options::default() };
        assert!(options.check_name().is_err_and(|why| why.contains("\"no-runc\"")));
    }
}
