//! Text that others have chosen, made fit for an answer.

/// At most `length_max` characters of `text`. A control character becomes U+FFFD, so that a
/// name can't draw lines of its own; what was cut ends in `…`.
pub fn plain(text: &str, length_max: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut plain: String = characters.by_ref().take(length_max).collect();
    if characters.next().is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

/// `value` with one digit after the point: what a person reads, and no more text than that.
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// `value` with three digits after the point: milliseconds, for times of seconds.
pub fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_on_its_line_and_within_its_length() {
        assert_eq!(plain("a\nb\u{1b}[1m\n", 10), "a\u{FFFD}b\u{FFFD}[1m\u{FFFD}");
        assert_eq!(plain("äöüß", 4), "äöüß");
        assert_eq!(plain("äöüßx", 4), "äöü…");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!((tenths(99.949_999), thousandths(6_599.421_921)), (99.9, 6_599.422));
    }
}
