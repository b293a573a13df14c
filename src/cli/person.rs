//! Who is at the keyboard, for the record.

use std::env;

const PASSWD: &str = "/etc/passwd";

/// The user behind sudo if there is one, else who the surroundings or the system say it is.
pub(super) fn person() -> String {
    let named = |name: &&str| env::var(name).ok().filter(|name| !name.is_empty());
    let of_surroundings = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(named);
    of_surroundings.unwrap_or_else(|| {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read(PASSWD).unwrap_or_default();
        name_of(uid, &String::from_utf8_lossy(&passwd)).unwrap_or_else(|| format!("uid {uid}"))
    })
}

/// The first name that the file gives the user: `name:password:uid:…` a line.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        let is_plain = !name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace());
        (id.parse() == Ok(uid) && is_plain).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_by_the_first_whole_line_with_its_number() {
        let passwd = "# users\nroot:x:0:0:root:/root:/bin/bash\n+nis\nops:x:1000\n:x:7:7::/:\nb d:x:8:8::/:\nsecond:x:1000:\n";
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(1000, passwd).as_deref(), Some("ops"));
        for unknown in [1, 7, 8] {
            assert_eq!(name_of(unknown, passwd), None);
        }
    }
}
