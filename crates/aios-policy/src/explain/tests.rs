use super::*;

#[test]
fn a_grant_is_written_as_a_shell_takes_it() {
    let command = |text: &str| grant_command("web", &text.parse().unwrap());
    assert_eq!(command("fs:read:/etc/hosts"), "aios tool grant web fs:read:/etc/hosts --for 1h");
    assert_eq!(command("fs:read:/a b"), "aios tool grant web 'fs:read:/a b' --for 1h");
    assert_eq!(command("fs:read:/a\\*"), "aios tool grant web 'fs:read:/a\\*' --for 1h");
    assert_eq!(command("fs:read:/it's $(x)"), "aios tool grant web 'fs:read:/it'\\''s $(x)' --for 1h");
}

#[test]
fn waiting_as_long_as_it_says_is_enough() {
    let rate = "3/min".parse().unwrap();
    let hint = too_often("web", rate, "web.fetch", rate, Duration::from_millis(19_001));
    assert!(hint.contains("try again in 20s"), "{hint}");
}
