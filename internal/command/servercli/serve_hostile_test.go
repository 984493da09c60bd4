package servercli_test

import (
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// memoryAboveIdle is the maximum memory that the server may use for hostile peers, in addition to
// its idle usage. It equals --memory, which also limits the garbage collector. With a larger
// --memory, a busy machine might collect garbage too late.
const memoryAboveIdle = 64 << 20

// TestHostileConversations runs random conversations, while an honest peer must be served.
func TestHostileConversations(t *testing.T) {
	n := procs.Number(t, "PARTD_CONVERSATIONS", 4000)
	p := start(t, "--store", "log:"+t.TempDir()+"?memory=16MiB", "--memory", "64MiB", "--max-message", "1MiB")
	network, address := p.Address()
	idle, _, err := procs.Memory(p.Pid())
	if err != nil {
		t.Log(err)
	}
	seed := uint64(time.Now().UnixNano())
	target := &hostile.Target{Network: network, Address: address, Patience: 30 * time.Second}
	r, err := hostile.Run(t.Context(), target, int64(n), 16, seed, time.Second, nil)
	if err != nil {
		t.Fatalf("hostile.Run: %v; the server's log:\n%s", err, p.Stderr())
	}
	_, peak, err := procs.Memory(p.Pid())
	t.Logf("seed %d: %d conversations in %v; %d honest requests, the slowest three %v (longest stall of the machine: %v); memory %d MiB above %d MiB (%v)",
		seed, r.Conversations, r.Duration, r.HonestRequests, r.Slowest, r.LongestStall, (peak-idle)>>20, idle>>20, err)
	if err == nil && peak > idle+memoryAboveIdle && !procs.RaceEnabled {
		t.Errorf("the server used up to %d MiB, and %d MiB when idle, want at most %d MiB more", peak>>20, idle>>20, memoryAboveIdle>>20)
	}
	if r.HonestRequests == 0 || r.MissingValues > r.HonestRequests/100 {
		t.Errorf("of %d honest requests, %d returned no value, want at most 1 %%", r.HonestRequests, r.MissingValues)
	}
	stop(t, p)
}
