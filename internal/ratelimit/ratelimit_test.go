package ratelimit

import (
	"fmt"
	"testing"
	"time"
)

// A peer that often fails is slowed down, and may try again soon. Other peers are not affected.
func TestLogins(t *testing.T) {
	t.Parallel()
	var logins Logins
	for range Burst {
		if !logins.MayTry("evil", "") {
			t.Fatal("a peer is slowed down too early")
		}
		logins.RecordFailure("evil")
	}
	if logins.MayTry("evil", "") || !logins.MayTry("honest", "") {
		t.Fatal("the peer is not slowed down, or another one is")
	}
	time.Sleep(time.Second / Rate * 2)
	if !logins.MayTry("evil", "") {
		t.Fatal("the peer is locked out")
	}
	for i := range 2 * maxPeers {
		logins.RecordFailure(fmt.Sprint(i))
	}
	if len(logins.peers) > maxPeers {
		t.Fatalf("%d peers are remembered", len(logins.peers))
	}
}
