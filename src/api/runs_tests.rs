//! What is told of runs.

use super::*;

#[test]
fn a_request_has_the_body_that_it_had_before_there_were_further_wishes() {
    let bodies = [r#"{"patch":"p","keep-failed":false,"cold":false}"#, r#"{"patch":"p","suites":["a"],"keep-failed":true,"cold":true}"#];
    for body in bodies {
        let request: RunRequest = serde_json::from_str(body).expect("a request");
        assert_eq!(serde_json::to_string(&request).expect("JSON"), body, "keys are remembered over an upgrade");
    }
    let wished: RunRequest = serde_json::from_str(r#"{"patch":"p","fresh-baselines":true}"#).expect("a request");
    assert!(serde_json::to_string(&wished).expect("JSON").contains("\"fresh-baselines\":true"), "another request");
}
