//! Certificates that a client of HTTP trusts, from a file of its owner's.

use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Trust in the certificates of a PEM file, and in no other. The error says what is wrong with the file, without its name.
pub fn trusting(file: &Path) -> Result<TlsConfig, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let items = parse_pem(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    let roots: Vec<Certificate<'static>> = items.into_iter().filter_map(certificate).collect();
    if roots.is_empty() {
        return Err("expected a PEM file with a certificate, found none".to_owned());
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
}
