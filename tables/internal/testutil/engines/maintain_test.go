package engines

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

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
