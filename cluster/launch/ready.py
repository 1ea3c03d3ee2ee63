"""What this machine must have before a launch file is started: credentials of its provider, and the secrets it copies.

Looks for files and variables alone; whether a provider accepts them, only the provider says.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CREDENTIALS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "aws": (
        ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        (".aws/credentials", ".aws/config"),
        "aws configure",
    ),
    "gcp": (
        ("GOOGLE_APPLICATION_CREDENTIALS",),
        (".config/gcloud/application_default_credentials.json",),
        "gcloud auth application-default login",
    ),
    "azure": (("AZURE_CLIENT_ID",), (".azure/azureProfile.json",), "az login"),
    "kubernetes": (("KUBECONFIG",), (".kube/config",), "the command of your provider that writes ~/.kube/config"),
    "skypilot": ((), (".aws", ".config/gcloud", ".azure", ".kube/config"), "sky check, which says how for each cloud"),
}
"""Of each provider: variables and files below the home folder, one of which is enough, and what makes them."""
SECRETS = {
    ".ray/auth_token": "(umask 077; ray get-auth-token --generate > /dev/null)",
    ".autodriverl/checkpoint.key": (
        "(umask 077; mkdir -p ~/.autodriverl; openssl rand -hex 32 > ~/.autodriverl/checkpoint.key)"
    ),
}
"""Secrets below the home folder that `ray up` copies, and what makes them."""
OF_RAY_UP = ("aws", "gcp", "azure")
"""Kubernetes keeps secrets of its own, and SkyPilot is given them on the command line."""


def kind_of(tree: Mapping[str, Any]) -> str | None:
    """Whose credentials a launch file needs; None for a file of no known kind."""
    if "apiVersion" in tree:
        return "kubernetes"
    if "provider" in tree:
        provider = tree["provider"]
        kind = provider.get("type") if isinstance(provider, dict) else None
        return kind if kind in CREDENTIALS else None
    return "skypilot" if "run" in tree else None


def lacking(kind: str, home: Path, environ: Mapping[str, str]) -> list[str]:
    """What is not there, or lies open, a sentence each."""
    variables, files, command = CREDENTIALS[kind]
    said = []
    if not any(environ.get(name) for name in variables) and not any((home / name).exists() for name in files):
        looked = ", ".join([*(f"${name}" for name in variables), *(f"~/{name}" for name in files)])
        said.append(f"no credentials for {kind} ({looked}): {command}")
    for name, made_by in SECRETS.items() if kind in OF_RAY_UP else ():
        path = home / name
        if not path.is_file():
            said.append(f"~/{name} does not exist: {made_by}")
        elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            said.append(f"~/{name} can be read by other users: chmod 600 ~/{name}")
    return said
