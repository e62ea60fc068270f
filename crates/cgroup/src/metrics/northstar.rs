//! `statistics` of a process as Northstar's console tells them when a container is inspected: the names are its own, and what a
//! host does not count is there as 0. A controller that is missing is missing here.

use std::collections::{BTreeMap, BTreeSet};

use plan::cgroup::Version;
use serde_json::{Map, Value, json};

use crate::Statistics;
use crate::statistics::{BlockDetails, Details, Gauge, MemoryDetails, Transfer};

/// The object of these figures.
pub fn statistics(all: &Statistics, details: &Details) -> Value {
    let mut told = Map::new();
    if let Some(stat) = &details.cpu {
        told.insert("cpu".into(), json!({"stat": stat}));
    }
    if let Some(memory) = &details.memory {
        told.insert("memory".into(), of_memory(all, memory));
    }
    if let Some(block) = &details.block {
        told.insert("blkio".into(), of_devices(all, block));
    }
    Value::Object(told)
}

fn of_memory(all: &Statistics, details: &MemoryDetails) -> Value {
    let is_v2 = details.version == Version::V2;
    let memory = &all.memory;
    let number = |name: &str| details.numbers.get(name).copied().unwrap_or(0);
    let oom = |key: &str| details.oom_control.get(key).copied().unwrap_or(0);
    // Version 2's is what is swapped out, by the name of a thing that it does not have: so the peer tells it.
    let swappiness = if is_v2 { memory.swap.map_or(0, |swap| swap.usage) } else { number("swappiness") };
    let mut told = object(of_gauge(if is_v2 { Gauge { failures: 0, ..memory.usage } } else { memory.usage }));
    told.extend(object(json!({
        "move_charge_at_immigrate": number("move_charge_at_immigrate"),
        "numa_stat": of_nodes(details),
        "oom_control": {
            "oom_kill_disable": oom("oom_kill_disable") != 0,
            "under_oom": oom("under_oom") != 0,
            "oom_kill": oom("oom_kill"),
        },
        "soft_limit_in_bytes": signed(details.soft_limit),
        "stat": of_stat(&memory.raw, is_v2),
        "swappiness": swappiness,
        "use_hierarchy": number("use_hierarchy"),
    })));
    let (kernel, kernel_tcp) = if is_v2 { Default::default() } else { (memory.kernel, memory.kernel_tcp) };
    let mut kernel = object(of_gauge(kernel));
    kernel.insert("slabinfo".into(), json!(details.slabs));
    json!({"memory": told, "kmem": kernel, "kmem_tcp": of_gauge(kernel_tcp)})
}

fn of_gauge(gauge: Gauge) -> Value {
    json!({
        "fail_cnt": gauge.failures,
        "limit_in_bytes": signed(gauge.limit),
        "usage_in_bytes": gauge.usage,
        "max_usage_in_bytes": gauge.max,
    })
}

/// Its sizes have 63 bits; no limit is the highest.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Pages by memory node; the kinds are those of v1's `memory.numa_stat`.
fn of_nodes(details: &MemoryDetails) -> Value {
    let mut told = Map::new();
    for prefix in ["", "hierarchical_"] {
        for kind in ["total", "file", "anon", "unevictable"] {
            let name = format!("{prefix}{kind}");
            let pages = details.numa.get(&name).cloned().unwrap_or_default();
            told.insert(format!("{name}_pages"), json!(pages.total));
            told.insert(format!("{name}_pages_per_node"), json!(pages.by_node));
        }
    }
    Value::Object(told)
}

/// The kinds of `memory.stat` on v1, each once more with what is below.
const STAT: [&str; 17] = [
    "cache",
    "rss",
    "rss_huge",
    "shmem",
    "mapped_file",
    "dirty",
    "writeback",
    "swap",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
];

fn of_stat(raw: &BTreeMap<String, u64>, is_v2: bool) -> Value {
    let mut told = Map::new();
    let of = |name: &str| if is_v2 { 0 } else { raw.get(name).copied().unwrap_or(0) };
    for name in STAT.into_iter().flat_map(|name| [name.to_owned(), format!("total_{name}")]) {
        let value = json!(of(&name));
        told.insert(name, value);
    }
    for name in ["hierarchical_memory_limit", "hierarchical_memsw_limit"] {
        told.insert(name.into(), json!(signed(of(name))));
    }
    told.insert("raw".into(), json!(raw));
    Value::Object(told)
}

