//! libvirt's errors as the port's.

use std::io;

use virt::error::{Error, ErrorDomain, ErrorNumber};

use crate::hypervisor::{AgentError, HypervisorError, HypervisorErrorKind};

pub fn failure(kind: HypervisorErrorKind, tried: &str, found: &str, hint: &str) -> HypervisorError {
    HypervisorError { kind, tried: tried.to_owned(), found: found.to_owned(), hint: hint.to_owned() }
}

/// What libvirt's refusal means for the lab.
pub fn refused(tried: &str, error: &Error) -> HypervisorError {
    let kind = kind_of(error);
    let hint = match kind {
        HypervisorErrorKind::Gone => "check that the libvirt daemon runs and the host is up",
        HypervisorErrorKind::NoSpace => "free space where the --state folder is; `patchlab gc` shows what the lab holds",
        HypervisorErrorKind::NoMachine => "see `patchlab gc` for the machines that the lab has",
        HypervisorErrorKind::TimedOut => "the host may be overloaded: run fewer machines at once",
        HypervisorErrorKind::Refused => "`patchlab doctor` checks what libvirt needs",
    };
    failure(kind, tried, error.message(), hint)
}

fn kind_of(error: &Error) -> HypervisorErrorKind {
    if error.message().contains("No space left on device") {
        return HypervisorErrorKind::NoSpace;
    }
    match number(error) {
        Some(ErrorNumber::NoDomain | ErrorNumber::OperationInvalid) => HypervisorErrorKind::NoMachine,
        Some(ErrorNumber::OperationTimeout) => HypervisorErrorKind::TimedOut,
        Some(ErrorNumber::NoConnect | ErrorNumber::InvalidConn) => HypervisorErrorKind::Gone,
        _ if matches!(error.domain(), virt::enumutil::Enum::Known(ErrorDomain::Rpc)) => HypervisorErrorKind::Gone,
        _ => HypervisorErrorKind::Refused,
    }
}

/// What libvirt says when the agent's channel breaks off during a call. Why, the machine's own events tell.
const BROKEN_OFF: [&str; 5] = [
    "Unable to read from agent",
    "Unable to write to agent",
    "End of file from agent socket",
    "Error while processing agent IO",
    "Invalid file descriptor while waiting for agent",
];

/// An agent command's refusal: silence, the agent's own error, and a machine that is off are told apart.
pub fn agent_refused(error: &Error) -> AgentError {
    let known = agent_error(number(error), error.message());
    known.unwrap_or_else(|| AgentError::Hypervisor(refused("ask the guest agent", error)))
}

fn agent_error(number: Option<ErrorNumber>, found: &str) -> Option<AgentError> {
    let kind = match number {
        _ if BROKEN_OFF.iter().any(|words| found.starts_with(words)) => AgentError::Unresponsive,
        Some(ErrorNumber::NoDomain) => AgentError::NotRunning,
        Some(ErrorNumber::OperationInvalid) if found.contains("not running") => AgentError::NotRunning,
        Some(
            ErrorNumber::AgentUnresponsive
            | ErrorNumber::AgentUnsynced
            | ErrorNumber::AgentCommandTimeout
            | ErrorNumber::OperationTimeout
            | ErrorNumber::OperationInvalid,
        ) => AgentError::Unresponsive,
        // libvirt 9 says "internal error" both for the agent's own error reply and for an answer that is not the protocol's.
        Some(ErrorNumber::AgentCommandFailed | ErrorNumber::InternalError) => AgentError::Refused,
        _ => return None,
    };
    Some(kind(found.to_owned()))
}

/// A file operation's failure.
pub fn file(tried: &str, error: &io::Error) -> HypervisorError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HypervisorErrorKind::NoSpace,
        io::ErrorKind::NotFound => HypervisorErrorKind::NoMachine,
        _ => HypervisorErrorKind::Refused,
    };
    failure(kind, tried, &error.to_string(), "check the --state folder: its space, and who may write there")
}

pub fn number(error: &Error) -> Option<ErrorNumber> {
    match error.code() {
        virt::enumutil::Enum::Known(number) => Some(number),
        virt::enumutil::Enum::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_breaks_off_is_silence_and_neither_the_agents_word_nor_the_hypervisors() {
        for (number, found, expected) in [
            (ErrorNumber::SystemError, "Unable to read from agent: Connection reset by peer", Some("the guest agent does not answer")),
            (ErrorNumber::InternalError, "End of file from agent socket", Some("the guest agent does not answer")),
            (ErrorNumber::InternalError, "unable to execute QEMU agent command 'guest-exec': no", Some("the guest agent refused")),
            (ErrorNumber::OperationInvalid, "Requested operation is not valid: domain is not running", Some("the machine is not running")),
            (ErrorNumber::AgentUnresponsive, "QEMU guest agent is not connected", Some("the guest agent does not answer")),
            (ErrorNumber::SystemError, "cannot write to the log: Input/output error", None),
        ] {
            let said = agent_error(Some(number), found).map(|error| error.to_string());
            assert_eq!(said, expected.map(|kind| format!("{kind}: {found}")), "{number:?}");
        }
    }
}
