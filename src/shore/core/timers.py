"""Every timer of the heart, once. Seconds; what the data plane times by itself is not here."""

# When to call a data plane stalled: so many questions in a row unanswered, while our loop was on time.
STALL_QUESTIONS = 2
OWN_LAG = 0.2

# When to start a plane that died again: at once for the first ones of a minute, then ever later.
RESTART_WINDOW = 60.0
FREE_RESTARTS = 5
RESTART_BACKOFF = (1.0, 2.0, 4.0, 8.0)

# When to ask for a name again: after a failure, while its peer is silent, and anyway.
NAME_RETRY = (1.0, 2.0, 5.0, 10.0, 30.0)
NAME_WHILE_SILENT = 10.0
NAME_ANYWAY = 600.0

# When to dial a relay again that could not be dialled or did not let us in.
RELAY_RETRY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# When to dial again at the latest while no link is up.
RELAY_RETRY_ALONE = 3.0
# When to look for a peer again where its relay said that it is not.
AWAY_FOR = 10.0

# When to climb a peer's ladder: seconds that initiations have gone unanswered.
RESOLVE_AFTER = 2.0
EXTRA_SOCKET_AFTER = 8.0
UNREACHABLE_AFTER = 30.0

# When to climb the node's ladder: every peer that was alive lately is silent for so long.
ALIVE_LATELY = 300.0
REBIND_AFTER = 12.0
REPLACE_AFTER = 40.0
REPLACE_INTERVAL = 600.0
REBIND_INTERVAL = 10.0

# When losses of our own making have lasted too long.
LOSING_REBIND = 3.0
LOSING_REPLACE = 10.0

# When to call the clock behind: our stamps are older than those sent before by so much.
CLOCK_BEHIND_LEAST = 1.0

# When counters are too old to say that a peer is connected.
COUNTERS_FRESH = 3.0

# When to leave a path: how long another one must have been cheaper.
DWELL_BAD = 1.0
DWELL_BETTER = 10.0
SLOWER_BY_MS = 100.0

# Over what time a path that became slow is no longer called slow.
USUAL_FOR = 600.0

# How many probes stand behind the plane's own figure of loss.
PROBES_COUNTED = 20

# When to believe again in a path that was left for its loss.
LEFT_HOLD = 60.0
LEFT_LONGEST = 600.0
LEFT_MEMORY = 300.0

# When to close a round of MTU probes: this long after the small probe behind the large ones was answered
# (or the round trip, if longer), or 3 round trips after it was sent, within these bounds. The first rounds of
# a verification, for which data may wait, are over sooner, and there are so many of them.
MTU_ROUND_GRACE = 0.1
MTU_URGENT_GRACE = 0.04
MTU_URGENT_ROUNDS = 6
MTU_ROUND = (0.25, 3.0)
MTU_FIRST_ROUND = 1.0

# When to try again on a path that does not answer even small probes.
MTU_SILENT = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

# When to look for a larger MTU without any reason; sooner at first where loss made the search unsure.
MTU_RAISE = (30.0, 60.0, 120.0, 300.0, 600.0)

# When to take the next suspicion seriously: evidence cannot be forged, though it may be weak; ICMP can be, so
# ever more slowly then.
MTU_EVIDENCE_INTERVAL = 1.0
MTU_WEAK_INTERVAL = 5.0
MTU_HINT_INTERVAL = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

# When loss may be a matter of size: so long from the beginning of a verification, which mostly ends sooner;
# and how long after a path was found to carry less what was on its way is still missing from the counts.
MTU_DOUBT = 1.5
MTU_AFTERMATH = 1.0

# When to try how long a NAT remembers: how late an echo may be; how long a mapping is in use before it is
# tried (Linux takes it for a stream after two seconds); after how many unanswered greetings to rest, and
# for how long; when to ask a peer again that cannot help; when to verify what was found.
TRIAL_PATIENCE = 3.0
TRIAL_WARM = 3.0
TRIAL_GREETINGS = 3
TRIAL_REST = 60.0
TRIAL_HELPLESS = 600.0
TRIAL_AGAIN = 6 * 3600.0

# When to ask a gateway again that does not answer about ports, and when to look whether there is one now.
PORTMAP_TRIES = (0.25, 0.5, 1.0)
PORTMAP_AGAIN = 600.0
# When to ask whether the gateway still remembers: it may have been restarted.
PORTMAP_CHECK = 60.0

# When a word about what we look like is too old to be held against another one (two servers' intervals and
# more), and when a server that has not answered will not.
SIGHTING_FRESH = 60.0
SIGHTING_PATIENCE = 5.0

# When to knock at a peer's NAT that was not opened from inside: no link to a relay of it came up within this
# time, or it gave no answer there for so long after that.
LINKED_WITHIN = 2.5
ANSWERED_WITHIN = 7.5

# When to try again for a direct path to a peer that is reached by relays; how long the call may take to
# arrive before we probe; and how soon a change of candidates may have us call again.
PUNCH_AGAIN = (0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
PUNCH_AFTER = 0.2
PUNCH_LEAST = 1.0
