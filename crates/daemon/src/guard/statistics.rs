//! What a container uses, in the console protocol's words.

use engine::Statistics;
use serde_json::{Value, json};

/// The keys of the protocol, as far as the kernel tells what they ask for; and the number of processes.
pub(super) fn shown(told: &Statistics) -> Value {
    let Statistics { cpu, memory, pids, block, .. } = told;
    let gauge = |gauge: &engine::Gauge| {
        json!({
            "fail_cnt": gauge.failures,
            "limit_in_bytes": gauge.limit,
            "max_usage_in_bytes": gauge.max,
            "usage_in_bytes": gauge.usage,
        })
    };
    let mut main = gauge(&memory.usage);
    if let Some(main) = main.as_object_mut() {
        main.insert("oom_control".to_owned(), json!(memory.events));
        main.insert("stat".to_owned(), json!({ "cache": memory.cache, "raw": memory.raw }));
    }
    let throttling = &cpu.throttling;
    let stat = format!(
        "usage_usec {}\nuser_usec {}\nsystem_usec {}\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}\n",
        cpu.total / 1000,
        cpu.user / 1000,
        cpu.kernel / 1000,
        throttling.periods,
        throttling.throttled,
        throttling.time / 1000,
    );
    let transfers = |all: &[engine::Transfer]| -> Value {
        all.iter()
            .map(|one| {
                let operation = one.operation.to_lowercase();
                let operation = if operation.is_empty() { "total".to_owned() } else { operation };
                json!({ "major": one.major, "minor": one.minor, operation: one.value })
            })
            .collect()
    };
    json!({
        "cpu": { "stat": stat },
        "memory": { "memory": main, "kmem": gauge(&memory.kernel), "kmem_tcp": gauge(&memory.kernel_tcp) },
        "blkio": {
            "io_service_bytes_recursive": transfers(&block.bytes),
            "io_serviced_recursive": transfers(&block.operations),
        },
        "pids": { "current": pids.current, "limit": pids.limit },
    })
}
