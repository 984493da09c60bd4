package ratelimit

import (
	"fmt"
	"testing"
	"time"
)

// A peer that is wrong often is slowed down, and is looked at again soon. Others
// notice nothing.
func TestLogins(t *testing.T) {
	t.Parallel()
	var g Logins
	for range Burst {
		if !g.MayTry("evil", "") {
			t.Fatal("slowed down too early")
		}
		g.Wrong("evil")
	}
	if g.MayTry("evil", "") || !g.MayTry("honest", "") {
		t.Fatal("it is not slowed down, or others are")
	}
	time.Sleep(time.Second / Rate * 2)
	if !g.MayTry("evil", "") {
		t.Fatal("it is locked out")
	}
	for i := range 2 * maxPeers {
		g.Wrong(fmt.Sprint(i))
	}
	if len(g.peers) > maxPeers {
		t.Fatalf("%d peers are remembered", len(g.peers))
	}
}
