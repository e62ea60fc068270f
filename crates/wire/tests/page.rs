//! What `docs/console.md` shows is what is spoken.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test states what it expects")]

use wire::{Message, Permission};

const ZEROES: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

/// The first that stands between backticks.
fn code(cell: &str) -> String {
    let code = cell.split('`').nth(1).unwrap_or_else(|| panic!("{cell}"));
    code.replace("BASE64", ZEROES)
}

#[test]
fn the_page_shows_messages() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/console.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| `request` |")).skip(2);
    let mut shown = Vec::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split(" | ").collect();
        let [request, permission, response] = cells[..] else { panic!("{row}") };
        let line = format!(r#"{{"request":{}}}"#, code(request));
        let Ok(Message::Request(request)) = Message::read(line.as_bytes()) else { panic!("{line}") };
        let wanted = serde_json::to_value(request.permission()).unwrap();
        assert_eq!(wanted.as_str(), Some(code(permission).as_str()), "{line}");
        let line = format!(r#"{{"response":{}}}"#, code(response));
        let Ok(Message::Response(_)) = Message::read(line.as_bytes()) else { panic!("{line}") };
        shown.push(request.permission());
    }
    // Those that have a row of their own: two stand beside others, and one is asked for with the greeting.
    for permission in Permission::ALL {
        let beside = [Permission::Umount, Permission::StartCommand, Permission::Notifications];
        assert_eq!(shown.contains(&permission), !beside.contains(&permission), "{permission:?}");
    }
    let told = page.split("is due: ").nth(1).expect("the notifications").split("\n\n").next().unwrap();
    for notification in told.split('`').skip(1).step_by(2) {
        let line = format!(
            r#"{{"notification":{}}}"#,
            notification.replace(":C}", ":\"a:1.0.0\"}").replace("[C,", "[\"a:1.0.0\",")
        );
        assert!(matches!(Message::read(line.as_bytes()), Ok(Message::Notification(_))), "{line}");
    }
}
