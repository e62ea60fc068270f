//! What each command does; its answer is the text for standard output.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use package::compose::{Format, Progress, Recipe, pack as pack_all, sign as sign_anew};
use package::image::FileSystem;
use package::oci::{self, Wishes};
use package::squashfs::{self, Compression};
use package::tree::Tree;
use package::unpack::{survey, unpack as unpack_all};
use package::{Kind, Limits, Manifest, Package, PublicKey, SecretKey, erofs, generate_pair};

use crate::progress::Bar;
use cofferctl::flags::Given;
use sys::{ENDING, Held};
use usage::Verb;

type Outcome = Result<String, String>;

/// Runs a command that was read.
pub(crate) fn run(verb: &Verb, given: &Given) -> Outcome {
    let outcome = match verb.name {
        "pack" => pack(given),
        "inspect" => inspect(given),
        "unpack" => unpack(given),
        "verify" => verify(given),
        "sign" => sign(given),
        _ => gen_key(given),
    };
    outcome.map_err(|told| format!("{}: {told}", verb.name))
}

fn pack(given: &Given) -> Outcome {
    let typed = match given.value("manifest-path").map(Path::new) {
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let (name, text, tree) = match (given.value("root"), given.value("from-oci")) {
        (Some(_), Some(_)) => return Err("--root and --from-oci exclude each other".to_owned()),
        (_, Some(image)) => from_image(given, Path::new(image), typed)?,
        (root, None) => {
            let (name, text) = typed.ok_or("--manifest-path is missing")?;
            let tree = root.map_or(Ok(Tree::default()), |root| Tree::of_directory(Path::new(root)));
            (name, text, tree.map_err(told)?)
        }
    };
    let manifest = Manifest::read(&name, &text).map_err(told)?;
    let mut tree = tree;
    if given.value("from-oci").is_none() {
        // As the reference has it: whose a file was on the host that packs means nothing elsewhere.
        for node in tree.nodes_mut() {
            (node.uid, node.gid) = (manifest.uid.into(), manifest.gid.into());
        }
    }
    let key = secret(given)?;
    let size = tree.size();
    let format = format(given)?;
    let recipe = Recipe { manifest: &manifest, text: &text, tree, format, key: key.as_ref() };
    let mut bars = Bars::new(size);
    let made = pack_all(&recipe, &out(given), &mut |progress| bars.hear(progress)).map_err(told);
    drop(bars);
    Ok(format!("{}\n", made?.display()))
}

/// An image's files, and the manifest that was typed or is made for it.
fn from_image(
    given: &Given,
    path: &Path,
    typed: Option<(String, Vec<u8>)>,
) -> Result<(String, Vec<u8>, Tree), String> {
    let told = |error: package::Error| in_package(path, &error);
    let out = out(given);
    let spool = if out.is_dir() { out.as_path() } else { out.parent().unwrap_or(Path::new(".")) };
    let spool = if spool.as_os_str().is_empty() { Path::new(".") } else { spool };
    let mut bar = Bar::new("reading", path.metadata().map_or(0, |stat| stat.len()));
    let image = oci::read(path, spool, limits(given)?, &mut |bytes| bar.advance(bytes));
    drop(bar);
    let mut image = image.map_err(told)?;
    let number = |name: &str| {
        let value = given.value(name).map(|value| value.to_string_lossy().into_owned());
        let parsed = value.as_deref().map(str::parse::<u16>).transpose();
        parsed.map_err(|_| format!("--{name}: a number below 65536 is due"))
    };
    let text = |name: &str| given.value(name).map(|value| value.to_string_lossy().into_owned());
    let wishes =
        Wishes { name: text("name"), version: text("set-version"), uid: number("uid")?, gid: number("gid")? };
    let (name, text) = match typed {
        Some(typed) => typed,
        None => {
            (format!("manifest of {}", path.display()), image.manifest(&wishes).map_err(told)?.into_bytes())
        }
    };
    Ok((name, text, image.tree))
}

/// How much may come out of an image.
fn limits(given: &Given) -> Result<Limits, String> {
    let mut limits = Limits::default();
    if let Some(text) = given.value("max-bytes").map(OsStr::to_string_lossy) {
        limits.bytes = package::size(&text)
            .ok_or_else(|| format!("--max-bytes: a number of bytes is due, or one such as 20GiB: {text}"))?;
    }
    if let Some(text) = given.value("max-files").map(OsStr::to_string_lossy) {
        limits.files = text.parse().map_err(|_| format!("--max-files: a number is due: {text}"))?;
    }
    Ok(limits)
}

fn format(given: &Given) -> Result<Format, String> {
    let value = |flag| given.value(flag).map(OsStr::to_string_lossy);
    match (value("image").as_deref(), value("compression").as_deref()) {
        (None | Some("squashfs"), None | Some("gzip")) => Ok(Format::Squashfs(Compression::Gzip)),
        (None | Some("squashfs"), Some("none")) => Ok(Format::Squashfs(Compression::None)),
        (Some("erofs"), None | Some("none")) => Ok(Format::Erofs),
        (Some("erofs"), Some(_)) => {
            Err("--compression: erofs is written as it is, and none of it packed".to_owned())
        }
        (None | Some("squashfs"), Some(other)) => {
            Err(format!("--compression {other}: gzip and none are written"))
        }
        (Some(other), _) => Err(format!("--image {other}: squashfs and erofs are written")),
    }
}

fn out(given: &Given) -> PathBuf {
    given.value("out").map_or(PathBuf::from("."), PathBuf::from)
}

fn secret(given: &Given) -> Result<Option<SecretKey>, String> {
    given.value("key").map(|path| SecretKey::read(Path::new(path))).transpose().map_err(told)
}

fn inspect(given: &Given) -> Outcome {
    let (path, package) = open(given)?;
    let name = path.display().to_string();
    if given.value("manifest").is_some() {
        return String::from_utf8(package.manifest().to_vec())
            .map_err(|_| format!("{name}: the manifest is not UTF-8"));
    }
    let manifest = Manifest::read(&format!("{name}: manifest.yaml"), package.manifest()).map_err(told)?;
    let image = package.image().map_err(|error| in_package(&path, &error))?;
    let mut text = String::new();
    let mut line = |what: &str, is: &str| writeln!(text, "{what:<10} {is}").unwrap_or_default();
    line("name", &manifest.name);
    line("version", &manifest.version.to_string());
    line("format", package.version());
    line("kind", if manifest.init.is_some() { "program" } else { "resource" });
    line("image", &format!("{} bytes", image.end - image.start));
    match package.hashes() {
        Some(hashes) => {
            line("root hash", &hashes.root());
            line("signed", "yes; by whom, \"cofferctl verify --key FILE\" tells");
        }
        None => line("signed", "no"),
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(package.manifest()));
    Ok(text)
}

fn verify(given: &Given) -> Outcome {
    let (path, package) = open(given)?;
    let name = path.display().to_string();
    let manifest = Manifest::read(&format!("{name}: manifest.yaml"), package.manifest()).map_err(told)?;
    let key = given.value("key").map(|key| PublicKey::read(Path::new(key))).transpose().map_err(told)?;
    if let Some(key) = &key {
        package.verify(key).map_err(|error| in_package(&path, &error))?;
    }
    let image = package.whole_image();
    let mut bar = Bar::new("checking", image.end - image.start);
    let checked = package.check(|bytes| bar.advance(bytes));
    drop(bar);
    checked.map_err(|error| in_package(&path, &error))?;
    let by = match (key, package.hashes()) {
        (Some(_), _) => "signed by this key, and whole",
        (None, Some(_)) => "whole; who signed it was not asked",
        (None, None) => "whole, and signed by nobody",
    };
    Ok(format!("{}: {by}\n", manifest.container()))
}

fn unpack(given: &Given) -> Outcome {
    let (path, package) = open(given)?;
    let in_package = |error: package::Error| in_package(&path, &error);
    match given.value("key").map(|key| PublicKey::read(Path::new(key))).transpose().map_err(told)? {
        Some(key) => drop(package.verify(&key).map_err(in_package)?),
        None => crate::warn(UNASKED),
    }
    let range = package.whole_image();
    let mut bar = Bar::new("checking", range.end - range.start);
    let checked = package.check(|bytes| bar.advance(bytes));
    drop(bar);
    checked.map_err(in_package)?;
    let (file, range) = (package.file(), package.image().map_err(in_package)?);
    if erofs::is_one(file, &range).map_err(in_package)? {
        unpack_image(given, &path, &mut erofs::Image::read(file, range).map_err(in_package)?)
    } else {
        unpack_image(given, &path, &mut squashfs::Image::read(file, range).map_err(in_package)?)
    }
}

fn unpack_image(given: &Given, path: &Path, image: &mut impl FileSystem) -> Outcome {
    let in_package = |error: package::Error| in_package(path, &error);
    let limits = limits(given)?;
    let mut bar = Bar::new("unpacking", survey(image, limits).map_err(in_package)?);
    let held = Held::take(ENDING).map_err(|failed| failed.to_string())?;
    let unpacked = unpack_all(image, &given.argument(1), limits, &mut |bytes| {
        bar.advance(bytes);
        match held.waiting()? {
            Some(signal) => Err(package::Error::new(Kind::Interrupted, format!("signal {signal} came"))),
            None => Ok(()),
        }
    });
    drop(bar);
    // What has come ends us here, with nothing left to tidy up.
    drop(held);
    unpacked.map_err(in_package)?;
    Ok(String::new())
}

/// What is missing where no key is given.
pub(crate) const UNASKED: &str =
    "without --key nobody asks who signed this, and whether it is what was signed";

fn sign(given: &Given) -> Outcome {
    let (path, package) = open(given)?;
    let key = secret(given)?.ok_or("--key is missing")?;
    let name = path.display().to_string();
    let manifest = Manifest::read(&format!("{name}: manifest.yaml"), package.manifest()).map_err(told)?;
    // Who signs vouches for the whole: what was damaged before is not made good by a new tree.
    package.check(|_| ()).map_err(|error| in_package(&path, &error))?;
    let image = package.whole_image();
    let mut bars = Bars::new(image.end - image.start);
    let made =
        sign_anew(&package, &manifest, &key, &out(given), &mut |progress| bars.hear(progress)).map_err(told);
    drop(bars);
    Ok(format!("{}\n", made?.display()))
}

fn gen_key(given: &Given) -> Outcome {
    let name = given.argument(0).to_string_lossy().into_owned();
    let (secret, public) = generate_pair(&out(given), &name).map_err(told)?;
    Ok(format!("{}\n{}\n", secret.display(), public.display()))
}

/// The package that was typed first.
pub(crate) fn open(given: &Given) -> Result<(PathBuf, Package<File>), String> {
    let path = given.argument(0);
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let package = Package::read(file).map_err(|error| in_package(&path, &error))?;
    Ok((path, package))
}

fn in_package(path: &Path, error: &package::Error) -> String {
    format!("{}: {}", path.display(), with_hint(error))
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn told(error: package::Error) -> String {
    with_hint(&error)
}

/// The error, and the flag that helps where one does.
fn with_hint(error: &package::Error) -> String {
    match error.kind() {
        Kind::Limit(flag) => format!("{error}; --{flag} raises that limit"),
        _ => error.to_string(),
    }
}

/// The two halves of packing.
struct Bars {
    stored: Bar,
    hashed: Bar,
}

impl Bars {
    fn new(size: u64) -> Self {
        Self { stored: Bar::new("packing", size), hashed: Bar::new("hashing", size) }
    }

    fn hear(&mut self, progress: Progress) {
        match progress {
            Progress::Stored(bytes) => self.stored.advance(bytes),
            Progress::Hashed(bytes) => self.hashed.advance(bytes),
        }
    }
}
