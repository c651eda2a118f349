//! `patchlab.toml`: what holds for the lab as a whole.

use patchlab::catalog::settings::{FILE, Server, Settings, Templates, read};

use super::Lab;

#[test]
fn a_lab_without_settings_has_the_usual_ones() {
    let lab = Lab::good();
    assert_eq!(read(lab.path()).expect("no mistake"), Settings::default());
    for usual in ["", "[templates]\n", "[templates]\nat-most = 16\nsize = \"8GiB\"\nage = \"24h\"\n"] {
        lab.write(FILE, usual);
        assert_eq!(read(lab.path()).expect("no mistake"), Settings::default(), "{usual:?}");
    }
    lab.write(FILE, "[templates]\nat-most = 0\nage = \"1h 30m\"\n");
    let wanted = Templates { at_most: 0, age: "90m".parse().expect("a span"), ..Templates::default() };
    assert_eq!(read(lab.path()).expect("no mistake").templates, wanted);
    assert_eq!(lab.brief(), Vec::<String>::new());
}

#[test]
fn what_a_lab_can_not_want_of_templates_is_told_with_its_place() {
    let lab = Lab::good();
    for (line, key, told) in [
        ("at-most = -1", "templates.at-most", "a whole number from 0 to 1000"),
        ("at-most = 1001", "templates.at-most", "a whole number from 0 to 1000"),
        ("at-most = \"many\"", "templates.at-most", "a whole number from 0 to 1000"),
        ("size = 8", "templates.size", "a size such as"),
        ("size = \"8G\"", "templates.size", "a size such as"),
        ("size = \"63MiB\"", "templates.size", "64MiB to 16TiB"),
        ("size = \"17TiB\"", "templates.size", "64MiB to 16TiB"),
        ("age = \"a day\"", "templates.age", "a duration such as"),
        ("age = \"59s\"", "templates.age", "1m to 365d"),
        ("age = \"366d\"", "templates.age", "1m to 365d"),
        ("most = 3", "templates.most", "at-most"),
    ] {
        lab.write(FILE, format!("[templates]\n{line}\n"));
        let (brief, said) = (lab.brief(), lab.said());
        assert!(brief.len() == 1 && brief[0].starts_with(&format!("{FILE}:2 [{key}]")), "{line}: {brief:?}");
        assert!(said.contains(told), "{line}: no {told:?} in {said}");
        assert!(lab.load().catalog.is_none(), "{line}: nothing is done with it");
    }
}

#[test]
fn no_address_may_have_all_connections() {
    let lab = Lab::good();
    lab.write(FILE, "[server]\nconnections = 512\nconnections-per-address = 128\nconnections-from-this-host = 448\n");
    assert_eq!(read(lab.path()).expect("no mistake"), Settings::default());
    lab.write(FILE, "[server]\nconnections = 2000\nconnections-per-address = 1500\n");
    let wanted = Server { connections: 2000, connections_per_address: 1500, ..Server::default() };
    assert_eq!(read(lab.path()).expect("no mistake").server, wanted);
    assert_eq!(lab.brief(), Vec::<String>::new());
    for (lines, place, told) in [
        ("connections = 7", "2 [server.connections]", "a whole number from 8 to 16384"),
        ("connections = 16385", "2 [server.connections]", "a whole number from 8 to 16384"),
        ("connections-per-address = 0", "2 [server.connections-per-address]", "a whole number from 1 to 16384"),
        ("connections-from-this-host = \"all\"", "2 [server.connections-from-this-host]", "a whole number from 1 to 16384"),
        ("connections-per-address = 512", "2 [server.connections-per-address]", "less than connections, which are 512"),
        ("connections = 600\nconnections-from-this-host = 600", "3 [server.connections-from-this-host]", "which are 600"),
        ("connections = 400", "1 [server.connections-from-this-host]", "found: 448"),
        ("connections-per-adress = 3", "2 [server.connections-per-adress]", "connections-per-address"),
    ] {
        lab.write(FILE, format!("[server]\n{lines}\n"));
        let (brief, said) = (lab.brief(), lab.said());
        assert!(brief.len() == 1 && brief[0].starts_with(&format!("{FILE}:{place}")), "{lines}: {brief:?}");
        assert!(said.contains(told), "{lines}: no {told:?} in {said}");
        assert!(lab.load().catalog.is_none(), "{lines}: nothing is done with it");
    }
}

