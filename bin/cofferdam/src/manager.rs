//! Where the service manager may be that makes control groups, from the environment and who asks.

use std::ffi::OsStr;

use plan::systemd::Bus;
use sys::Failed;

/// The places, the best first. `--rootless` says whose manager is meant; without it, that of whoever keeps his state in
/// a directory of his own.
pub fn buses(rootless: Option<bool>) -> Result<Vec<Bus>, Failed> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_user = rootless.map_or_else(|| is_users(variable("USER").as_deref()), Ok)?;
    Ok(if is_user {
        of_user(variable("DBUS_SESSION_BUS_ADDRESS"), variable("XDG_RUNTIME_DIR").as_deref())
    } else {
        container::host_buses(variable("DBUS_SYSTEM_BUS_ADDRESS"))
    })
}

fn is_users(user: Option<&str>) -> Result<bool, Failed> {
    Ok(!rustix::process::geteuid().is_root()
        || (user.map(OsStr::new) != Some(OsStr::new("root")) && sys::is_mapped()?))
}

/// What somebody has set comes before what is found where it always is.
fn of_user(set: Option<String>, runtime: Option<&str>) -> Vec<Bus> {
    let found = runtime.map(|runtime| {
        let found = [("bus", false), ("systemd/private", true)];
        found.map(|(name, is_direct)| Bus {
            // A comma would end the path.
            address: format!("unix:path={}/{name}", runtime.replace('%', "%25").replace(',', "%2c")),
            is_direct,
            is_user: true,
        })
    });
    let set = set.map(|address| Bus { address, is_direct: false, is_user: true });
    set.into_iter().chain(found.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(buses: &[Bus]) -> Vec<&str> {
        buses.iter().map(|bus| bus.address.as_str()).collect()
    }

    #[test]
    fn what_is_set_comes_first() {
        let host = container::host_buses(Some("unix:path=/a".into()));
        let known =
            ["unix:path=/a", "unix:path=/run/systemd/private", "unix:path=/run/dbus/system_bus_socket"];
        assert_eq!(told(&host), known);
        assert!(host.iter().all(|bus| !bus.is_user) && host.iter().filter(|bus| bus.is_direct).count() == 1);
        let user = of_user(Some("unix:abstract=b".into()), Some("/run/user/7,8"));
        let known =
            ["unix:abstract=b", "unix:path=/run/user/7%2c8/bus", "unix:path=/run/user/7%2c8/systemd/private"];
        assert_eq!(told(&user), known);
        assert!(user.iter().all(|bus| bus.is_user));
        assert_eq!(of_user(None, None), []);
    }
}
