"""Folders under git, for tests of what is committed and what is not."""

import os
import subprocess


def at_commit(root, *, nested=False):
    """Put the folder `root` under git, with one commit of all that is in it; runs git there."""

    def git(*arguments):
        who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        command = ["git", "-C", str(root.parent if nested else root), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, env=clean)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return git
