package servercli_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/remote"
)

// TestFullDisk checks that on a full disk, clients in Go and Python get errors for appends, that the failed
// appends change nothing, and that reads work. Once there is space, appends must work with the same
// server and clients.
func TestFullDisk(t *testing.T) {
	for _, scheme := range []string{"file:", "log:"} {
		t.Run(scheme, func(t *testing.T) {
			disk := vfstest.Mount(t, "tmpfs", 40<<20)
			ballast := disk + "/somebody's"
			if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, "--store", scheme+disk+"/data", "--memory", "32MiB")
			ctx := boundedContext(t, 0)
			c, err := remote.Dial(ctx, p.URL(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			value := strings.Repeat("v", 100_000)
			stored := 0
			for ; err == nil && stored < 1000; stored++ {
				if err = c.Append(ctx, partd.Entry{Key: "k", Value: []byte(value)}); err != nil {
					break
				}
			}
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) {
				t.Fatalf("append %d: error %v, want ENOSPC with a known outcome", stored+1, err)
			}
			network, address := p.Address()
			peer, err := hostile.Open(ctx, network, address, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			for full := false; !full; { // appends may succeed if the store has freed some space
				if err := peer.Send("append", "k", value); err != nil {
					t.Fatal(err)
				}
				got, err := peer.Receive()
				if err == nil && len(got) == 1 && got[0] == "ack" && stored < 1000 {
					stored++
					continue
				}
				if full = true; err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "error: ") || !strings.Contains(got[0], "no space") {
					t.Fatalf("append over the Python protocol: got reply %.200q (error %v), want an error about missing space", got, err)
				}
			}
			values, err := c.Get(ctx, "k")
			if err != nil || string(values[0]) != strings.Repeat(value, stored) {
				t.Fatalf("%d appends were acknowledged, but Get returns %d bytes: %v", stored, len(values[0]), err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte(value)}); err != nil {
				t.Fatalf("Append after space was freed: %v", err)
			}
			if values, err := c.Get(ctx, "k"); err != nil || string(values[0]) != strings.Repeat(value, stored+1) {
				t.Fatalf("after space was freed, Get returns %d bytes after %d acknowledged appends: %v", len(values[0]), stored+1, err)
			}
			if err := c.Drop(ctx); err != nil {
				t.Fatal(err)
			}
			stop(t, p)
		})
	}
}
