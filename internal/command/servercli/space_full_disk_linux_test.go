package servercli_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFullDisk fills the disk of a server. Clients in Go and Python must get errors for appends, which change
// nothing, and be able to read. Once there is space, the same clients must be able to append. When the disk is
// full again, the store must accept a drop: by a Go client that has made changes, by a new Go client, by a new Go
// client after a restart, or by a Python client. Then it must accept changes, and a signal must end the server
// cleanly. It runs half of the cases, so that each store and each client has two or, if PARTD_ALL_LAYERS is set, all.
func TestFullDisk(t *testing.T) {
	remainder := rand.IntN(2)
	for s, scheme := range []string{"log:", "file:", "buffer+file:", "zstd+log:"} {
		for i, client := range []string{"client with a session", "new client", "new client after a restart", "Python"} {
			if (s/2+i)%2 != remainder && os.Getenv("PARTD_ALL_LAYERS") == "" {
				continue
			}
			t.Run(scheme+"/"+client, func(t *testing.T) {
				t.Parallel()
				disk := vfstest.Mount(t, "tmpfs", 40<<20)
				ballast := disk + "/somebody's"
				must.Do(t, os.WriteFile(ballast, make([]byte, 8<<20), 0o600))
				args := []string{"--store", scheme + disk + "/data", "--memory", "32MiB"}
				p := start(t, args...)
				ctx := boundedContext(t, 0)
				c, peer := dialServer(t, p), openPeer(t, p)
				stored := map[string]string{}
				add := func(n int, write func(key, value string) error) error {
					for i := range n {
						key, value := fmt.Sprint("k", i%100), string(randomBytes(i, 50_000))
						if err := write(key, value); err != nil {
							return err
						}
						stored[key] += value
					}
					return nil
				}
				write := func(key, value string) error { return c.Append(ctx, partd.Entry{Key: key, Value: []byte(value)}) }
				python := func(key, value string) error { return peer.Ask([]string{"ack"}, "append", key, value) }
				check := func(label string) {
					t.Helper()
					for key, want := range stored {
						if v, err := c.Get(ctx, key); err != nil || string(v[0]) != want {
							t.Fatalf("%s: Get(%s) = %d bytes, %v, want the %d acknowledged bytes", label, key, len(v[0]), err, len(want))
						}
					}
				}
				err := add(10_000, write)
				if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) || strings.Contains(err.Error(), disk) {
					t.Fatalf("Append on a full disk: error %v, want ENOSPC with a known outcome, without the store's directory", err)
				}
				logged := func() bool {
					log := p.Stderr()
					return strings.Contains(log, "level=ERROR") && strings.Contains(log, "no space left") && strings.Contains(log, disk+"/")
				}
				for i := 0; i < 1000 && !logged(); i++ {
					time.Sleep(10 * time.Millisecond)
				}
				if !logged() {
					t.Errorf("the log does not name the full disk: %s", p.Stderr())
				}
				// Appends may succeed if the store has freed some space.
				if err := add(1000, python); err == nil || !strings.Contains(err.Error(), "error: ") || !strings.Contains(err.Error(), "no space") {
					t.Fatalf("append over the Python protocol: %v, want an error about missing space", err)
				}
				if got, err := peer.Receive(); err != nil || len(got) != 1 || got[0] != "ack" {
					t.Fatalf("after the error, got reply %.200q (error %v), want ack", got, err)
				}
				check("on the full disk")
				must.Do(t, os.Remove(ballast))
				must.Do(t, add(1, write))
				must.Do(t, add(1, python))
				check("with space again")
				vfstest.Fill(t, disk)
				switch client {
				case "new client":
					c = dialServer(t, p)
				case "new client after a restart":
					p.Kill()
					p = start(t, args...)
					c = dialServer(t, p)
				}
				if client == "Python" {
					if err := peer.Ask([]string{"ack"}, "drop"); err != nil {
						t.Fatalf("drop over the Python protocol: %v\nserver log:\n%s", err, p.Stderr())
					}
				} else if err := c.Drop(ctx); err != nil {
					t.Fatalf("Drop: %v\nserver log:\n%s", err, p.Stderr())
				}
				if err := write("k", "v"); err != nil {
					t.Errorf("Append after the drop: %v\nserver log:\n%s", err, p.Stderr())
				}
				stored = map[string]string{"k": "v", "k1": ""}
				check("after the drop")
				stop(t, p)
			})
		}
	}
}
