package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// number returns the number that an environment variable has, or another.
func number(t testing.TB, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%q is no number", variable, s)
	}
	return n
}

// memoryAboveIdle is what hostile peers may make the server take beyond what it
// takes when it is idle: its --memory, by which the collector goes, too. With more, garbage
// would count that it leaves where the machine has other work.
const memoryAboveIdle = 64 << 20

// TestHostileCases holds each named conversation with the
// server, those that it gives up after a while included.
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
				of := target
				if c.Slow() { // of a server that gives peers up sooner
					t.Parallel()
					of = impatient
				}
				if err := c.Run(t.Context(), of); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
	if _, most, err := serverproc.Memory(p.Pid()); err == nil && idle > 0 && most > idle+memoryAboveIdle && !withRace {
		t.Errorf("the server took up to %d MiB, %d MiB when it was idle", most>>20, idle>>20)
	}
	stop(t, p)
	stop(t, soon)
}

// TestHostileConversations holds many made-up conversations with the server,
// while an honest peer wants to be served.
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
	_, most, err := serverproc.Memory(p.Pid())
	t.Logf("seed %d: %d conversations in %v; %d honest requests, the slowest three %v (the machine: %v); memory %d MiB above %d MiB (%v)",
		seed, r.Conversations, r.Took, r.Honest, r.Slowest, r.Held, (most-idle)>>20, idle>>20, err)
	if err == nil && most > idle+memoryAboveIdle && !withRace {
		t.Errorf("the server took up to %d MiB, %d MiB when it was idle", most>>20, idle>>20)
	}
	if r.Honest == 0 || r.Missing > r.Honest/100 {
		t.Errorf("%d honest requests, %d values missing", r.Honest, r.Missing)
	}
	stop(t, p)
}
