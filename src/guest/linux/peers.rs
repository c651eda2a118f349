//! What a Linux guest needs to live among peers, as job steps: its addresses and their names, and what makes it ready.

use std::time::Duration;

use super::apply::lab_step;
use crate::guest::JobStep;

const NETWORK: &str = include_str!("network.sh");
/// Takes a device out of a file of ifupdown's.
const INTERFACES: &str = include_str!("interfaces.awk");
const READY: &str = include_str!("ready.sh");

/// The longest that giving a machine its addresses takes, on top of what it waits for its links.
const NETWORK_LIMIT: Duration = Duration::from_secs(180);

/// Gives NICs their static addresses, each `(MAC, "ADDRESS/PREFIX")`, and peers their names, as lines of `/etc/hosts`.
pub fn network_step(nics: &[(String, String)], hosts: &[String]) -> JobStep {
    let nics = nics.iter().map(|(mac, address)| format!("{mac} {address}")).collect::<Vec<_>>().join("\n");
    let env = [("nics", nics), ("hosts", hosts.join("\n")), ("interfaces", INTERFACES.to_owned())];
    lab_step(NETWORK, env, NETWORK_LIMIT)
}

/// Waits until all conditions hold: `unit NAME`, `tcp PORT`, `address ADDRESS/PREFIX`. Exits with 0, or says what is missing.
pub fn ready_step(conditions: &[String], within: Duration) -> JobStep {
    let env = [("ready", conditions.join("\n")), ("within", within.as_secs().to_string())];
    lab_step(READY, env, within + Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::INTERFACES;

    fn without(device: &str, file: &str) -> String {
        let mut awk = Command::new("awk");
        awk.args(["-v", &format!("device={device}"), INTERFACES]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut awk = awk.spawn().expect("awk starts");
        awk.stdin.take().expect("a pipe").write_all(file.as_bytes()).expect("it reads");
        let output = awk.wait_with_output().expect("it ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[test]
    fn a_device_is_taken_out_of_a_file_of_ifupdown_and_nothing_else_is() {
        let file = "# cards\nsource /etc/network/interfaces.d/*\nauto lo ens3 ens4\niface lo inet loopback\nallow-hotplug ens3\n\
                    iface ens3 inet static\n\taddress 192.168.5.5/24\n\n\tgateway 192.168.5.1\niface ens3 inet6 auto\n\
                    iface ens4 inet dhcp\niface ens33 inet manual\n";
        let left = "# cards\nsource /etc/network/interfaces.d/*\nauto lo ens4\niface lo inet loopback\n\
                    iface ens4 inet dhcp\niface ens33 inet manual\n";
        assert_eq!(without("ens3", file), left);
        assert_eq!(without("eth0", left), left);
    }
}
