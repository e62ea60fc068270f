//! Containers as `list` prints them.

use spec::Report;

/// What `list --format json` prints.
pub fn json(all: &[Report]) -> serde_json::Result<String> {
    if all.is_empty() {
        // An empty slice that Go never filled.
        return Ok("null\n".into());
    }
    serde_json::to_string(all).map(|mut text| {
        text.push('\n');
        text
    })
}

/// What `list --quiet` prints.
pub fn ids(all: &[Report]) -> String {
    all.iter().flat_map(|shown| [shown.id.as_str(), "\n"]).collect()
}

/// What `list` prints: columns at least 12 wide, three blanks between them, the last one as it is.
pub fn table(all: &[Report]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = all.iter().map(|shown| {
        [
            shown.id.clone(),
            shown.pid.to_string(),
            shown.status.to_string(),
            shown.bundle.clone(),
            shown.created.clone(),
            shown.owner.clone(),
        ]
    });
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| wide(&row[column]) + 3).max().unwrap_or(0).max(12);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(wide(cell))));
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

fn wide(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use spec::Status;

    use super::*;

    fn shown(id: &str, pid: i32, status: Status, created: &str) -> Report {
        Report {
            oci_version: "1.0.2-dev".into(),
            id: id.into(),
            pid,
            status,
            bundle: "/tmp/bundle".into(),
            rootfs: "/tmp/bundle/rootfs".into(),
            created: created.into(),
            annotations: [("a.b".into(), "c".into())].into(),
            owner: "root".into(),
        }
    }

    fn two() -> [Report; 2] {
        [
            shown("a-much-longer-container-name", 18973, Status::Running, "2026-11-21T02:44:19.358554777Z"),
            shown("web1", 18992, Status::Created, "2026-11-21T02:44:19.408120173Z"),
        ]
    }

    #[test]
    fn the_table_is_runcs() {
        assert_eq!(table(&two()), include_str!("../tests/fixtures/runc-1.1.5-list.txt"));
        assert_eq!(table(&[]), include_str!("../tests/fixtures/runc-1.1.5-list-empty.txt"));
    }

    #[test]
    fn the_json_is_runcs() -> serde_json::Result<()> {
        assert_eq!(json(&two())?, include_str!("../tests/fixtures/runc-1.1.5-list.json"));
        assert_eq!(json(&[])?, "null\n");
        Ok(())
    }

    #[test]
    fn the_state_is_runcs() {
        let shown = Report {
            owner: String::new(),
            ..shown("web1", 18992, Status::Created, "2026-11-21T02:44:19.408120173Z")
        };
        assert_eq!(shown.to_pretty(), include_str!("../tests/fixtures/runc-1.1.5-state.json"));
    }

    #[test]
    fn quiet_prints_ids_alone() {
        assert_eq!(ids(&two()), "a-much-longer-container-name\nweb1\n");
        assert_eq!(ids(&[]), "");
    }
}
