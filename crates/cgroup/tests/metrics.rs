//! containerd's messages: every field of the lists, each with a number that no other has, from where it should come. Northstar's
//! JSON, as it was blessed (`BLESS=1 cargo test -p cgroup --test metrics`).
#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

use std::collections::{BTreeMap, BTreeSet};

use cgroup::Statistics;
use cgroup::metrics::{northstar, v1, v2};
use cgroup::statistics::{
    Block, BlockDetails, Cpu, Details, Gauge, HugePages, Memory, MemoryDetails, NodePages, Pids, Pressure,
    Stall, Throttling, Transfer,
};
use plan::cgroup::Version;
use serde_json::Value;

/// The next number that nothing has had: even in the thousands, so that microseconds keep them apart.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1000;
        self.0
    }

    fn gauge(&mut self) -> Gauge {
        Gauge { limit: self.next(), usage: self.next(), max: self.next(), failures: self.next() }
    }

    fn stall(&mut self) -> Option<Stall> {
        let mut part = || f64::from(u32::try_from(self.next()).unwrap_or_default());
        let (avg10, avg60, avg300) = (part(), part(), part());
        (avg300 > 0.0).then(|| Stall { avg10, avg60, avg300, total: self.next() })
    }

    fn pressure(&mut self) -> Pressure {
        Pressure { some: self.stall(), full: self.stall() }
    }

    fn transfers(&mut self) -> Vec<Transfer> {
        let one =
            |operation: &str, value| Transfer { major: 8, minor: 16, operation: operation.into(), value };
        vec![one("Read", self.next()), one("Write", self.next()), one("Discard", self.next())]
    }

    fn keyed(&mut self, keys: &[&str]) -> BTreeMap<String, u64> {
        keys.iter().map(|key| ((*key).to_owned(), self.next())).collect()
    }
}

const STAT_V1: &[&str] = &[
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
    "total_cache",
    "total_rss",
    "total_rss_huge",
    "total_mapped_file",
    "total_dirty",
    "total_writeback",
    "total_pgpgin",
    "total_pgpgout",
    "total_pgfault",
    "total_pgmajfault",
    "total_inactive_anon",
    "total_active_anon",
    "total_inactive_file",
    "total_active_file",
    "total_unevictable",
];
const STAT_V2: &[&str] = &[
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate_anon",
    "workingset_activate_file",
    "key_of_tomorrow",
];

fn full(stat: &[&str], events: &[&str]) -> Statistics {
    let mut new = Numbers(0);
    let kinds = |new: &mut Numbers| new.keyed(&["hca_handle", "hca_object"]);
    Statistics {
        cpu: Cpu {
            total: new.next() * 1000,
            user: new.next() * 1000,
            kernel: new.next() * 1000,
            per_cpu: vec![new.next()],
            throttling: Throttling {
                periods: new.next(),
                throttled: new.next(),
                time: new.next() * 1000,
                bursts: new.next(),
                burst_time: new.next() * 1000,
            },
            pressure: Some(new.pressure()),
            ..Cpu::default()
        },
        memory: Memory {
            usage: new.gauge(),
            with_swap: new.gauge(),
            swap: Some(new.gauge()),
            kernel: new.gauge(),
            kernel_tcp: new.gauge(),
            raw: new.keyed(stat),
            events: new.keyed(events),
            pressure: Some(new.pressure()),
            ..Memory::default()
        },
        pids: Pids { current: new.next(), limit: Some(new.next()) },
        block: Block {
            bytes: new.transfers(),
            operations: new.transfers(),
            queued: new.transfers(),
            service_time: new.transfers(),
            wait_time: new.transfers(),
            merged: new.transfers(),
            time: new.transfers(),
            sectors: new.transfers(),
            pressure: Some(new.pressure()),
        },
        huge_pages: [(
            "2MB".to_owned(),
            HugePages {
                usage: new.next(),
                max: new.next(),
                failures: new.next(),
                limit: new.next(),
                reserved: new.next(),
            },
        )]
        .into(),
        rdma: [("mlx5_0".to_owned(), kinds(&mut new))].into(),
        rdma_limits: [("mlx5_0".to_owned(), kinds(&mut new))].into(),
        ..Statistics::default()
    }
}

/// Every number and text with the way to it, in the order of the list.
fn leaves(value: &Value, way: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let way = if way.is_empty() { key.clone() } else { format!("{way}.{key}") };
                leaves(value, &way, found);
            }
        }
        Value::Array(list) => {
            for value in list {
                leaves(value, &format!("{way}[]"), found);
            }
        }
        value => found.push((way.to_owned(), value.to_string())),
    }
}

fn check(message: &Value, list: &str) {
    let mut found = Vec::new();
    leaves(message, "", &mut found);
    let ways: BTreeSet<&str> = found.iter().map(|(way, _)| way.as_str()).collect();
    assert_eq!(ways, list.lines().collect(), "fields here, fields of the message");
    // None is left at 0, and none shows what another one shows; but for the devices' numbers.
    let mut seen = BTreeMap::new();
    for (way, value) in &found {
        let word = way.rsplit('.').next().unwrap_or(way);
        if ["major", "minor", "device", "op", "pagesize"].contains(&word) {
            continue;
        }
        assert!(!["0", "null"].contains(&value.as_str()), "{way} is not filled");
        if let Some(other) = seen.insert(value, way) {
            assert!(other == way, "{way} shows what {other} shows: {value}");
        }
    }
}

