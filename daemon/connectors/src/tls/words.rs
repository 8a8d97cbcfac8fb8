//! What went wrong with a connection, in words that say what to do.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::TlsError;

pub(super) fn explain(error: &Error) -> TlsError {
    TlsError(match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::NoCertificatesPresented => {
            "the other side showed no certificate, and 'client_ca' asks for one".to_owned()
        }
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other side does not speak TLS at this port".to_owned()
        }
        Error::PeerIncompatible(why) => {
            format!("both sides speak TLS and have no version or cipher in common ({why:?})")
        }
        error => format!("TLS failed: {error}"),
    })
}

fn certificate(why: &CertificateError) -> String {
    let (what, help) = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired".to_owned(), "renew it, or correct this machine's date")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), "correct this machine's date")
        }
        CertificateError::UnknownIssuer => (
            "is of an authority that is not trusted".to_owned(),
            "name that authority's file with 'ca' ('client_ca' for a listener)",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("is for another name ({why})"),
            "correct the address, or set 'server_name' to the certificate's",
        ),
        CertificateError::Revoked => ("was revoked".to_owned(), "the other side needs a new one"),
        why => (format!("is not acceptable ({why})"), "the other side needs another one"),
    };
    format!("the other side's certificate {what}; {help}")
}

fn refused(alert: AlertDescription) -> String {
    let help = match alert {
        AlertDescription::CertificateRequired => "it asks for a certificate: set 'cert' and 'key'",
        AlertDescription::UnknownCA => "it does not trust the authority of our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept our certificate"
        }
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that is safe",
        AlertDescription::UnrecognisedName => "it does not serve this name: see 'server_name'",
        _ => "its log may say why",
    };
    format!("the other side refused the connection ({alert:?}); {help}")
}
