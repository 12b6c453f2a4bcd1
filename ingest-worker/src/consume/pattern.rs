use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

/// A pattern of topics, judged as the Kafka client does: with the C library's `regcomp`, POSIX extended expressions with what
/// GNU adds. The crates for regular expressions speak other languages: to them `\d` is a digit, here it is the letter.
pub struct TopicPattern(Box<libc::regex_t>);

impl TopicPattern {
    /// # Errors
    /// What the C library says about it.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern = CString::new(text).map_err(|_| "it has a NUL character".to_owned())?;
        let mut compiled = Box::<libc::regex_t>::new_uninit();
        #[expect(unsafe_code, reason = "the C library's own functions, as librdkafka calls them")]
        // SAFETY: `pattern` ends with NUL, `compiled` is room for what is written, and read only if all went well.
        unsafe {
            match libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB)
            {
                0 => Ok(Self(compiled.assume_init())),
                code => Err(error_text(code, &compiled)),
            }
        }
    }

    /// Whether some part of the name is as the pattern says.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        #[expect(unsafe_code, reason = "the C library's own functions, as librdkafka calls them")]
        // SAFETY: compiled above, the name ends with NUL, and no places of matches are asked for.
        unsafe {
            libc::regexec(ptr::from_ref(&*self.0), topic.as_ptr(), 0, ptr::null_mut(), 0) == 0
        }
    }
}

impl Drop for TopicPattern {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the C library's own functions, as librdkafka calls them")]
        // SAFETY: compiled above and freed once.
        unsafe {
            libc::regfree(ptr::from_mut(&mut *self.0));
        }
    }
}

fn error_text(code: i32, failed: &MaybeUninit<libc::regex_t>) -> String {
    let mut text = [0; 128];
    #[expect(unsafe_code, reason = "the C library's own functions, as librdkafka calls them")]
    // SAFETY: no more is written than there is room for, and it ends with NUL.
    unsafe {
        libc::regerror(code, failed.as_ptr(), text.as_mut_ptr().cast(), text.len());
    }
    CStr::from_bytes_until_nul(&text)
        .map_or_else(|_| code.to_string(), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_pattern_is_judged_as_the_kafka_client_judges_it() {
        for (pattern, matching, other) in [
            ("^.*", "a", ""),
            ("^orders[.]", "orders.new", "old.orders.new"),
            ("^a{2}$", "aa", "a"),
            ("^a{1,3}$", "aaa", "aaaa"),
            (r"^v\d$", "vd", "v1"),
            (r"^v\w+$", "v1", "v"),
            ("^v[[:digit:]]$", "v1", "vd"),
            ("^a|b$", "xb", "x"),
        ] {
            let compiled = TopicPattern::new(pattern).unwrap();
            assert!(
                compiled.matches(matching) && (other.is_empty() || !compiled.matches(other)),
                "{pattern}"
            );
        }
        for pattern in
            ["^[a", "^(a", "^a{2", "^(?i)a", "^(?!a)", "^a**(", "^[[:nothing:]]", r"^a\", "^a{3,1}"]
        {
            let sentence = TopicPattern::new(pattern).err().unwrap_or_default();
            assert!(!sentence.is_empty(), "{pattern}");
            let mut client = ClientConfig::new();
            if !pattern.contains(',') {
                // The client splits its own lists of patterns at commas.
                let refused = client.set("topic.blacklist", pattern).create_native_config().err().unwrap();
                assert!(refused.to_string().contains(&sentence), "{refused} is not {sentence}");
            }
        }
    }
}
