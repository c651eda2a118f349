//! Environments and interoperability suites: what a good pair gives, and what is said about each mistake.

use patchlab::catalog::Catalog;

use crate::Lab;

const PAIR: &str = r#"title = "Two of them"
suites = ["talk"]

[segment.lan]
subnet = "10.0.0.0/24"

[role.server]
build = "web"
address = { lan = "10.0.0.1" }
ready = ["tcp 80"]

[role.client]
build = "web"
hardware = ["plain"]
address = { lan = "10.0.0.2" }
names = ["client.example"]
after = ["server"]
"#;

const TALK: &str = r#"title = "They talk"
kind = "interoperability"
roles = ["server", "client"]

[[case]]
name = "greets"

[[case.step]]
role = "server"
start = "listens"

[[case.step]]
network = "delay lan 10ms"

[[case.step]]
role = "client"
run = "greets"
"#;

/// A lab with an environment and an interoperability suite, and nothing wrong.
fn with_peers() -> Lab {
    let lab = Lab::good();
    lab.write("builds/acme/pair.environment.toml", PAIR);
    lab.write("test-suites/talk/suite.toml", TALK);
    lab.script("test-suites/talk/listens");
    lab.script("test-suites/talk/greets");
    lab
}

#[test]
fn every_mistake_about_peers_is_named() {
    const PAIR: &str = "builds/acme/pair.environment.toml";
    const TALK: &str = "test-suites/talk/suite.toml";
    let lab = with_peers();
    assert_eq!(lab.brief(), Vec::<String>::new());
    assert_eq!(lab.load().catalog.expect("a catalog").customers.values().map(|customer| customer.environments.len()).sum::<usize>(), 1);
    let sins: &[(&str, &str, &str, &[&str])] = &[
        (
            PAIR,
            "\"10.0.0.2\"",
            "\"10.0.0.1\"",
            &["pair.environment.toml:[role.server.address.lan] 10.0.0.1 on segment lan is taken by role client"],
        ),
        (
            PAIR,
            "\"10.0.0.2\"",
            "\"10.0.0.255\"",
            &["pair.environment.toml:[role.client.address.lan] 10.0.0.255 is no address of a machine on segment lan"],
        ),
        (
            PAIR,
            "{ lan = \"10.0.0.2\" }",
            "{ wan = \"10.0.0.2\" }",
            &["pair.environment.toml:[role.client.address.wan] there is no segment \"wan\""],
        ),
        (
            PAIR,
            "ready = [\"tcp 80\"]",
            "after = [\"client\"]",
            &["pair.environment.toml:[role] these machines wait for each other and none can start: client, server"],
        ),
        (PAIR, "[\"server\"]", "[\"sever\"]", &["pair.environment.toml:[role.client.after[0]] there is no role \"sever\""]),
        (
            PAIR,
            "[\"client.example\"]",
            "[\"server\"]",
            &["pair.environment.toml:[role.client.names[0]] the name \"server\" belongs to role server already"],
        ),
        (
            PAIR,
            "[\"plain\"]",
            "[\"fancy\"]",
            &[
                "pair.environment.toml:[role.client.hardware[0]] its build does not live on the hardware \"fancy\"",
                "pair.environment.toml:[role.client.hardware[0]] there is no hardware profile \"fancy\"",
            ],
        ),
        (PAIR, "[role.client]", "[role.clerk]", &["pair.environment.toml:[suites[0]] nobody plays the role client of suite talk"]),
        (PAIR, "[role.client]", "[role.The_Client]", &["pair.environment.toml:[role.The_Client] \"The_Client\" is not a name"]),
        (
            PAIR,
            "[role.client]",
            "[role.the_client]",
            &["pair.environment.toml:[role.the_client] a role that can't be the name of a machine"],
        ),
        (PAIR, "[\"talk\"]", "[\"talk\", \"web\"]", &["pair.environment.toml:[suites[1]] the suite web is for one machine"]),
        (PAIR, "\"tcp 80\"", "\"udp 80\"", &["pair.environment.toml:[role.server.ready[0]] role.server.ready[0] has the wrong form"]),
        (
            TALK,
            "delay lan",
            "delay wan",
            &["pair.environment.toml:[suites[0]] the suite talk can't be played here: wan is neither a role of it nor a segment of this"],
        ),
        (
            TALK,
            "delay lan",
            "delay client/wan",
            &["pair.environment.toml:[suites[0]] the suite talk can't be played here: there is no segment wan"],
        ),
        (TALK, "delay lan 10ms", "delay clerk/lan 10ms", &["suite.toml:[case[0].step[1].network] the suite has no role \"clerk\""]),
        (TALK, "delay lan 10ms", "partition clerk", &["suite.toml:[case[0].step[1].network] the suite has no role \"clerk\""]),
        (
            TALK,
            "delay lan 10ms",
            "partition client server",
            &["pair.environment.toml:[suites[0]] the suite talk can't be played here: it parts nobody from anybody"],
        ),
        (
            TALK,
            "delay lan 10ms\"",
            "heal\"\nrole = \"client\"\nwith = [\"x\"]\nresult = \"tap\"\nwithin = \"5s\"",
            &[
                "suite.toml:[case[0].step[1].role] `role` means nothing for this step",
                "suite.toml:[case[0].step[1].with] `with` means nothing for this step",
                "suite.toml:[case[0].step[1].result] `result` means nothing for this step",
                "suite.toml:[case[0].step[1].within] `within` means nothing for this step",
            ],
        ),
        (
            TALK,
            "run = \"greets\"",
            "run = \"greets\"\nready = true",
            &["suite.toml:[case[0].step[2].ready] `ready` means nothing for this step"],
        ),
        (TALK, "delay lan 10ms", "delay lan", &["suite.toml:[case[0].step[1].network] expected down|up PLACE"]),
        (TALK, "run = \"greets\"", "wait = \"greets\"", &["suite.toml:[case[0].step[2]] no step before this one started \"greets\""]),
        (TALK, "run = \"greets\"", "run = \"greets\"\nexpect = \"greets\"", &["suite.toml:[case[0].step[2]] a step does exactly one of"]),
        (TALK, "run = \"greets\"", "start = \"greets\"", &["suite.toml:[case[0]] no step of the case can fail: it checks nothing"]),
        (TALK, "role = \"client\"", "role = \"clerk\"", &["suite.toml:[case[0].step[2].role] the suite has no role \"clerk\""]),
        (
            TALK,
            "roles = [\"server\", \"client\"]",
            "roles = [\"server\"]",
            &["suite.toml:[roles] an interoperability suite is about two machines or more"],
        ),
    ];
    for (file, from, to, expected) in sins {
        let lab = with_peers();
        lab.change(file, from, to);
        let brief = lab.brief();
        for wanted in *expected {
            let (file, text) = wanted.split_once(':').expect("file:text");
            assert!(brief.iter().any(|line| line.contains(file) && line.contains(text)), "{to}: expected {wanted:?} in {brief:#?}");
        }
        assert!(Catalog::load(lab.path()).is_err(), "{to}");
    }
    let lab = with_peers();
    lab.change(PAIR, "[segment.lan]", "[segment.wan]\nsubnet = \"10.0.1.0/24\"\n\n[segment.lan]");
    lab.change(PAIR, "{ lan = \"10.0.0.1\" }", "{ lan = \"10.0.0.1\", wan = \"10.0.1.1\" }");
    lab.change(TALK, "delay lan", "delay client/wan");
    let said = lab.said();
    assert!(
        said.contains("client has no NIC on the segment wan") && said.contains("network = \"delay client/wan 10ms\" in its case greets"),
        "{said}"
    );
    let lab = with_peers();
    lab.write("builds/acme/two.toml", self::PAIR);
    assert!(lab.said().contains("expected: two.environment.toml"), "{}", lab.said());
    let lab = with_peers();
    lab.change(TALK, "delay lan", "delay cleint");
    assert!(lab.said().contains("did you mean \"client\"?"), "{}", lab.said());
    let lab = with_peers();
    lab.change("builds/acme/web.toml", "[\"web\"]", "[]");
    lab.remove("test-suites/web");
    assert_eq!(lab.brief(), Vec::<String>::new(), "the environment's suites judge patches for the build");
    let lab = with_peers();
    lab.change("builds/acme/web.toml", "[\"web\"]", "[\"web\", \"talk\"]");
    assert_eq!(lab.brief(), ["builds/acme/web.toml:5 [suites[1]] the suite \"talk\" needs several machines"]);
}
