package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
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
				must.Eventually(t, time.Minute, "the log does not name the full disk", func() bool {
					log := p.Stderr()
					return strings.Contains(log, "level=ERROR") && strings.Contains(log, "no space left") && strings.Contains(log, disk+"/")
				})
				// Appends may succeed if the store has freed some space.
				if err := add(1000, python); err == nil || !strings.Contains(err.Error(), "error 6: ") || !strings.Contains(err.Error(), "no space") {
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

// TestOtherProgramFillsDisk has another program fill the disk of a server while four clients write:
// first partly, so that the reserve of free space stops the clients, and then completely. The clients
// must get errors with the reason, and be able to read. Once there is space, they must be able to
// write again without a restart of the server. Acknowledged data must be stored exactly once, even
// after a crash. With namespaces, only one store is open at a time, so stores are closed and opened
// while the disk is full.
func TestOtherProgramFillsDisk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"log:", "file:", "zstd+log:", "log: with namespaces"} {
		t.Run(name, func(t *testing.T) {
			scheme, _, inNamespaces := strings.Cut(name, " ")
			const writers, reserve = 4, 8 << 20
			disk := vfstest.Mount(t, "tmpfs", 96<<20)
			args := []string{"--store", scheme + disk + "/data", "--memory", "32MiB", "--min-free", fmt.Sprint(reserve), "--namespaces", "1"}
			namespace := func(w int) string {
				if inNamespaces {
					return fmt.Sprint("/job", w)
				}
				return ""
			}
			p := start(t, args...)
			ctx, cancel := context.WithCancel(boundedContext(t, 0))
			defer cancel()
			var acked [writers][]string // acknowledged pieces
			var refused, written [writers]atomic.Int64
			var reserveRefusals atomic.Int64 // number of refusals because of the reserve
			var wg sync.WaitGroup
			for w := range writers {
				c := dialServer(t, p, namespace(w))
				wg.Go(func() {
					key := fmt.Sprint("writer ", w)
					for i := 0; ctx.Err() == nil; i++ {
						piece := fmt.Sprintf("<%d:%d:%s>", w, i, randomBytes(i, 500))
						err := c.Append(context.WithoutCancel(ctx), partd.Entry{Key: key, Value: []byte(piece)})
						switch {
						case err == nil:
							acked[w] = append(acked[w], piece)
							written[w].Add(1)
							time.Sleep(time.Millisecond)
						case errors.Is(err, syscall.ENOSPC) && !errors.Is(err, partd.ErrUnknownOutcome):
							refused[w].Add(1)
							if strings.Contains(err.Error(), "8.0 MiB must stay free") {
								reserveRefusals.Add(1)
							}
							time.Sleep(10 * time.Millisecond)
						default:
							t.Errorf("writer %d: error %v, want only ENOSPC with a known outcome", w, err)
							return
						}
					}
				})
			}
			waitForAll := func(label string, counts *[writers]atomic.Int64, more int64) {
				t.Helper()
				var begin [writers]int64
				for w := range begin {
					begin[w] = counts[w].Load()
				}
				must.Eventually(t, time.Minute, label+": some writers have not reached the expected count", func() bool {
					done := true
					for w := range begin {
						done = done && counts[w].Load() >= begin[w]+more
					}
					return done
				})
			}
			reader := dialServer(t, p, namespace(0))
			for round, leaveFree := range []int64{reserve / 2, 0} {
				waitForAll("writing with free space", &written, 50)
				free := vfstest.Free(t, disk)
				ballast := fmt.Sprint(disk, "/other-program", round)
				if err := os.WriteFile(ballast, make([]byte, max(free-leaveFree-1<<20, 0)), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				freeSpace := func() {}
				if leaveFree == 0 {
					freeSpace = vfstest.Fill(t, disk)
				}
				waitForAll("refusals on a full disk", &refused, 5)
				if leaveFree > 0 && reserveRefusals.Load() == 0 {
					t.Error("no append was refused because of the reserve")
				}
				if v, err := reader.Get(ctx, "writer 0"); err != nil || len(v[0]) < 50*500 {
					t.Errorf("Get on a full disk = %d bytes, %v, want at least %d", len(v[0]), err, 50*500)
				}
				freeSpace()
				must.Do(t, os.Remove(ballast))
			}
			waitForAll("writing after space was freed", &written, 50)
			cancel()
			wg.Wait()
			check := func(label string) {
				t.Helper()
				for w := range writers {
					v, err := dialServer(t, p, namespace(w)).Get(t.Context(), fmt.Sprint("writer ", w))
					if want := strings.Join(acked[w], ""); err != nil || string(v[0]) != want {
						t.Errorf("%s: writer %d: the store has wrong data: %d bytes, want the %d acknowledged bytes; error %v", label, w, len(v[0]), len(want), err)
					}
				}
			}
			check("at the end")
			p.Kill()
			p = start(t, args...)
			check("after a crash")
			stop(t, p)
		})
	}
}
