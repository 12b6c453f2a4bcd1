//! Files that both processes have, byte for byte: they share the model crate and nothing else, and what the model may not
//! hold stands in both. Their first line says `Twin:`.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use crate::stack::checkout;

    /// Lines of all twins of one process. Half of them read the URL of PostgreSQL, its certificates and its session, a quarter
    /// is the HTTP frame: what must not differ, and what no library does. More than this belongs into a library.
    const LINES: usize = 1_900;

    /// The twins below `folder`, by their path there.
    fn twins(folder: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    if text.lines().next().is_some_and(|line| line.starts_with("//! Twin:")) {
                        found.insert(path.strip_prefix(folder).unwrap().display().to_string(), text);
                    }
                }
            }
        }
        found
    }

    #[test]
    fn twins_are_equal_and_few() {
        let [writer, reader] =
            ["ingest-worker", "query-api"].map(|name| twins(&checkout().join(name).join("src")));
        assert!(!writer.is_empty(), "no file says that it is a twin");
        assert_eq!(writer.keys().collect::<Vec<_>>(), reader.keys().collect::<Vec<_>>());
        for (name, text) in &writer {
            assert!(reader.get(name) == Some(text), "{name} differs between ingest-worker and query-api");
        }
        let lines: usize = writer.values().map(|text| text.lines().count()).sum();
        assert!(lines <= LINES, "the twins have {lines} lines, allowed are {LINES}");
    }
}
