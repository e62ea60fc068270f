//! Five hundred containers, twenty at a time, fewer where a machine is computed by another: none stands in another's way, and nothing is left.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tests::{Bundle, Container, Runtime, Snapshot, needs, patience};

const CONTAINERS: usize = 500;

/// Where a machine is computed by another.
const FEW: usize = 60;
const AT_ONCE: usize = 20;

#[test]
fn root_hundreds_of_containers_leave_nothing() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let host = Snapshot::whole();
    {
        let bundle = Bundle::new("many").shell("echo $$");
        let next = AtomicUsize::new(0);
        let containers = if patience() > 1 { FEW } else { CONTAINERS };
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= containers {
                    break;
                }
                let container = bundle.another(&runtime);
                if number.is_multiple_of(2) { step_by_step(&container) } else { at_a_stroke(&container) }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(work);
            }
        });
        bundle.assert_nothing_left();
    }
    host.assert_same();
}

fn step_by_step(container: &Container<'_>) {
    let created = container.create();
    created.success();
    container.start().success();
    assert!(container.ended());
    assert_eq!(created.printed(), "1\n");
    container.delete().success();
    assert_eq!(container.state(), None);
}

fn at_a_stroke(container: &Container<'_>) {
    assert_eq!(container.run().success().stdout, "1\n");
    assert_eq!(container.state(), None);
}
