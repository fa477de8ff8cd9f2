"""The steps that bring sendmail's configuration to the settings wished for."""

from __future__ import annotations

from collections.abc import Mapping

from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.plan import Step, sha256, unified_diff
from mailtls_nb.sendmail.cf import differing_options
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.sendmail.mc import cf_options, managed_block, with_managed_block


def configuration_steps(
    where: str, layout: Layout, settings: Mapping[str, str], *, mc: bytes, mc_status: FileStatus, cf: bytes
) -> list[Step]:
    """Write the managed block with exactly these settings, and build; empty where both are so.

    Raises NotReady where the .mc cannot take the block, or does not build the cf in use.
    """
    wanted = with_managed_block(mc, settings, name=layout.mc)
    steps = []
    if wanted != mc:
        old, new = (managed_block(text, name=layout.mc).decode("utf-8", "replace") for text in (mc, wanted))
        steps.append(
            Step(
                "write",
                where,
                layout.mc,
                "Put the TLS settings into their own block in sendmail.mc; every other line stays.",
                diff=unified_diff(layout.mc, old, new),
                before=sha256(mc),
                content=wanted,
                settings={"mode": f"{mc_status.mode:04o}", "owner": mc_status.owner},
            )
        )
    if steps or differing_options(cf, cf_options(settings)):
        layout.refuse_drift(where)
        steps.append(
            Step(
                "build",
                where,
                layout.cf,
                "Build sendmail.cf beside its place, check it, and move it there.",
                before=layout.cf_checksum,
                # What the .mc builds now tells of every file that it includes.
                settings={"argv": " ".join(layout.build.m4_argv), "built_before": layout.built_checksum},
            )
        )
    return steps
