"""Reverse names that many customers of one mail service share: a rule by such a name holds for all of them.

Well-known names of the services' own mail hosts, outbound and inbound. Such a list is never complete: a name that is
not in it may be shared too.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

# Pattern of the reverse name (lower case), and whose service it is.
SHARED_SENDERS: tuple[tuple[str, str], ...] = (
    ("*.outbound.protection.outlook.com", "Microsoft 365"),  # learn.microsoft.com, Microsoft 365 URLs and IP ranges
    ("*.protection.outlook.com", "Microsoft 365"),
    ("*.outlook.com", "Microsoft 365"),
    ("mail-*.google.com", "Google Workspace and Gmail"),  # _spf.google.com
    ("*.gmail-smtp-in.l.google.com", "Google Workspace and Gmail"),
    ("gmail-smtp-in.l.google.com", "Google Workspace and Gmail"),
    ("aspmx*.l.google.com", "Google Workspace and Gmail"),
    ("*.aspmx.l.google.com", "Google Workspace and Gmail"),
    ("aspmx*.googlemail.com", "Google Workspace and Gmail"),
    ("smtp.google.com", "Google Workspace and Gmail"),
    ("*.amazonses.com", "Amazon SES"),  # docs.aws.amazon.com, SES
    ("*.amazonaws.com", "Amazon Web Services"),
    ("*.mimecast.com", "Mimecast"),
    ("*.mimecast-offshore.com", "Mimecast"),
    ("*.mimecast.co.za", "Mimecast"),
    ("*.pphosted.com", "Proofpoint"),
    ("*.ppe-hosted.com", "Proofpoint Essentials"),
    ("*.messagelabs.com", "Broadcom (MessageLabs)"),
    ("*.iphmx.com", "Cisco Secure Email"),
    ("*.barracudanetworks.com", "Barracuda"),
    ("*.ess.barracuda.com", "Barracuda"),
    ("*.trendmicro.com", "Trend Micro"),
    ("*.hornetsecurity.com", "Hornetsecurity"),
    ("*.antispameurope.com", "Hornetsecurity"),
    ("*.sophos.com", "Sophos Email"),
    ("*.mailcontrol.com", "Forcepoint"),
    ("*.sendgrid.net", "SendGrid"),
    ("*.mailgun.net", "Mailgun"),
    ("*.mailgun.org", "Mailgun"),
    ("*.mcsv.net", "Mailchimp"),
    ("*.mcdlv.net", "Mailchimp"),
    ("*.rsgsv.net", "Mailchimp"),
    ("*.mandrillapp.com", "Mandrill"),
    ("*.sparkpostmail.com", "SparkPost"),
    ("*.mtasv.net", "Postmark"),
    ("*.mailjet.com", "Mailjet"),
    ("*.sendinblue.com", "Brevo"),
    ("*.zoho.com", "Zoho Mail"),
    ("*.zoho.eu", "Zoho Mail"),
    ("*.yahoo.com", "Yahoo Mail"),
    ("*.mail.icloud.com", "iCloud Mail"),
    ("*.messagingengine.com", "Fastmail"),
    ("*.kundenserver.de", "IONOS"),
    ("*.mail.ovh.net", "OVHcloud"),
    ("*.secureserver.net", "GoDaddy"),
    ("*.registrar-servers.com", "Namecheap"),
    ("*.protonmail.ch", "Proton Mail"),
)


def shared_sender(name: str) -> str:
    """Whose service the reverse name belongs to, where many customers share it; empty for any other name.

    A domain counts as well as the hosts in it: a rule for ``outlook.com`` holds for all of them.
    """
    wanted = name.lower().rstrip(".")
    for pattern, service in SHARED_SENDERS:
        if fnmatchcase(wanted, pattern) or (pattern.startswith("*.") and wanted == pattern[2:]):
            return service
    return ""
