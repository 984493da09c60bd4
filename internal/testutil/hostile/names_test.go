package hostile

import (
	"slices"
	"testing"
)

// TestCasesCoverKnownAttacks checks that every known attack is among the named conversations.
func TestCasesCoverKnownAttacks(t *testing.T) {
	for _, name := range []string{
		"lying frame length", "frame of 2^64-1 bytes", "truncated frame", "endless MORE", "endless empty frames", "reserved flags",
		"command with MORE", "oversized command", "message before READY", "bad signature", "ZMTP 2", "unknown mechanism",
		"READY with a lying value", "unknown socket type", "two peers with one identity", "PING", "odd append frames",
		"iset with one frame", "unknown command", "empty command", "get of no keys", "slow greeting", "message that stops half-way",
		"peer that never reads", "too many connections", "close without the right", "random bytes",
	} {
		if !slices.ContainsFunc(Cases(), func(c Case) bool { return c.Name == name }) {
			t.Errorf("there is no conversation %q", name)
		}
	}
}
