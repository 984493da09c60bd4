package servercli_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// numberFromEnv returns the number in an environment variable or, if it is unset, defaultValue.
func numberFromEnv(t testing.TB, variable string, defaultValue int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return defaultValue
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%q is not a number", variable, s)
	}
	return n
}

// memoryAboveIdle is the maximum memory that the server may use for hostile peers, in addition to
// its idle usage. It equals --memory, which also limits the garbage collector. With a larger
// --memory, a busy machine might collect garbage too late.
const memoryAboveIdle = 64 << 20

// TestHostileCases runs each named conversation of package hostile with the server.
func TestHostileCases(t *testing.T) {
	p := start(t, "--store", "log:"+t.TempDir()+"?memory=16MiB", "--memory", "64MiB", "--max-message", "1MiB", "--max-connections", "200")
	network, address := p.Address()
	idle, _, err := serverproc.Memory(p.Pid())
	if err != nil {
		t.Log(err)
	}
	target := &hostile.Target{Network: network, Address: address, MaxMessage: 1 << 20, MaxConnections: 200, Patience: 30 * time.Second}
	impatientServer := startChild(t, "impatient")
	impatient := &hostile.Target{MaxMessage: 1 << 20, Patience: 30 * time.Second}
	impatient.Network, impatient.Address = impatientServer.Address()
	t.Run("cases", func(t *testing.T) {
		for _, c := range hostile.Cases() {
			t.Run(c.Name, func(t *testing.T) {
				testTarget := target
				if c.Slow() { // use a server with shorter timeouts
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
		t.Errorf("the server used up to %d MiB, and %d MiB when idle, want at most %d MiB more", peak>>20, idle>>20, memoryAboveIdle>>20)
	}
	stop(t, p)
	stop(t, impatientServer)
}

// TestHostileConversations runs random conversations, while an honest peer must be served.
func TestHostileConversations(t *testing.T) {
	n := numberFromEnv(t, "PARTD_CONVERSATIONS", 10_000)
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
		t.Fatalf("hostile.Run: %v; the server's log:\n%s", err, p.Stderr())
	}
	_, peak, err := serverproc.Memory(p.Pid())
	t.Logf("seed %d: %d conversations in %v; %d honest requests, the slowest three %v (longest stall of the machine: %v); memory %d MiB above %d MiB (%v)",
		seed, r.Conversations, r.Duration, r.HonestRequests, r.Slowest, r.LongestStall, (peak-idle)>>20, idle>>20, err)
	if err == nil && peak > idle+memoryAboveIdle && !withRace {
		t.Errorf("the server used up to %d MiB, and %d MiB when idle, want at most %d MiB more", peak>>20, idle>>20, memoryAboveIdle>>20)
	}
	if r.HonestRequests == 0 || r.MissingValues > r.HonestRequests/100 {
		t.Errorf("of %d honest requests, %d returned no value, want at most 1 %%", r.HonestRequests, r.MissingValues)
	}
	stop(t, p)
}
