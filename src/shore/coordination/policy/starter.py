"""The policy that a new network begins with: its members reach each other. It is a file like any other, and
what is taken out of it stays out."""

STARTER = """\
// Who may reach whom in this network. What no grant lets in stays out.
// `shore policy check FILE` says whether a file is right, `shore policy set FILE` puts it in force.
{
  "groups": {
    // "group:admins": ["owner@"],
  },
  "tagOwners": {
    // "tag:server": ["group:admins"],
  },
  "grants": [
    // Members reach each other, at every port.
    {"src": ["*"], "dst": ["*"], "ip": ["*"]},
  ],
}
"""
