//! What `start` is told on its standard input, and what it answers: by the age of the containerd that asks.

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Enum as _, Message as _};

use crate::Surroundings;
use crate::address;
use crate::arguments::Arguments;
use crate::options::{Options, last_segment};

/// What is wanted of `start`.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) options: Options,
    /// Where sockets lie.
    pub(crate) directory: String,
    /// Where events go.
    pub(crate) events: Option<String>,
    pub(crate) debug: bool,
    age: Age,
}

/// Which answer is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// 1.6: the address alone.
    Plain,
    /// 1.7 to 2.2. All of them take JSON, but 1.7 refuses any version but 2, and nothing tells it from the others.
    Json,
    /// 2.3: a message.
    Message,
}

impl Wanted {
    /// Reads what came. A message of 2.3's is one only if it is about us: an `Any` of an older containerd's reads as one too,
    /// with its type for an id.
    pub(crate) fn read(
        input: &[u8],
        arguments: &Arguments,
        surroundings: &Surroundings,
    ) -> Result<Self, String> {
        let told = BootstrapParams::parse_from_bytes(input).ok();
        let told = told.filter(|told| {
            !input.is_empty() && told.instance_id == arguments.id && told.namespace == arguments.namespace
        });
        let Some(told) = told else {
            let any = Any::parse_from_bytes(input).map_err(|why| format!("standard input: {why}"))?;
            return Ok(Self {
                options: Options::of(Some(&any))?,
                directory: address::DIRECTORY.to_owned(),
                events: surroundings.events.clone(),
                debug: arguments.debug,
                age: if surroundings.grpc.is_some() { Age::Json } else { Age::Plain },
            });
        };
        let is_options = |any: &&Any| last_segment(&any.type_url).ends_with(".Options");
        let options =
            told.extensions.iter().filter_map(|extension| extension.value.as_ref()).find(is_options);
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        Ok(Self {
            options: Options::of(options)?,
            directory: told.socket_dir.and_then(named).unwrap_or_else(|| address::DIRECTORY.to_owned()),
            events: named(told.containerd_ttrpc_address).or_else(|| surroundings.events.clone()),
            debug: arguments.debug || told.log_level.value() < LogLevel::LOG_LEVEL_INFO.value(),
            age: Age::Message,
        })
    }

    /// The answer: where the socket is, and what is spoken there.
    pub(crate) fn answer(&self, socket: &str) -> Result<Vec<u8>, String> {
        let address = format!("unix://{socket}");
        match self.age {
            Age::Plain => Ok(address.into_bytes()),
            Age::Json => {
                let answer = serde_json::json!({"version": 2, "address": address, "protocol": "ttrpc"});
                Ok(answer.to_string().into_bytes())
            }
            Age::Message => {
                let answer = BootstrapResult {
                    version: 3,
                    address,
                    protocol: "ttrpc".to_owned(),
                    ..BootstrapResult::default()
                };
                answer.write_to_bytes().map_err(|why| why.to_string())
            }
        }
    }
}

/// The path of the socket in an answer of any age; none in what is no answer.
pub(crate) fn socket_of(answer: &[u8]) -> Option<String> {
    let json =
        || Some(serde_json::from_slice::<serde_json::Value>(answer).ok()?["address"].as_str()?.to_owned());
    let plain = || String::from_utf8(answer.to_vec()).ok().filter(|text| text.starts_with("unix://"));
    let message = || BootstrapResult::parse_from_bytes(answer).ok().map(|answer| answer.address);
    let address = json().or_else(plain).or_else(message)?;
    Some(address.trim_end().strip_prefix("unix://")?.to_owned())
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::protobuf::MessageField;
    use containerd_shim_protos::shim::oci;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn options() -> Result<Any, containerd_shim_protos::protobuf::Error> {
        let told = oci::Options { shim_cgroup: "/shims".into(), ..oci::Options::default() };
        let type_url = "containerd.runc.v1.Options".to_owned();
        Ok(Any { type_url, value: told.write_to_bytes()?, ..Any::default() })
    }

    fn arguments() -> Arguments {
        Arguments { id: "web".into(), namespace: "k8s.io".into(), ..Arguments::default() }
    }

    #[test]
    fn each_age_gets_the_answer_that_it_understands() -> Outcome {
        let old = Surroundings { events: Some("/c.ttrpc".into()), ..Surroundings::default() };
        let new = Surroundings { grpc: Some("/c".into()), ..old.clone() };
        let input = options()?.write_to_bytes()?;
        let wanted = Wanted::read(&input, &arguments(), &old)?;
        assert_eq!(wanted.options.shim_cgroup, "/shims");
        assert_eq!(wanted.answer("/s/x")?, b"unix:///s/x");
        let wanted = Wanted::read(&[], &arguments(), &new)?;
        let json: serde_json::Value = serde_json::from_slice(&wanted.answer("/s/x")?)?;
        assert_eq!(json, serde_json::json!({"version": 2, "address": "unix:///s/x", "protocol": "ttrpc"}));
        Ok(())
    }

    #[test]
    fn the_socket_is_found_in_every_answer() -> Outcome {
        for age in [Age::Plain, Age::Json, Age::Message] {
            let wanted = Wanted { age, ..Wanted::read(&[], &arguments(), &Surroundings::default())? };
            assert_eq!(socket_of(&wanted.answer("/run/s/x")?).as_deref(), Some("/run/s/x"));
        }
        assert_eq!((socket_of(b""), socket_of(b"vsock://3")), (None, None));
        Ok(())
    }

    #[test]
    fn a_message_is_one_only_if_it_is_about_us() -> Outcome {
        let mut told = BootstrapParams {
            instance_id: "web".into(),
            namespace: "k8s.io".into(),
            socket_dir: Some("/run/s".into()),
            containerd_ttrpc_address: "/new.ttrpc".into(),
            log_level: LogLevel::LOG_LEVEL_DEBUG.into(),
            ..BootstrapParams::default()
        };
        told.extensions.push(Extension { value: MessageField::some(options()?), ..Extension::default() });
        let wanted = Wanted::read(&told.write_to_bytes()?, &arguments(), &Surroundings::default())?;
        assert_eq!((wanted.directory.as_str(), wanted.events.as_deref()), ("/run/s", Some("/new.ttrpc")));
        assert!(wanted.debug && wanted.options.shim_cgroup == "/shims");
        let answer = BootstrapResult::parse_from_bytes(&wanted.answer("/run/s/x")?)?;
        assert_eq!((answer.version, answer.address.as_str()), (3, "unix:///run/s/x"));
        Ok(())
    }
}
