package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/vfs/disktest"
	"github.com/go-partd/partd/remote"
)

// On a full disk, appends fail without effect, clients in either language get an error, and reads
// continue. Once there is space, appends work again with the same server and clients.
func TestFullDisk(t *testing.T) {
	for _, scheme := range []string{"file:", "log:"} {
		t.Run(scheme, func(t *testing.T) {
			disk := disktest.Mount(t, "tmpfs", 40<<20)
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
				t.Fatalf("after %d appends: %v, want ENOSPC", stored, err)
			}
			network, address := p.Address()
			peer, err := hostile.Open(ctx, network, address, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			for full := false; !full; { // the store may have freed some space
				if err := peer.Send("append", "k", value); err != nil {
					t.Fatal(err)
				}
				got, err := peer.Receive()
				if err == nil && len(got) == 1 && got[0] == "ack" && stored < 1000 {
					stored++
					continue
				}
				if full = true; err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "error: ") || !strings.Contains(got[0], "no space") {
					t.Fatalf("Python's protocol is answered with %.200q, %v", got, err)
				}
			}
			values, err := c.Get(ctx, "k")
			if err != nil || string(values[0]) != strings.Repeat(value, stored) {
				t.Fatalf("%d appends were acknowledged, but the value has %d bytes: %v", stored, len(values[0]), err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte(value)}); err != nil {
				t.Fatalf("once there is space: %v", err)
			}
			if values, err := c.Get(ctx, "k"); err != nil || string(values[0]) != strings.Repeat(value, stored+1) {
				t.Fatalf("once there is space, the value has %d bytes after %d appends: %v", len(values[0]), stored+1, err)
			}
			if err := c.Drop(ctx); err != nil {
				t.Fatal(err)
			}
			stop(t, p)
		})
	}
}
