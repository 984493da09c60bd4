package engines

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
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
	must.Do(t, clients[0].putRow("a.t", 0))
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
		must.Do(t, process.Signal(syscall.SIGSTOP))
		time.Sleep(rand.N(time.Second))
		must.Do(t, process.Signal(syscall.SIGCONT))
	}
	close(stop)
	work.Wait()
	for _, o := range clients {
		must.Get(o.c.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a"}}))(t)
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

// TestEnginesDuringMaintenance lets pyiceberg and Spark append rows, without trying again, to tables that the servers
// of a catalog are about to merge. No commit may fail, and no row may be lost or doubled. PARTD_COMMITS sets how many
// rows each engine appends.
func TestEnginesDuringMaintenance(t *testing.T) {
	t.Run("one server", func(t *testing.T) { enginesDuringMaintenance(t, 1) })
	t.Run("two servers", func(t *testing.T) { enginesDuringMaintenance(t, 2) })
}

func enginesDuringMaintenance(t *testing.T, count int) {
	flags := []string{"--maintain-every", "20ms", "--keep-versions", "3", "--no-tail"}
	if count > 1 {
		flags = append(flags, "--catalog", procs.StartPostgres(t).URL())
	}
	servers := []*server{serve(t, flags...)}
	for len(servers) < count {
		s := &server{t: t, dir: servers[0].dir, client: servers[0].client}
		s.start("127.0.0.1:0", append([]string{"--listen", "grpc://127.0.0.1:0"}, flags...)...)
		servers = append(servers, s)
	}
	var work sync.WaitGroup
	for i, kind := range []string{"pyiceberg", "spark"} {
		e, o := servers[i%count].engine(t, kind), servers[count-1].flightClient(t)
		work.Go(func() {
			for round := range intFromEnv("PARTD_COMMITS", 3) {
				const files = 8
				name := fmt.Sprint("a.", kind, round)
				for n := range int64(files) {
					if err := o.putRow(name, n); err != nil {
						t.Errorf("put: %v", err)
					}
				}
				time.Sleep(rand.N(100 * time.Millisecond))
				if _, err := e.tryRun("append", "table", name, "rows", []record{{"n": files}}); err != nil {
					t.Errorf("append with %s: %.700v", kind, err)
				}
				got := o.valueCounts(name)
				for n := range int64(files + 1) {
					if got[n] != 1 || len(got) != files+1 {
						t.Errorf("table %s: row %d occurs %d times, want once", name, n, got[n])
					}
				}
			}
		})
	}
	work.Wait()
	passes := 0
	for _, s := range servers {
		passes += strings.Count(s.log.String(), "table maintained")
	}
	if passes == 0 {
		t.Error("no server maintained a table")
	}
	t.Logf("the tables were maintained %d times", passes)
}
