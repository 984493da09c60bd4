package servercli_test

import (
	"context"
	"errors"
	"fmt"
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
				for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					done := true
					for w := range begin {
						done = done && counts[w].Load() >= begin[w]+more
					}
					if done {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("%s: some writers did not reach the expected count within 30 seconds: %s", label, p.Stderr())
					}
				}
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
