package main

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
	"github.com/go-partd/partd/internal/vfs/disktest"
)

// Another program fills the disk of a server while four clients write to it: first slowly, so that
// the reserve stops them, then quickly, so that no byte is free. The clients get errors that
// say so, and can still read. Once there is space, they write again with the same server.
// Acknowledged data is there exactly once, also after a restart. Namespaces share few open
// stores, so their stores are closed and opened while the disk is full.
func TestNeighbourFillsTheDisk(t *testing.T) {
	for _, name := range []string{"log:", "file:", "zstd+log:", "log: with namespaces"} {
		t.Run(name, func(t *testing.T) {
			scheme, _, inNamespaces := strings.Cut(name, " ")
			const writers, reserve = 4, 8 << 20
			disk := disktest.Mount(t, "tmpfs", 96<<20)
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
			var kept atomic.Int64 // refusals because of the reserve
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
								kept.Add(1)
							}
							time.Sleep(10 * time.Millisecond)
						default:
							t.Errorf("writer %d: %v", w, err)
							return
						}
					}
				})
			}
			all := func(label string, counts *[writers]atomic.Int64, more int64) {
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
						t.Fatalf("%s: not all writers: %s", label, p.Stderr())
					}
				}
			}
			reader := dialServer(t, p, namespace(0))
			for round, leave := range []int64{reserve / 2, 0} {
				all("with room", &written, 50)
				free := disktest.Free(t, disk)
				ballast := fmt.Sprint(disk, "/neighbour", round)
				if err := os.WriteFile(ballast, make([]byte, max(free-leave-1<<20, 0)), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				giveBack := func() {}
				if leave == 0 {
					giveBack = disktest.Fill(t, disk)
				}
				all("on a full disk", &refused, 5)
				if leave > 0 && kept.Load() == 0 {
					t.Error("the reserve refused nothing")
				}
				if v, err := reader.Get(ctx, "writer 0"); err != nil || len(v[0]) < 50*500 {
					t.Errorf("reading on a full disk: %d bytes, %v", len(v[0]), err)
				}
				giveBack()
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
			}
			all("with room again", &written, 50)
			cancel()
			wg.Wait()
			check := func(label string) {
				t.Helper()
				for w := range writers {
					v, err := dialServer(t, p, namespace(w)).Get(t.Context(), fmt.Sprint("writer ", w))
					if want := strings.Join(acked[w], ""); err != nil || string(v[0]) != want {
						t.Errorf("%s: writer %d: %d bytes are there, %d were acknowledged: %v", label, w, len(v[0]), len(want), err)
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
