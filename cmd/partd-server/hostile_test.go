package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// number returns the number in an environment variable, or the usual number.
func number(t testing.TB, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%q is not a number", variable, s)
	}
	return n
}

// memoryAboveIdle is how much memory hostile peers may make the server use beyond its
// idle usage: its --memory, which also bounds the collector. A larger --memory would
// count garbage that a busy machine collects late.
const memoryAboveIdle = 64 << 20

// TestHostileCases runs each named conversation with the server, including conversations
// that the server ends after a timeout.
func TestHostileCases(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir()+"?memory=16MiB", "--memory", "64MiB", "--max-message", "1MiB", "--max-connections", "200")
	network, address := p.Address()
	idle, _, err := serverproc.Memory(p.Pid())
	if err != nil {
		t.Log(err)
	}
	target := &hostile.Target{Network: network, Address: address, MaxMessage: 1 << 20, MaxConnections: 200, Patience: 30 * time.Second}
	soon := startChild(t, "impatient")
	impatient := &hostile.Target{MaxMessage: 1 << 20, Patience: 30 * time.Second}
	impatient.Network, impatient.Address = soon.Address()
	t.Run("cases", func(t *testing.T) {
		for _, c := range hostile.Cases() {
			t.Run(c.Name, func(t *testing.T) {
				testTarget := target
				if c.Slow() { // against a server with shorter timeouts
					t.Parallel()
					testTarget = impatient
				}
				if err := c.Run(t.Context(), testTarget); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
	if _, peak, err := serverproc.Memory(p.Pid()); err == nil && idle > 0 && peak > idle+memoryAboveIdle && !withRace {
		t.Errorf("the server used up to %d MiB, %d MiB when idle", peak>>20, idle>>20)
	}
	stop(t, p)
	stop(t, soon)
}

// TestHostileConversations runs many random conversations with the server while an
// honest peer is served.
func TestHostileConversations(t *testing.T) {
	n := number(t, "PARTD_CONVERSATIONS", 10_000)
	p := start(t, "--store", "log:"+t.TempDir()+"?memory=16MiB", "--memory", "64MiB", "--max-message", "1MiB")
	network, address := p.Address()
	idle, _, err := serverproc.Memory(p.Pid())
	if err != nil {
		t.Log(err)
	}
	seed := uint64(time.Now().UnixNano())
	target := &hostile.Target{Network: network, Address: address, MaxMessage: 1 << 20, Patience: 30 * time.Second}
	r, err := hostile.Run(t.Context(), target, int64(n), 16, seed, time.Second, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	_, peak, err := serverproc.Memory(p.Pid())
	t.Logf("seed %d: %d conversations in %v; %d honest requests, the slowest three %v (the machine: %v); memory %d MiB above %d MiB (%v)",
		seed, r.Conversations, r.Duration, r.HonestRequests, r.Slowest, r.LongestStall, (peak-idle)>>20, idle>>20, err)
	if err == nil && peak > idle+memoryAboveIdle && !withRace {
		t.Errorf("the server used up to %d MiB, %d MiB when idle", peak>>20, idle>>20)
	}
	if r.HonestRequests == 0 || r.MissingValues > r.HonestRequests/100 {
		t.Errorf("%d honest requests, %d values missing", r.HonestRequests, r.MissingValues)
	}
	stop(t, p)
}
