//! Docker and Podman give networks to containers of the runtime under test: bridges, published ports, names, networks
//! that are joined and left again. Each has a network namespace of its own for what would else be the host's.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use serde_json::json;
use tests::{Bundle, Docker, LIMIT, Need, Podman, Runtime, needs};

const SERVE: &str =
    "hostname > /tmp/name; httpd -p 80 -h /tmp && echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// Addresses of version 4, without the loopback's.
const ADDRESSES: &str = "ip -o -4 addr | grep -v ' lo ' | grep -o 'inet [0-9.]*' | cut -c 6-";

/// dockerd has a hook of `prestart` put the container into its network.
#[test]
fn root_docker_gives_networks() {
    needs!(Root, Busybox, Docker);
    let rules = ["--iptables=true", "--ip-forward=true"];
    let docker = Docker::with_flags(&Runtime::under_test(), "docker-nets", "", &rules);
    docker.call(&["network", "create", "--subnet", "10.89.7.0/24", "inner"]).success();
    let publish = ["--name", "web", "--hostname", "one", "--publish", "127.0.0.1:8097:80"];
    docker.detach(&publish, SERVE);
    let (mut logs, _following) = docker.follow("web");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    let fetch = |flags: &[&str], url: &str| docker.shell(flags, &format!("wget -q -O - {url}"));
    assert_eq!(fetch(&["--network", "host"], "http://127.0.0.1:8097/name").lines(), ["one"]);
    assert_eq!(fetch(&["--network", "container:web"], "http://127.0.0.1/name").lines(), ["one"]);

    docker.detach(&["--name", "peer", "--hostname", "two", "--network", "inner"], SERVE);
    let (mut logs, _following) = docker.follow("peer");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    let address = |name: &str| docker.call(&["exec", name, "sh", "-c", ADDRESSES]);
    assert_eq!(address("peer").lines(), ["10.89.7.2"]);
    assert_eq!(fetch(&["--network", "inner"], "http://peer/name").lines(), ["two"], "by its name");
    docker.call(&["network", "connect", "inner", "web"]).success();
    assert_eq!(fetch(&["--network", "inner"], "http://web/name").lines(), ["one"]);
    assert_eq!(address("web").lines().len(), 2);
    docker.call(&["network", "disconnect", "inner", "web"]).success();
    assert_eq!(address("web").lines().len(), 1);
    docker.call(&["rm", "--force", "web", "peer"]).success();
    docker.call(&["network", "rm", "inner"]).success();
}

/// The configuration of a backend; its networks are written down in the test's own directory.
fn backend(name: &str) -> String {
    format!("[network]\nnetwork_backend = \"{name}\"\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n")
}

/// A network of a backend, and two who talk in it, by name where the backend has a server of names.
fn talk(podman: &Podman, backend: &str, has_names: bool) {
    let info = podman.call(&["info", "--format", "{{.Host.NetworkBackend}}"]);
    assert_eq!(info.lines(), [backend]);
    podman.call(&["network", "create", "--subnet", "10.89.8.0/24", "inner"]).success();
    let publish = ["--name", "web", "--hostname", "one", "--publish", "127.0.0.1:8096:80"];
    podman.detach(&[&publish[..], &["--network", "inner"]].concat(), SERVE);
    let (mut logs, _following) = podman.follow("web");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    assert_eq!(podman.call(&["exec", "web", "sh", "-c", ADDRESSES]).lines(), ["10.89.8.2"]);
    let fetch = |flags: &[&str], url: &str| podman.shell(flags, &format!("wget -q -O - {url}"));
    assert_eq!(fetch(&["--network", "host"], "http://127.0.0.1:8096/name").lines(), ["one"]);
    assert_eq!(fetch(&["--network", "container:web"], "http://127.0.0.1/name").lines(), ["one"]);
    assert_eq!(fetch(&["--network", "inner"], "http://10.89.8.2/name").lines(), ["one"]);
    if has_names {
        assert_eq!(fetch(&["--network", "inner"], "http://web/name").lines(), ["one"], "by its name");
    }
    podman.call(&["network", "create", "--subnet", "10.89.9.0/24", "other"]).success();
    podman.call(&["network", "connect", "other", "web"]).success();
    assert_eq!(podman.call(&["exec", "web", "sh", "-c", ADDRESSES]).lines().len(), 2);
    podman.call(&["network", "disconnect", "other", "web"]).success();
    assert_eq!(podman.call(&["exec", "web", "sh", "-c", ADDRESSES]).lines().len(), 1);
    podman.call(&["rm", "--force", "--time", "5", "web"]).success();
    podman.call(&["network", "rm", "inner", "other"]).success();
}

#[test]
fn root_podman_gives_networks_by_netavark() {
    needs!(Root, Busybox, Podman, Netavark);
    let podman = Podman::with_configuration(&Runtime::under_test(), "netavark", &backend("netavark"));
    talk(&podman, "netavark", Need::Aardvark.lacking().is_none());
}

#[test]
fn root_podman_gives_networks_by_cni() {
    needs!(Root, Busybox, Podman, Cni);
    let podman = Podman::with_configuration(&Runtime::under_test(), "cni", &backend("cni"));
    talk(&podman, "cni", false);
}

/// As CRI engines without plugins, and people, have done it: a hook looks up the container and puts a device into it.
#[test]
fn root_a_hook_gives_a_network() {
    needs!(Root, Busybox);
    let script = r#"
pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/' | head -n 1)
ip link add outside type veth peer name eth0 netns "$pid"
nsenter --target "$pid" --net ip addr add 10.89.6.2/24 dev eth0
nsenter --target "$pid" --net ip link set eth0 up"#;
    for moment in ["prestart", "createRuntime"] {
        let bundle = Bundle::new("hooked").shell(ADDRESSES).edit(|config| {
            let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-ec", script], "env": [path]});
            config["hooks"] = json!({ moment: [hook] });
        });
        let container = bundle.container(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
        let output = run.launched_by(&["unshare", "--net"]).run();
        assert_eq!(output.lines(), ["10.89.6.2"], "{moment}: {output}");
    }
}
