package engines

import (
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// TestPausedServers stops servers with a common catalog at random moments, for example between a commit's check and its
// write, while the other server commits, compacts, expires and folds. An acknowledged row must be there once, and
// another row at most once. PARTD_PAUSES is the number of pauses.
func TestPausedServers(t *testing.T) {
	flags := []string{"--catalog", procs.StartPostgres(t).URL()}
	servers := []*server{serve(t, flags...)}
	s := &server{t: t, dir: servers[0].dir, client: servers[0].client}
	s.start("127.0.0.1:0", append([]string{"--listen", "grpc://127.0.0.1:0"}, append(flags, "--tail", t.TempDir())...)...)
	servers = append(servers, s)
	clients := []*flightClient{servers[0].flightClient(t), servers[1].flightClient(t)}
	if err := clients[0].putRow("a.t", 0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[int64]bool{0: true}
	var failures []error
	for i, o := range clients {
		for w := range 2 {
			work.Go(func() {
				for n := int64(i*2 + w + 1); ; n += 4 {
					select {
					case <-stop:
						return
					default:
					}
					err := o.putRow("a.t", n)
					mu.Lock()
					if acknowledged[n] = err == nil; err != nil {
						failures = append(failures, err)
					}
					mu.Unlock()
				}
			})
		}
		work.Go(func() {
			for {
				options := &tables.MaintainOptions{Buckets: tables.Buckets{"a"}}
				care := []func() (tables.MaintainResult, error){
					func() (tables.MaintainResult, error) { return o.c.Fold(t.Context(), options) },
					func() (tables.MaintainResult, error) { return o.c.Compact(t.Context(), options) },
					func() (tables.MaintainResult, error) { return o.c.Expire(t.Context(), options) },
				}
				if _, err := care[rand.N(len(care))](); err != nil && !errors.Is(err, tables.ErrConflict) {
					t.Errorf("care for the table: %v", err)
				}
				select {
				case <-stop:
					return
				case <-time.After(rand.N(50 * time.Millisecond)):
				}
			}
		})
	}
	for range intFromEnv("PARTD_PAUSES", 4) {
		time.Sleep(rand.N(200 * time.Millisecond))
		process := servers[rand.N(2)].cmd.Process
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(time.Second))
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	work.Wait()
	for _, o := range clients {
		if _, err := o.c.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a"}}); err != nil {
			t.Fatal(err)
		}
	}
	got := clients[0].valueCounts("a.t")
	for n, ok := range acknowledged {
		if got[n] != 1 && (ok || got[n] > 1) {
			t.Errorf("row %d, acknowledged: %t, occurs %d times", n, ok, got[n])
		}
	}
	if len(failures) > 0 {
		t.Errorf("%d of %d puts failed, for example: %v", len(failures), len(acknowledged), failures[0])
	}
	t.Logf("%d rows", len(got))
}
