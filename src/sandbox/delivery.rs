//! What leaves the practice cloud, whole or spoilt.

use std::time::Duration;

/// An answer as the provider would give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// What the connection does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole(Answer),
    /// The stated length, half of the bytes, then the connection is cut.
    Half(Answer),
    /// The connection is cut without a byte.
    Nothing,
    /// After the wait the answer, or the cut where there is none.
    Late {
        wait: Duration,
        then: Option<Answer>,
    },
}

impl Answer {
    pub fn json(status: u16, value: &serde_json::Value) -> Answer {
        Answer { status, content_type: "application/json", body: value.to_string().into_bytes() }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: text.into().into_bytes() }
    }

    /// What proxies in front of an API say when it is not the API that speaks.
    pub fn gateway(status: u16) -> Answer {
        let page = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
             <hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"
        );
        Answer { status, content_type: "text/html", body: page.into_bytes() }
    }
}