#[test]
fn hosts_are_told_apart_and_each_has_bounds_of_its_own() {
    let lab = Lab::good();
    let names = || -> Vec<String> {
        read(lab.path()).expect("no mistake").hosts().expect("hosts").iter().map(|host| host.name.to_string()).collect()
    };
    assert_eq!(names(), ["local"], "a lab that says nothing has one");
    lab.write(
        FILE,
        "[[host]]\nname = \"alpha\"\ncores = 2\n[[host]]\nname = \"beta\"\nuri = \"qemu+ssh://beta/system\"\npool = \"lab\"\nmemory = \"8GiB\"\n",
    );
    assert_eq!(names(), ["alpha", "beta"]);
    assert_eq!(lab.brief(), Vec::<String>::new());
    for (hosts, place, told) in [
        ("[host]\ncores = 2\n", "1 [host]", "write [[host]] in place of [host]"),
        ("[[host]]\ncores = 2\n", "1 [host[0].name]", "lacks the key \"name\""),
        ("[[host]]\nname = \"Alpha\"\n", "2 [host[0].name]", "lower-case"),
        ("[[host]]\nname = \"a\"\nlabels = [\"Big\"]\n", "3 [host[0].labels[0]]", "lower-case"),
        ("[[host]]\nname = \"a\"\n[[host]]\nname = \"a\"\nuri = \"qemu:///system\"\n", "4 [host[1].name]", "another host has this name"),
        ("[[host]]\nname = \"a\"\n[[host]]\nname = \"b\"\n", "3 [host[1].uri]", "a process has one libvirt of its own"),
        (
            "[[host]]\nname = \"a\"\nuri = \"qemu:///embed?root=/x\"\n[[host]]\nname = \"b\"\nuri = \"qemu:///embed\"\n",
            "6 [host[1].uri]",
            "a process has one libvirt of its own",
        ),
        (
            "[[host]]\nname = \"a\"\nuri = \"qemu:///system\"\n[[host]]\nname = \"b\"\nuri = \"qemu:///system\"\n",
            "6 [host[1].uri]",
            "another host has this uri",
        ),
        ("[[host]]\nname = \"a\"\n[[host]]\nname = \"b\"\nuri = \"x\"\ncores = 1\nboots = 2\n", "7 [host[1].boots]", "at most cores"),
        ("[[host]]\nname = \"a\"\nmemory = \"1MiB\"\n", "3 [host[0].memory]", "640MiB to 64TiB"),
        ("[[host]]\nname = \"a\"\npool = \"lab\"\n", "3 [host[0].pool]", "not in a storage pool"),
        ("[[host]]\nname = \"a\"\nuri = \"sim:x.toml\"\npool = \"lab\"\n", "4 [host[0].pool]", "not in a storage pool"),
        ("[[host]]\nname = \"a\"\nuri = \"x\"\npool = \"\"\n", "4 [host[0].pool]", "pool"),
    ] {
        lab.write(FILE, hosts);
        let (brief, said) = (lab.brief(), lab.said());
        assert!(brief.len() == 1 && brief[0].starts_with(&format!("{FILE}:{place}")), "{hosts}: {brief:?}");
        assert!(said.contains(told), "{hosts}: no {told:?} in {said}");
        assert!(lab.load().catalog.is_none(), "{hosts}: nothing is done with it");
    }
}

#[test]
fn a_label_that_no_host_has_is_told() {
    let lab = Lab::good();
    lab.write(FILE, "[[host]]\nname = \"alpha\"\nlabels = [\"site-a\", \"nested\"]\n");
    let (customer, hardware) = ("builds/acme/customer.toml", "builds/hardware/plain.toml");
    let file = |file: &str| std::fs::read_to_string(lab.path().join(file)).expect("a file");
    let good = [customer, hardware].map(|one| (one, file(one)));
    let asks = |labels: [&str; 2]| {
        // Before any table.
        good.iter().zip(labels).for_each(|((name, text), labels)| lab.write(name, format!("host-labels = [{labels}]\n{text}")));
        (lab.brief(), lab.said())
    };
    assert_eq!(asks(["\"site-a\"", "\"nested\", \"site-a\""]).0, Vec::<String>::new());
    let (brief, said) = asks(["\"site-b\"", "\"nested\", \"gpu\""]);
    assert_eq!(brief.len(), 2, "{brief:?}");
    assert!(brief[0].starts_with(&format!("warning: {customer}:1 [host-labels[0]]")), "{brief:?}");
    assert!(brief[1].starts_with(&format!("warning: {hardware}:1 [host-labels[1]]")), "{brief:?}");
    assert!(said.contains("did you mean \"site-a\"?") && said.contains("give it to a [[host]]"), "{said}");
    assert!(lab.load().catalog.is_some(), "a host that is gone for a while closes no gate");
}
