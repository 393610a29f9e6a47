"""The press: turns chapters into the published book."""