#[test]
fn every_field_of_v1_is_filled_from_a_place_of_its_own() {
    let all = full(STAT_V1, &["oom_kill_disable", "under_oom", "oom_kill"]);
    let message = v1::Metrics::from(&all);
    check(&serde_json::to_value(&message).expect("JSON"), include_str!("metrics/v1.txt"));
    assert_eq!(message.memory.hierarchical_swap_limit, all.memory.raw["hierarchical_memsw_limit"]);
    assert_eq!(message.memory.total_pg_pg_in, all.memory.raw["total_pgpgin"]);
    assert_eq!(message.memory.swap.failcnt, all.memory.with_swap.failures);
    assert_eq!(message.cpu.throttling.throttled_time, all.cpu.throttling.time);
    assert_eq!(message.blkio.io_merged_recursive[2].value, all.block.merged[2].value);
    assert_eq!(
        v1::Metrics::from(&Statistics::default()),
        v1::Metrics::default(),
        "no limit of processes is 0"
    );
}

#[test]
fn every_field_of_v2_is_filled_from_a_place_of_its_own() {
    let all = full(STAT_V2, &["low", "high", "max", "oom", "oom_kill", "sock_throttled"]);
    let message = v2::Metrics::from(&all);
    check(&serde_json::to_value(&message).expect("JSON"), include_str!("metrics/v2.txt"));
    assert_eq!(message.cpu.usage_usec * 1000, all.cpu.total);
    assert_eq!(message.memory.swap_limit, all.memory.swap.expect("swap").limit);
    let raw = &all.memory.raw;
    assert_eq!(
        message.memory.workingset_refault,
        raw["workingset_refault_anon"] + raw["workingset_refault_file"]
    );
    assert_eq!(message.io.usage.len(), 1);
    assert_eq!(message.io.usage[0].wios, all.block.operations[1].value);
    assert_eq!(message.hugetlb[0].max, all.huge_pages["2MB"].limit);
    assert_eq!(v2::Metrics::from(&Statistics::default()).pids.limit, u64::MAX);
    // Before Linux 5.9.
    let mut old = all;
    old.memory.raw.insert("workingset_refault".into(), 7);
    assert_eq!(v2::Metrics::from(&old).memory.workingset_refault, 7);
}

/// As v1's files have a number for everything, or none for what only v1 has.
fn details(version: Version) -> Details {
    let mut new = Numbers(1_000_000);
    let mut memory = MemoryDetails {
        version,
        soft_limit: new.next(),
        numbers: BTreeMap::new(),
        oom_control: BTreeMap::new(),
        numa: BTreeMap::new(),
        slabs: String::new(),
    };
    let mut block = BlockDetails { version, devices: BTreeMap::new(), numbers: BTreeMap::new() };
    if version == Version::V1 {
        memory.numbers =
            ["swappiness", "use_hierarchy", "move_charge_at_immigrate"].map(|name| (name, new.next())).into();
        memory.oom_control = new.keyed(&["oom_kill_disable", "under_oom", "oom_kill"]);
        let nodes = |total| NodePages { total, by_node: vec![total - 1, 1] };
        memory.numa =
            ["total", "file", "anon", "unevictable", "hierarchical_total", "hierarchical_unevictable"]
                .map(|kind| (kind.to_owned(), nodes(new.next())))
                .into();
        memory.slabs.push_str("slabinfo - version: 2.1\n");
        let one = |value| vec![Transfer { major: 8, minor: 16, operation: String::new(), value }];
        for name in
            ["io_merged", "io_service_bytes", "throttle.io_serviced", "throttle.io_serviced_recursive"]
        {
            let total = Transfer { major: 8, minor: 16, operation: "Total".to_owned(), value: new.next() };
            block.devices.insert(name, [new.transfers(), vec![total]].concat());
        }
        for name in
            ["time", "sectors", "weight_device", "throttle.read_bps_device", "throttle.write_iops_device"]
        {
            block.devices.insert(name, one(new.next()));
        }
        block.numbers = [("weight", 500), ("leaf_weight", 0)].into();
    }
    Details {
        cpu: Some("nr_periods 3\nnr_throttled 1\n".to_owned()),
        memory: Some(memory),
        block: Some(block),
    }
}

#[test]
fn northstars_inspect_has_its_own_names() {
    let v1 = northstar::statistics(&full(STAT_V1, &[]), &details(Version::V1));
    let v2 = northstar::statistics(&full(STAT_V2, &[]), &details(Version::V2));
    for (name, told) in [("v1", &v1), ("v2", &v2)] {
        let path = format!("{}/tests/metrics/northstar-{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(told).expect("JSON") + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).expect("the golden file can be written");
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{path}");
    }
    // The same names on both, and on v2 no more than the peer tells.
    let ways = |value: &Value| {
        let mut found = Vec::new();
        leaves(value, "", &mut found);
        let is_fixed = |way: &String| !way.contains("[]") && !way.contains(".raw.");
        found.into_iter().map(|(way, _)| way).filter(is_fixed).collect::<BTreeSet<_>>()
    };
    assert_eq!(ways(&v1), ways(&v2));
    let all = full(STAT_V2, &[]);
    assert_eq!(v2["memory"]["memory"]["swappiness"], all.memory.swap.expect("swap").usage);
    assert_eq!(v2["memory"]["memory"]["fail_cnt"], 0);
    assert_eq!(v2["blkio"]["io_stat"][0]["wios"], all.block.operations[1].value);
    assert_eq!(v1["blkio"]["io_stat"], Value::Array(Vec::new()));
    // What is missing is missing, and no limit is the highest that fits.
    assert_eq!(northstar::statistics(&all, &Details::default()), serde_json::json!({}));
    let mut free = all;
    free.memory.usage.limit = u64::MAX;
    let told = northstar::statistics(&free, &details(Version::V2));
    assert_eq!(told["memory"]["memory"]["limit_in_bytes"], i64::MAX);
}
