package ratelimit

import (
	"fmt"
	"testing"
	"time"
)

// TestLogins checks that a peer with many failed attempts must wait, but may soon try again, and that other peers
// are not affected.
func TestLogins(t *testing.T) {
	t.Parallel()
	var logins Logins
	for range Burst {
		if !logins.MayTry("evil", "") {
			t.Fatal("MayTry slows a peer down before it has used its burst")
		}
		logins.RecordFailure("evil")
	}
	if logins.MayTry("evil", "") || !logins.MayTry("honest", "") {
		t.Fatal("MayTry does not slow the peer down, or slows down another peer")
	}
	time.Sleep(time.Second / Rate * 2)
	if !logins.MayTry("evil", "") {
		t.Fatal("MayTry still slows the peer down after a pause")
	}
	for i := range 2 * maxPeers {
		logins.RecordFailure(fmt.Sprint(i))
	}
	if len(logins.peers) > maxPeers {
		t.Fatalf("Logins remembers %d peers, want at most %d", len(logins.peers), maxPeers)
	}
}
