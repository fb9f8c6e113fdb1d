"""Policy: a file that says who may reach whom, and what each node's data plane makes of it.

The language is Tailscale's, as its users and Headscale's write it: HuJSON with `grants` and `acls`
(docs/policy.md). There is no default: what no line lets in stays out, and a file that is wrong lets in
nobody, for it never comes into force. A file is read (`jwcc`), its words become selectors (`terms`,
`ports`) and its rules lines (`compiler`); lines and members make rules and peers (`reach`); `tests`,
`trace` and `diff` answer what people ask of them. All of it is pure.
"""

from shore.coordination.policy.compiler import compile
from shore.coordination.policy.diff import diff
from shore.coordination.policy.document import PolicyError
from shore.coordination.policy.policy import Policy
from shore.coordination.policy.starter import STARTER
from shore.coordination.policy.trace import Unknown, trace
from shore.wire.policy import Change, Trace

__all__ = ["STARTER", "Change", "Policy", "PolicyError", "Trace", "Unknown", "compile", "diff", "trace"]
