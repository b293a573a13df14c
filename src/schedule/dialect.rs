//! Expressions that are right and probably mean another thing: a reader of another cron takes five fields for six, or
//! six for five.

/// What an expression does, and what its writer may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misreading {
    pub does: String,
    pub meant: String,
}

/// Looks at a valid expression of six fields: where the first was not meant as seconds, it fires far too often.
pub fn seconds_not_meant(expression: &str) -> Option<Misreading> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let [second, minute, hour, day, month, weekday] = fields[..] else { return None };
    let number_of_minute = number(minute)?;
    let Some(number_of_second) = number(second) else {
        return Some(Misreading {
            does: "fires again and again within one minute: six fields begin with the seconds".to_owned(),
            meant: format!("write the second at which it fires: `0 {minute} {hour} {day} {month} {weekday}`"),
        });
    };
    if hour != "*" || number_of_minute > 23 {
        return None;
    }
    let five = match weekday {
        "*" => [second, minute, hour, day, month],
        _ => [second, minute, day, month, weekday],
    };
    let hourly = match number_of_second {
        0 => format!("write `{minute} * {day} {month} {weekday}`"),
        _ => "leave it".to_owned(),
    };
    Some(Misreading {
        does: format!("fires every hour, {number_of_minute} minutes past: six fields begin with the seconds"),
        meant: format!(
            "for {number_of_minute:02}:{number_of_second:02} write five fields, `{}`; for every hour {hourly}",
            five.join(" ")
        ),
    })
}

/// What may have been meant by five fields that fire once a month at midnight: six without one of their stars.
pub fn seconds_meant(expression: &str) -> Option<String> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let ["0", "0", hour, "*", "*"] = fields[..] else { return None };
    // The first of a month is meant as such.
    let of_day = number(hour).filter(|hour| (2..24).contains(hour))?;
    Some(format!("for {of_day:02}:00 each day write `0 {hour} * * *`"))
}

fn number(field: &str) -> Option<u32> {
    field.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_fields_whose_first_is_no_second_are_doubted_and_the_meant_five_are_shown() {
        let daily = seconds_not_meant("0 3 * * * *").unwrap();
        assert!(daily.does.contains("every hour, 3 minutes past"), "{daily:?}");
        assert_eq!(daily.meant, "for 03:00 write five fields, `0 3 * * *`; for every hour write `3 * * * *`");
        let mondays = seconds_not_meant("30 4 * * * 1").unwrap();
        assert!(
            mondays.meant.contains("for 04:30 write five fields, `30 4 * * 1`; for every hour leave it"),
            "{mondays:?}"
        );
        let weekdays = seconds_not_meant("0 3 * * 1-5 *").unwrap();
        assert!(weekdays.meant.contains("`0 3 * * 1-5`;"), "{weekdays:?}");
        for each_second in ["* 0 3 * * *", "*/10 0 3 * * *", "0-5 30 * * * *"] {
            let often = seconds_not_meant(each_second).unwrap();
            assert!(often.meant.starts_with("write the second"), "{often:?}");
        }
    }

    #[test]
    fn six_fields_that_can_only_be_meant_are_not_doubted() {
        for meant in
            ["0 0 3 * * *", "30 59 23 * * *", "* * * * * *", "*/5 * * * * *", "0 45 * * * *", "15 * * * * *"]
        {
            assert_eq!(seconds_not_meant(meant), None, "{meant}");
        }
        assert_eq!(seconds_not_meant("0 3 * * *"), None);
        assert_eq!(seconds_not_meant("@daily"), None);
    }

    #[test]
    fn five_fields_that_lack_a_star_are_known_by_their_two_zeros() {
        assert_eq!(seconds_meant("0 0 3 * *").unwrap(), "for 03:00 each day write `0 3 * * *`");
        for other in ["0 0 1 * *", "0 0 28 * *", "0 3 2 * *", "0 0 3 * 1", "0 0 3 * * *"] {
            assert_eq!(seconds_meant(other), None, "{other}");
        }
    }
}