fn of_devices(all: &Statistics, details: &BlockDetails) -> Value {
    let block = &all.block;
    let is_v2 = details.version == Version::V2;
    let lines = |name: &str| details.devices.get(name).map_or(&[][..], Vec::as_slice);
    let below = |transfers: &'static str| -> &[Transfer] {
        if is_v2 {
            return &[];
        }
        match transfers {
            "io_merged" => &block.merged,
            "io_queued" => &block.queued,
            "io_service_bytes" => &block.bytes,
            "io_serviced" => &block.operations,
            "io_service_time" => &block.service_time,
            _ => &block.wait_time,
        }
    };
    let mut told = Map::new();
    for name in
        ["io_merged", "io_queued", "io_service_bytes", "io_serviced", "io_service_time", "io_wait_time"]
    {
        count(&mut told, name, lines(name));
        count(&mut told, &format!("{name}_recursive"), below(name));
    }
    let mut throttle = Map::new();
    for name in ["io_service_bytes", "io_serviced"] {
        for name in [name.to_owned(), format!("{name}_recursive")] {
            count(&mut throttle, &name, lines(&format!("throttle.{name}")));
        }
    }
    for name in ["read_bps_device", "read_iops_device", "write_bps_device", "write_iops_device"] {
        throttle.insert(name.into(), data(lines(&format!("throttle.{name}"))));
    }
    told.insert("throttle".into(), Value::Object(throttle));
    for name in ["leaf_weight_device", "weight_device", "sectors", "time"] {
        told.insert(name.into(), data(lines(name)));
    }
    let none = Vec::new();
    for (name, below) in [("sectors_recursive", &block.sectors), ("time_recursive", &block.time)] {
        told.insert(name.into(), data(if is_v2 { &none } else { below }));
    }
    for name in ["weight", "leaf_weight"] {
        told.insert(name.into(), json!(details.numbers.get(name).copied().unwrap_or(0)));
    }
    told.insert("io_stat".into(), if is_v2 { of_io(block) } else { json!([]) });
    Value::Object(told)
}

/// A list with an entry for each device, and the sum that the kernel adds to it.
fn count(told: &mut Map<String, Value>, name: &str, lines: &[Transfer]) {
    let entry = |(major, minor)| {
        let of = |operation: &str| {
            let is_it = |line: &&Transfer| {
                (line.major, line.minor, line.operation.as_str()) == (major, minor, operation)
            };
            lines.iter().find(is_it).map_or(0, |line| line.value)
        };
        json!({
            "major": major, "minor": minor, "read": of("Read"), "write": of("Write"), "sync": of("Sync"),
            "async": of("Async"), "discard": of("Discard"), "total": of("Total"),
        })
    };
    let entries: Vec<Value> = devices(lines).into_iter().map(entry).collect();
    let total: u64 = entries.iter().filter_map(|entry| entry["total"].as_u64()).sum();
    told.insert(name.to_owned(), Value::Array(entries));
    told.insert(format!("{name}_total"), json!(total));
}

/// A number for each device.
fn data(lines: &[Transfer]) -> Value {
    let entry = |line: &Transfer| json!({"major": line.major, "minor": line.minor, "data": line.value});
    lines.iter().map(entry).collect()
}

/// v2's `io.stat`.
fn of_io(block: &crate::statistics::Block) -> Value {
    let of = |lines: &[Transfer], device: (u64, u64), operation: &str| {
        let is_it = |line: &&Transfer| (line.major, line.minor) == device && line.operation == operation;
        lines.iter().find(is_it).map_or(0, |line| line.value)
    };
    let all: Vec<Transfer> = block.bytes.iter().chain(&block.operations).cloned().collect();
    let entry = |device: (u64, u64)| {
        let (bytes, operations) = (&block.bytes, &block.operations);
        json!({
            "major": device.0, "minor": device.1,
            "rbytes": of(bytes, device, "Read"), "wbytes": of(bytes, device, "Write"),
            "rios": of(operations, device, "Read"), "wios": of(operations, device, "Write"),
            "dbytes": of(bytes, device, "Discard"), "dios": of(operations, device, "Discard"),
        })
    };
    devices(&all).into_iter().map(entry).collect()
}

fn devices(lines: &[Transfer]) -> BTreeSet<(u64, u64)> {
    lines.iter().map(|line| (line.major, line.minor)).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
