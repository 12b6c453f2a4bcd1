use std::fmt::Write as _;

/// Takes `.env`, here or in a folder above, into the environment: where a variable is not set, or set empty. Returns what
/// is wrong with the file.
pub(super) fn load() -> Vec<String> {
    let lines = match dotenvy::dotenv_iter() {
        Ok(lines) => lines,
        Err(fault) if fault.not_found() => return Vec::new(),
        Err(fault) => return vec![sentence(&fault)],
    };
    let mut faults = Vec::new();
    let mut kept = String::new();
    for line in lines {
        match line {
            Ok((name, value)) => {
                if std::env::var_os(&name).is_none_or(|set| set.is_empty()) {
                    // Cannot fail: it is a `String`.
                    let _ = writeln!(kept, "{name}={}", quoted(&value));
                }
            }
            Err(fault) => faults.push(sentence(&fault)),
        }
    }
    if let Err(fault) = dotenvy::from_read_override(kept.as_bytes()) {
        faults.push(sentence(&fault));
    }
    faults
}

/// As a line of `.env` that means exactly this value.
fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for character in value.chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\\' | '"' | '$' => text.extend(['\\', character]),
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

/// A line may hold a secret, so only the kind of fault is told.
fn sentence(fault: &dotenvy::Error) -> String {
    match fault {
        dotenvy::Error::LineParse(_, at) => {
            format!(".env cannot be read: a line is not NAME=value, at its character {at}")
        }
        other => format!(".env cannot be read: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_being_quoted() {
        for value in ["", "plain", "a b # c", r#"p$ss"w\o'rd"#, "two\nlines", "Endpoint=sb://x/;Key=a="] {
            let line = format!("NAME={}\n", quoted(value));
            let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(read, [("NAME".to_owned(), value.to_owned())]);
        }
    }
}
